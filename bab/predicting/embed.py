"""An encoder's states of recordings of any length: one recording after the other, into files.

A long recording is encoded in windows whose frames tile, as in `bab run` with a frozen encoder:
a window knows nothing of what lies outside of it. A stopped command goes on where it was: what is
done is found by encoder, options and audio.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bab import __version__
from bab.audio.decoding import of_a_file
from bab.config.corpora import open_corpus
from bab.config.resolve import corpus_config, encoder_config
from bab.core import names
from bab.core.atomic import write_json, write_text
from bab.core.device import refuse_precision, resolve_device
from bab.core.errors import AudioError, BabError, ConfigError, InterruptedRunError
from bab.core.interfaces import Encoder
from bab.core.record import now, versions
from bab.core.types import Permissions, Tell
from bab.core.weights import read_json
from bab.data.content import content_id
from bab.machine.memory import keep_memory
from bab.predicting.hearing import Hearing, Table, mean_of
from bab.predicting.kept import STATE, Kept, Results
from bab.predicting.recordings import Named, Recording, recordings, seconds_of
from bab.predicting.spool import Spool, spooling
from bab.predicting.vectors import KINDS, Few, paths_of, write
from bab.predicting.walking import listen
from bab.results.cells import CsvWriter
from bab.running.assembly import open_encoder
from bab.running.ensemble import Ensemble
from bab.starting.folders import locked
from bab.starting.lifecycle import stopper

FILE, INDEX, TABLE = "embedding.json", "index.csv", "embeddings"
_COLUMNS = ("name", "file", "row", "rows", "start", "seconds", "label", "path")


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How to embed. layer: "last", "mean" (of all), or a number, 0 = the input embedding. per:
    frame, window or clip. format: npy, parquet or safetensors. window: seconds; None = 30, or what
    the encoder takes in. segments: of a corpus, its annotated segments in place of its clips."""

    layer: str = "last"
    per: str = "frame"
    format: str = "npy"
    window: float | None = None
    segments: bool = False
    device: str = "auto"
    precision: str = "fp32"
    sets: Sequence[str] = ()
    offline: bool = False
    trust_code: bool = False


@dataclass(slots=True)
class Embedded:
    """What came of it. files: name -> seconds; left: path -> why it was left out."""

    out: Path
    files: dict[str, float] = field(default_factory=dict)
    again: int = 0  # of them, found done
    left: dict[str, str] = field(default_factory=dict)
    dim: int = 0


def embed(
    encoder: str,
    inputs: Sequence[str | Path],
    out: str | Path,
    asked: EmbedOptions = EmbedOptions(),
    tell: Tell = lambda stage, done, total, unit: None,
    say: Callable[[str], None] = lambda line: None,
) -> Embedded:
    """Write an encoder's states of recordings of any length.

    Args:
        encoder: as for `bab run --encoder`: NAME, NAME:WEIGHTS, or several joined by `+`.
        inputs: audio files, folders, lists (`@files.txt`) or corpora (`rttm:ROOT`).
        out: the folder that gets the files.
        asked: how.
        tell: is told how much audio is done; say: gets a line for each recording.

    Raises:
        BabError: an unknown encoder, layer or option, or nothing to embed.
        InterruptedRunError: Ctrl-C or SIGTERM; what was done is kept.
    """
    _check(asked)
    device = resolve_device(asked.device)
    refuse_precision(device, asked.precision)
    members = _members(encoder, asked)
    whole = members[0] if len(members) == 1 else Ensemble(members, "concat")
    ears = [
        Hearing(one, asked.layer, asked.per, asked.window, torch.device(device), asked.precision)
        for one in members
    ]
    if device == "cpu":
        keep_memory()  # not before: see `predicting.maker`
    out = Path(out)
    listed, labels, left = _listed(inputs, asked, _results(asked, out).names())
    out.mkdir(parents=True, exist_ok=True)
    places = {out, *((out / one.name).parent for one in listed)}
    with stopper() as stop, locked(out / STATE, True, places):
        work = _Work(whole, ears, asked, out, listed, labels, tell, say, stop)
        return work.run(left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Kept):
    """An embedded recording. vector: of `--per clip`."""

    rows: int
    label: str = ""
    vector: Sequence[float] = ()


class _Work:
    """One call of `embed`."""

    def __init__(
        self,
        encoder: Encoder,
        ears: Sequence[Hearing],
        asked: EmbedOptions,
        out: Path,
        listed: Sequence[Recording],
        labels: Mapping[str, str],
        tell: Tell,
        say: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> None:
        self.encoder, self.ears, self.asked, self.out = encoder, ears, asked, out
        self.listed, self.labels = listed, labels
        self.tell, self.say, self.stop = tell, say, stop
        self.identity = self._identity()
        self.made_by = _digest(self.identity)
        self.result = Embedded(out, dim=sum(ear.encoder.dim for ear in ears))
        self.results = _results(asked, out)
        self.digests: dict[str, str] = {}
        self.lengths: dict[str, float] = {}
        self.done = 0.0  # seconds

    def run(self, left: Mapping[str, str]) -> Embedded:
        """All recordings; what can't be read is left out, and told."""
        self.result.left.update(left)
        for number, recording in enumerate(self.listed, start=1):
            self.lengths[recording.name] = seconds_of(recording)
            self.tell("looking", number, len(self.listed), "files")
        self._refuse_foreign()
        self._tell_other()
        try:
            for number, recording in enumerate(self.listed, start=1):
                self._one(f"[{number}/{len(self.listed)}] {recording.name}", recording)
        finally:
            self._write_tables()
        return self.result

    def _one(self, place: str, recording: Recording) -> None:
        try:
            key = self._key(recording)
            done = self.results.find(recording.name, key)
            if done is not None and all((self.out / name).exists() for name in done.files):
                self.result.again += 1
                self.say(f"{place}: done before")
            else:
                done = self._embedded(recording, key)
                self.say(f"{place}: {done.rows} x {self.result.dim}, {done.seconds:.1f} s")
            self.result.files[recording.name] = done.seconds
        except AudioError as error:
            why = of_a_file(error)
            self.result.left[recording.path or recording.name] = why
            self.say(f"{place}: left out: {why}")
        self.done += self.lengths[recording.name]
        self._tell(0.0)

    def _embedded(self, recording: Recording, key: str) -> Done:
        """Hear a recording, from where an earlier call was stopped; write its file; note last that
        it is done."""
        begun = _digest([key, __version__])
        spools = [Spool(self.results.spool(begun) / str(n)) for n in range(len(self.ears))]
        with spooling(spools):
            seconds = listen([ear.walk for ear in self.ears], recording, spools, self._progress)
        if not all(spool.done for spool in spools):
            raise AudioError(f"{recording.path or recording.name}: it holds no sound")
        vector, files, rows = [], {}, 1
        if self.asked.per == "clip":
            vector = [float(x) for spool in spools for x in mean_of(spool)]
        else:
            self.results.begin(begun, recording, self._content(recording))
            table, base = Table(self.ears[0], spools[0], seconds), self.out / recording.name
            write(table, base, self.asked.format)
            files = self.results.files(paths_of(base, self.asked.format))
            rows = table.count
        done = Done(
            key=key,
            made_by=self.made_by,
            name=recording.name,
            path=recording.path,
            digest=self._content(recording),
            seconds=seconds,
            start=recording.start,
            end=recording.end,
            files=files,
            rows=rows,
            label=self.labels.get(recording.name, ""),
            vector=vector,
        )
        self.results.keep(done)
        self.results.end(begun)
        return done

    def _progress(self, seconds: float) -> None:
        self._tell(seconds)
        if self.stop():
            raise InterruptedRunError(
                f"stopped; what is done is in {self.out}, and the same command goes on"
            )

    def _tell(self, seconds: float) -> None:
        self.tell("embedding", self.done + seconds, sum(self.lengths.values()), "s")

    def _refuse_foreign(self) -> None:
        """Raises BabError: a file that would be replaced and wasn't written here."""
        ours = {its.name for its in self.results.names()}
        bases = [r.name for r in self.listed if r.name not in ours]
        bases = [] if self.asked.per == "clip" else bases
        for base in bases:
            for path in paths_of(self.out / base, self.asked.format):
                if path.exists():
                    raise BabError(
                        f"{path} is there already and wasn't written by `bab embed`: name another "
                        "folder with --out"
                    )

    def _tell_other(self) -> None:
        """The index has one kind of rows: say so where another call's is replaced."""
        with suppress(BabError):  # there is none, or it is damaged
            before = read_json(self.out / FILE)
            was = before.get("per"), before.get("format")
            if was != (self.asked.per, self.asked.format):
                told = "note: {} was of --per {} --format {}: it is replaced, their files stay"
                self.say(told.format(self.out / INDEX, *was))

    def _write_tables(self) -> None:
        """`index.csv`, of clips the table of all, and `embedding.json`: of this call's options."""
        places = {r.name: i for i, r in enumerate(self.listed)}
        mine = [d for name in self.result.files if (d := self.results.find(name)) is not None]
        mine.sort(key=lambda done: places[done.name])
        if self.asked.per == "clip" and mine:
            vectors = np.array([done.vector for done in mine], "f4")
            times = np.array([[0.0, done.seconds] for done in mine])
            write(Few(vectors, times), self.out / TABLE, self.asked.format)
        write_text(self.out / INDEX, self._index(mine))
        kept = ("name", "path", "digest", "start", "seconds", "rows")
        left = [{"path": path, "why": why} for path, why in self.result.left.items()]
        waiting = [n for n in places if n not in self.result.files]
        bad = {r.name for r in self.listed if (r.path or r.name) in self.result.left}
        write_json(
            self.out / FILE,
            {
                **self.identity,
                "encoder": self.encoder.resolved,
                "date": now(),
                "versions": versions(),
                "files": [{key: getattr(done, key) for key in kept} for done in mine],
                "left_out": left,
                "waiting": [name for name in waiting if name not in bad],
            },
        )

    def _index(self, mine: Sequence[Done]) -> str:
        text = io.StringIO()
        table = CsvWriter(text)
        table.writerow(_COLUMNS)
        for number, done in enumerate(mine):
            base, row = (TABLE, number) if self.asked.per == "clip" else (done.name, 0)
            file = paths_of(Path(base), self.asked.format)[0].as_posix()
            times = (round(done.start or 0.0, 6), round(done.seconds, 6))
            table.writerow((done.name, file, row, done.rows, *times, done.label, done.path))
        return text.getvalue()

    def _identity(self) -> dict[str, Any]:
        """All that the numbers depend on, but for the recording."""
        return {
            "format_version": 1,
            "fingerprint": self.encoder.fingerprint,
            "layer": self.asked.layer,
            "per": self.asked.per,
            "format": self.asked.format,
            "dim": sum(ear.encoder.dim for ear in self.ears),
            "windows": [ear.described() for ear in self.ears],
            "device": self.ears[0].device.type,
            "precision": self.asked.precision,
            "torch": versions()["torch"],
        }

    def _content(self, recording: Recording) -> str:
        if recording.path not in self.digests:
            self.digests[recording.path] = content_id(recording.path)
        return self.digests[recording.path]

    def _key(self, recording: Recording) -> str:
        """A result is found by encoder, options and audio."""
        place = [recording.start, recording.end]
        return _digest([self.made_by, self._content(recording), *place])


def _results(asked: EmbedOptions, out: Path) -> Results[Done]:
    """What is done in `out`. Files of frames, of windows and of each format don't replace each
    other, so neither do their results."""
    return Results(out, Done, f"embed/{asked.per}-{asked.format}")


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()


def _members(encoder: str, asked: EmbedOptions) -> list[Encoder]:
    """The encoder that was named, or several.

    Raises:
        BabError: weights that can't be had; of several, frames, windows or options.
    """
    specs = [member.spec for member in names.members(encoder)]
    if len(specs) > 1 and asked.per != "clip":
        raise ConfigError(
            f"--per {asked.per}: the encoders of '{encoder}' have frames and windows of their own; "
            "together they give one vector per clip (--per clip)"
        )
    if len(specs) > 1 and asked.sets:
        raise ConfigError(f"--set {asked.sets[0]}: of several encoders options can't be set here")
    configs = [encoder_config(spec, asked.sets) for spec in specs]
    return [open_encoder(one, asked.offline, asked.trust_code)[0] for one in configs]


def _check(asked: EmbedOptions) -> None:
    """Raises ConfigError: an unknown option."""
    if asked.per not in ("frame", "window", "clip"):
        raise ConfigError(f"--per {asked.per}: frame, window or clip")
    if asked.format not in KINDS:
        raise ConfigError(f"--format {asked.format}: one of {', '.join(KINDS)}")
    if asked.window is not None and not asked.window > 0:
        raise ConfigError(f"--window {asked.window:g}: seconds, above 0")
    if asked.format == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise BabError("--format parquet needs pyarrow: pip install 'bab[prepare]'") from None


def _listed(
    inputs: Sequence[str | Path], asked: EmbedOptions, known: Sequence[Named]
) -> tuple[list[Recording], dict[str, str], dict[str, str]]:
    """The recordings, labels of those that are segments, and what was left out -> why."""
    if not asked.segments:
        listed, left = recordings(inputs, asked.offline, known=known)
        return listed, {}, left
    labels: dict[str, str] = {}
    segments: list[Recording] = []
    for spec in inputs:
        for recording, label in _segments(str(spec), asked):
            segments.append(recording)
            labels[recording.name] = label
    if not segments:
        raise BabError(f"--segments: nothing is annotated in {', '.join(map(str, inputs))}")
    return segments, labels, {}


def _segments(spec: str, asked: EmbedOptions) -> Iterator[tuple[Recording, str]]:
    """The annotated segments of a corpus, called CLIP/00000 and so on.

    Raises:
        BabError: a path, or a corpus without segments.
    """
    corpus = open_corpus(corpus_config(spec), Permissions(offline=asked.offline, leakage=True))
    if "segments" not in corpus.provides:
        raise BabError(f"--segments: corpus '{corpus.name}' has none: leave it out for its clips")
    for clip in corpus.clips():
        for number, one in enumerate(clip.segments):
            yield Recording(f"{clip.id}/{number:05d}", clip.path, one.start, one.end), one.label
