"""A saved model on recordings: one after the other, each written as soon as it is done.

A prediction that is stopped, at whatever moment, goes on where it was: what is done is found by
model, options and audio; of the recording at work, all but the last seconds of work is on disk.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bab.audio.decoding import REPLACE
from bab.core.annotations import Format
from bab.core.atomic import write_json
from bab.core.device import keep_memory, refuse_precision, resolve_device
from bab.core.errors import AudioError, BabError, InterruptedRunError
from bab.core.folders import locked
from bab.core.lifecycle import stopper
from bab.core.record import now, versions
from bab.core.types import Prediction, Tell
from bab.data.annotations import open_format
from bab.results.segments import write_segments
from bab.running import outputs, overview
from bab.running.engine import Engine
from bab.running.outputs import Done, Results
from bab.running.recordings import Recording, recordings, seconds_of
from bab.running.saved import Saved, choose_preset, load_saved, with_thresholds
from bab.running.spool import Spool

FILE = "prediction.json"
_OFTEN = 20.0  # seconds between two writings of the tables of all recordings
_FORMAT = 1  # of what is on disk


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """How to predict. preset: None = the task's first. thresholds: by class, in place of the tuned
    ones. formats: of annotation files; None = rttm for segments, none for texts. probabilities:
    "", "npy" or "parquet". precision: fp32, bf16 or fp16. overlap: share of a window that the next
    one hears again. timeline: pictures, of png and svg. enrol: a folder of known speakers' voices,
    for pair tasks."""

    preset: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    formats: Sequence[str] | None = None
    probabilities: str = ""
    device: str = "auto"
    precision: str = "fp32"
    overlap: float | None = None
    timeline: Sequence[str] = ()
    enrol: Path | None = None
    offline: bool = False
    trust_code: bool = False


@dataclass(slots=True)
class Predicted:
    """What came of it. files: name -> seconds of audio; left: path -> why it was left out."""

    out: Path
    files: dict[str, float] = field(default_factory=dict)
    again: int = 0  # of them, found done
    left: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    made_by: str = ""  # model and options, as a short name

    def predictions(self) -> Iterator[Prediction]:
        """What was found in `files`, read again one by one."""
        for done in Results(self.out).all(self.made_by):
            if done.name in self.files:
                yield done.prediction


def predict(
    folder: str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    asked: PredictOptions = PredictOptions(),
    tell: Tell = lambda stage, done, total, unit: None,
    say: Callable[[str], None] = lambda line: None,
) -> Predicted:
    """Run the model of a finished run over recordings of any length.

    Args:
        folder: a run's folder, the `model` folder in it, or a published model (`segma:DIR`).
        inputs: audio files, folders, lists (`@files.txt`) or corpora (`rttm:ROOT`).
        out: the folder that gets the predictions.
        asked: how.
        tell: is told how much audio is done; say: gets a line for each recording.

    Raises:
        BabError: no model there, nothing to predict, an unknown preset, class or format.
        InterruptedRunError: Ctrl-C or SIGTERM; what was done is kept.
    """
    saved, out = load_saved(folder, asked.offline, asked.trust_code), Path(out)
    device = resolve_device(asked.device)
    refuse_precision(device, asked.precision)
    if device == "cpu":
        keep_memory()
    overview.refuse_pictures(saved, asked.timeline)
    engine = Engine(saved, torch.device(device), asked.precision, asked.overlap)
    listed, left = recordings(inputs, asked.offline)
    if asked.enrol is not None:
        listed = [*_enrolled(saved, asked, left), *listed]
    out.mkdir(parents=True, exist_ok=True)
    with stopper() as stop, locked(out / outputs.STATE, True):
        work = _Work(engine, asked, out, listed, tell, say, stop)
        return work.run(left)


class _Work:
    """One call of `predict`."""

    def __init__(
        self,
        engine: Engine,
        asked: PredictOptions,
        out: Path,
        listed: Sequence[Recording],
        tell: Tell,
        say: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> None:
        self.engine, self.saved, self.asked = engine, engine.saved, asked
        self.out, self.listed = out, listed
        self.tell, self.say, self.stop = tell, say, stop
        self.preset = choose_preset(self.saved, asked.preset)
        self.tuned = with_thresholds(self.saved, self.preset, asked.thresholds)
        self.formats = _formats(self.saved, asked.formats)
        self.results = Results(out)
        self.identity = self._identity()
        self.made_by = self._made_by()
        self.voices = overview.voices_of(self.saved)
        self.result = Predicted(out, made_by=self.made_by)
        self.lengths: dict[str, float] = {}
        self.done = 0.0  # seconds
        self._written, self._pause = time.monotonic(), _OFTEN

    def run(self, left: Mapping[str, str]) -> Predicted:
        """All recordings; what can't be read is left out, and told."""
        self.result.left.update(left)
        for number, recording in enumerate(self.listed, start=1):
            self.lengths[recording.name] = seconds_of(recording)
            self.tell("looking", number, len(self.listed), "files")
        outputs.refuse_foreign(self.results, self.lengths, self.formats, self.out)
        try:
            for number, recording in enumerate(self.listed, start=1):
                self._one(number, recording)
        finally:
            self._write_tables()
        return self.result

    def _one(self, number: int, recording: Recording) -> None:
        began = time.monotonic()
        place = f"[{number}/{len(self.listed)}] {recording.name}"
        try:
            digest = recording.digest()
            key = self._key(recording, digest)
            done = self._found(recording.name, key)
            if done is None:
                done = self._predicted(recording, key, digest)
                word = f"{len(done.prediction.segments)} segments" if self.formats else "done"
                speed = done.seconds / max(1e-9, time.monotonic() - began)
                self.say(f"{place}: {word}, {done.seconds / 60:.2f} min, {speed:.1f} x real time")
            else:
                self.result.again += 1
                self.say(f"{place}: done before")
                if (complete := self._annotate(done)) != done:
                    self.results.keep(complete)
            for line in done.notices:
                self._notice(line)
            if not done.name.startswith(overview.ENROLLED):
                self.result.files[done.name] = done.seconds
        except AudioError as error:
            why = str(error).replace(f"; {REPLACE}", "; get it again")
            self.result.left[recording.path or recording.name] = why
            self.say(f"{place}: left out: {why}")
        self.done += self.lengths[recording.name]
        self._tell(0.0)
        if time.monotonic() - self._written > self._pause:
            self._write_tables()

    def _predicted(self, recording: Recording, key: str, digest: str) -> Done:
        """Run the model over a recording, from where an earlier try stopped."""
        spool = Spool(self.results.spool(key))
        try:
            for rows in self.engine.of(recording, spool.done):
                spool.add(rows)
                self._tell(rows.seconds)
                if self.stop():
                    raise InterruptedRunError(
                        f"stopped; what is done is in {self.out}, and the same command goes on"
                    )
        finally:
            spool.flush()
        if not spool.done:
            raise AudioError(f"{recording.path or recording.name}: it holds no sound")
        told = self.lengths[recording.name]
        seconds = outputs.heard(self.saved, spool, told)
        prediction = outputs.decoded(self.saved, recording, spool, seconds, self.tuned)
        notices = tuple(outputs.noticed(prediction)) if self.voices else ()
        if seconds < told - 1:
            line = f"{recording.name}: {seconds:.1f} s could be read of the {told:.1f} s that its "
            notices = (*notices, line + "header promises: compare it with the original")
        facts = (key, self.made_by, recording.name, recording.path, digest, seconds)
        kinds = (self.asked.probabilities,) if self.asked.probabilities else ()
        done = Done(*facts, prediction, notices, kinds)
        self._more(done, spool)
        done = self._annotate(done)
        self.results.keep(done)  # last: what is kept has all its files
        spool.remove()
        return done

    def _found(self, name: str, key: str) -> Done | None:
        """A result of an earlier call, if it left all that is asked for now."""
        done = self.results.find(name, key)
        kind = self.asked.probabilities
        if done is None or not kind:
            return done
        there = outputs.probabilities_path(self.out, name, kind).exists()
        return done if there and kind in done.written else None

    def _more(self, done: Done, spool: Spool) -> None:
        """What is written from the rows, which go afterwards."""
        if self.asked.probabilities:
            target = outputs.probabilities_path(self.out, done.name, self.asked.probabilities)
            outputs.write_probabilities(self.saved, spool, target, done.seconds)
        if self.saved.task.one_output and spool.done > 1:
            outputs.write_windows(self.saved, spool, self.out / f"{done.name}.windows.csv")

    def _annotate(self, done: Done) -> Done:
        """The annotation files and pictures that were not yet written of this result."""
        for line in sorted(outputs.write_annotations(done, self.formats, self.out)):
            self._notice(line)
        paths = {kind: self._picture(done, kind) for kind in self.asked.timeline}
        new = [p for kind, p in paths.items() if kind not in done.written or not p.exists()]
        if new:
            overview.draw(done, self.voices, new)
        return replace(done, written=tuple(sorted({*done.written, *self.formats, *paths})))

    def _picture(self, done: Done, kind: str) -> Path:
        return self.out / f"{done.name}.{kind}"

    def _tell(self, seconds: float) -> None:
        self.tell("predicting", self.done + seconds, sum(self.lengths.values()), "s")

    def _write_tables(self) -> None:
        """The tables of all recordings that this model has done here, and how they were made."""
        began = time.monotonic()
        saved, made_by = self.saved, self.made_by
        if saved.task.pairs:
            known = (d for d in self.results.all(made_by) if self._counts(d.name))
            self._notice(overview.write_scores(saved, known, self.out / "scores.csv"))
        name, said = str(saved.spec["task"]["name"]), self._predictions()
        if self.voices:
            write_segments(said, self.out / f"{name}.csv")
            overview.write_voices(self._done(), self.voices, self.out / "summary.csv")
        else:
            saved.task.write(list(said), self.out)
        if saved.task.in_order:
            write_segments(self._predictions(), self.out / f"{name}.times.csv")
        others = self.results.others(made_by)
        if others:
            self._notice(
                f"{others} recording(s) in {self.out} are of another model or other options: they "
                "are in none of its tables"
            )
        self._write_origin()
        # Tables of thousands of recordings take a while: a small share of the time all the same.
        self._written = time.monotonic()
        self._pause = max(_OFTEN, 20 * (self._written - began))

    def _done(self) -> Iterator[Done]:
        """The results that are no enrolment's."""
        results = self.results.all(self.made_by)
        return (done for done in results if not done.name.startswith(overview.ENROLLED))

    def _predictions(self) -> Iterator[Prediction]:
        return (done.prediction for done in self._done())

    def _counts(self, name: str) -> bool:
        """Whether a recording is to be scored: of enrolments only those that this call names."""
        return name in self.lengths or not name.startswith(overview.ENROLLED)

    def _notice(self, line: str) -> None:
        if line and line not in self.result.notices:
            self.result.notices.append(line)

    def _write_origin(self) -> None:
        """`prediction.json`: where all this comes from."""
        files = [
            {"name": d.name, "path": d.path, "digest": d.digest, "seconds": round(d.seconds, 3)}
            for d in self.results.all(self.made_by)
        ]
        left = [{"path": path, "why": why} for path, why in self.result.left.items()]
        known = {one["name"] for one in files}
        bad = set(self.result.left)
        waiting = [
            r.name for r in self.listed if r.name not in known and (r.path or r.name) not in bad
        ]
        write_json(
            self.out / FILE,
            {
                **self.identity,
                "date": now(),
                "versions": versions(),
                "files": files,
                "left_out": left,
                "waiting": waiting,
                "notices": self.result.notices,
            },
        )

    def _identity(self) -> dict[str, Any]:
        """All that what is said of a recording depends on, but for the recording."""
        spec, raster = self.saved.spec, self.engine.raster
        return {
            "format": _FORMAT,
            "model": str(self.saved.place),
            "weights": self.saved.digest,
            "run": spec["run"],
            "task": spec["task"]["name"],
            "task_version": spec["task_version"],
            "encoder": spec["resolved"],
            "fingerprint": spec["fingerprint"],
            "preset": self.preset,
            "tuned": dict(self.tuned),
            "labels": {key: list(names) for key, names in self.saved.labels.items()},
            "window": raster.window / self.saved.encoder.sample_rate,
            "step": raster.step / self.saved.encoder.sample_rate,
            "device": self.engine.device.type,
            "precision": self.engine.precision,
            "formats": list(self.formats),
            "notice": self.saved.task.notice,
        }

    def _made_by(self) -> str:
        """Model and options, as a short name. Where the model lies, and in which formats segments
        are written, makes no difference."""
        facts = {k: v for k, v in self.identity.items() if k not in ("model", "formats")}
        return _digest_of(facts)

    def _key(self, recording: Recording, digest: str) -> str:
        """What a result is found by: model, options and audio."""
        return _digest_of([self.made_by, digest, recording.start, recording.end])


def _digest_of(value: Any) -> str:
    """A value of JSON's kinds as a short name."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _enrolled(saved: Saved, asked: PredictOptions, left: dict[str, str]) -> list[Recording]:
    """The recordings of known speakers.

    Raises:
        BabError: a task that compares no speakers, or nothing there.
    """
    assert asked.enrol is not None
    if not saved.task.pairs:
        raise BabError(f"--enrol: task '{saved.spec['task']['name']}' compares no recordings")
    if not asked.enrol.is_dir():
        raise BabError(f"--enrol {asked.enrol}: no such folder")
    enrolled, more = recordings([asked.enrol], asked.offline)
    left.update(more)
    return [replace(one, name=overview.ENROLLED + one.name) for one in enrolled]


def _formats(saved: Saved, names: Sequence[str] | None) -> dict[str, Format]:
    """The annotation formats that are written, opened.

    Raises:
        BabError: an unknown one, one that is only read, or a task without segments.
    """
    segments = not saved.task.one_target
    if names is None:
        names = ["rttm"] if not saved.task.whole_clips else []
    elif not segments:
        task = saved.spec["task"]["name"]
        raise BabError(f"--format: task '{task}' gives labels of whole recordings, no segments")
    formats = {name: open_format(name) for name in dict.fromkeys(names)}
    endings: dict[str, str] = {}
    for name, form in formats.items():
        if not form.writes:
            raise BabError(f"--format {name}: that format is only read")
        other = endings.setdefault(form.suffixes[0], name)
        if other != name:
            raise BabError(
                f"--format {other},{name}: both write {form.suffixes[0]} files: take one of them, "
                "and make the other of it with `bab convert`"
            )
    return formats
