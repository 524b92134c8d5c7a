"""One recording at a time: its rows, its result, and the files that are written of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bab import __version__
from bab.core.annotations import Format
from bab.core.device import resolve_device
from bab.core.errors import AudioError, BabError, InterruptedRunError
from bab.core.registry import origin
from bab.data.annotations import open_format
from bab.machine.memory import keep_memory
from bab.predicting import outputs, overview
from bab.predicting.engine import Engine
from bab.predicting.kept import Results
from bab.predicting.outputs import Done
from bab.predicting.precision import chosen
from bab.predicting.recordings import Recording, seconds_of
from bab.predicting.spool import Spool, spooling
from bab.predicting.walking import Stretches, listen
from bab.running.saved import Saved, choose_preset, load_saved, shown_as, with_thresholds

FILE = "prediction.json"
_FORMAT = 1  # of what is on disk
_ROWS = 2  # of what is there of unfinished recordings


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """How to predict. preset: None = the task's first. thresholds: by class, in place of the tuned
    ones. formats: of annotation files; None = rttm for segments, none for texts. probabilities:
    "", "npy" or "parquet". precision: fp32, bf16, fp16, or auto: half where scores are known to
    stay. overlap: share of a window that the next
    one hears again. timeline: pictures, of png and svg. enrol: a folder of known speakers' voices,
    for pair tasks. corpus: options of the corpora that are named, `corpus.KEY=VALUE`. jobs:
    processes, each with a model and a recording of its own."""

    preset: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    formats: Sequence[str] | None = None
    probabilities: str = ""
    device: str = "auto"
    precision: str = "auto"
    overlap: float | None = None
    timeline: Sequence[str] = ()
    enrol: Path | None = None
    corpus: Sequence[str] = ()
    jobs: int = 1
    offline: bool = False
    trust_code: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A recording's result; again: it was there before; notices: what its files left out."""

    done: Done
    again: bool
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model said of a recording, not yet decoded. before: a result of an earlier call that
    says it already; else spools: the rows, under the name `begun`."""

    recording: Recording
    key: str
    digest: str
    before: Done | None = None
    begun: str = ""
    spools: Sequence[Spool] = ()

    @property
    def brief(self) -> bool:
        """Whether all of it fits in memory, beside what the next recording takes."""
        return all(spool.on_disk == 0 for spool in self.spools)


class Maker:
    """A model with options and an out folder: makes results of recordings."""

    def __init__(self, folder: str | Path, asked: PredictOptions, out: Path) -> None:
        """folder: of the run, or a published model (`segma:DIR`).

        Raises:
            BabError: no model there, an unknown preset, class or format, a device or precision that
                isn't had here.
        """
        device = resolve_device(asked.device)
        if device == "cpu":
            keep_memory(False)
        saved = load_saved(folder, asked.offline, asked.trust_code)
        before = _before(out, saved, device)
        self.precision = chosen(asked.precision, device, *shown_as(saved), before)
        overview.refuse_pictures(saved, asked.timeline)
        self.engine = Engine(saved, torch.device(device), self.precision, asked.overlap)
        if device == "cpu":
            keep_memory()  # not before: what weights leave behind is of no size that audio can use
        self.saved, self.asked, self.out = saved, asked, out
        self.preset = choose_preset(saved, asked.preset)
        self.tuned = with_thresholds(saved, self.preset, asked.thresholds)
        self.formats = _formats(saved, asked.formats)
        self.results = Results(out, Done)
        self.identity = self._identity()
        self.made_by = self._made_by()
        self.voices = overview.voices_of(saved)

    def hear(
        self, recording: Recording, tell: Callable[[float], None], stop: Callable[[], bool]
    ) -> Heard:
        """Run the model over a recording, from where an earlier try stopped; or find it done.

        tell: is told how many of its seconds are done. stop: whether to stop.

        Raises:
            AudioError: it can't be read.
            InterruptedRunError: stopped; what is done of it is kept.
        """
        digest = recording.digest()
        key = self._key(recording, digest)
        before = self._before(recording, key)
        if before is not None:
            return Heard(recording, key, digest, before)
        begun = _digest_of([key, __version__, _ROWS])
        spools = [Spool(self.results.spool(begun) / str(n)) for n in range(len(self.engine.walks))]

        def told(seconds: float) -> None:
            tell(seconds)
            if stop():
                raise InterruptedRunError(
                    f"stopped; what is done is in {self.out}, and the same command goes on"
                )

        with spooling(spools):
            listen(self.engine.walks, recording, spools, told)
        if not all(spool.done for spool in spools):
            raise AudioError(f"{recording.path or recording.name}: it holds no sound")
        return Heard(recording, key, digest, None, begun, spools)

    def finish(self, heard: Heard) -> Made:
        """A recording's result, with all its files. May be called in a thread of its own."""
        if heard.before is not None:
            done, lost = self._annotated(heard.before)
            if done != self.results.find(done.name, heard.key):
                self.results.keep(done)
            return Made(done, True, tuple(sorted(lost)))
        self.results.begin(heard.begun, heard.recording, heard.digest)
        rows = self.engine.rows(heard.spools)
        done, lost = self._annotated(self._result(heard.recording, heard.key, heard.digest, rows))
        done = replace(done, notices=(*done.notices, *self.results.clear(done)))
        self.results.keep(done)  # last: what is kept has all its files
        self.results.end(heard.begun)
        return Made(done, False, tuple(sorted(lost)))

    def _result(self, recording: Recording, key: str, digest: str, rows: Stretches) -> Done:
        """What a recording's rows say, and the files that are written from them."""
        told = seconds_of(recording)
        seconds = outputs.heard(self.saved, rows, told)
        prediction = outputs.decoded(self.saved, recording, rows, seconds, self.tuned)
        notices = tuple(outputs.noticed(prediction)) if self.voices else ()
        if seconds < told - 1:
            line = f"{recording.name}: {seconds:.1f} s could be read of the {told:.1f} s that its "
            notices = (*notices, line + "header promises: compare it with the original")
        kind, paths = self.asked.probabilities, []
        if kind:
            paths.append(outputs.probabilities_path(self.out, recording.name, kind))
            outputs.write_probabilities(self.saved, rows, paths[-1], seconds)
        if self.saved.task.one_output and rows.done > 1:
            paths.append(self.out / f"{recording.name}.windows.csv")
            outputs.write_windows(self.saved, rows, paths[-1])
        return Done(
            key=key,
            made_by=self.made_by,
            name=recording.name,
            path=recording.path,
            digest=digest,
            seconds=seconds,
            start=recording.start,
            end=recording.end,
            files=self.results.files(paths),
            prediction=prediction,
            notices=notices,
            written=(kind,) if kind else (),
            began=recording.began,
        )

    def _before(self, recording: Recording, key: str) -> Done | None:
        """A result of an earlier call, if it left all that is asked for now."""
        done = self.results.find(recording.name, key)
        if done is None:
            return None
        kind = self.asked.probabilities
        if kind:
            there = outputs.probabilities_path(self.out, done.name, kind).exists()
            if not there or kind not in done.written:
                return None
        if done.began != recording.began:  # a corpus that says more, or otherwise, than it did
            kept = tuple(k for k in done.written if k in ("npy", "parquet"))
            return replace(done, began=recording.began, written=kept)
        return done

    def _annotated(self, done: Done) -> tuple[Done, set[str]]:
        """The annotation files and pictures that were not yet written of this result; what they
        couldn't hold."""
        written, lost = outputs.write_annotations(done, self.formats, self.out)
        paths = {kind: self.out / f"{done.name}.{kind}" for kind in self.asked.timeline}
        new = [p for kind, p in paths.items() if kind not in done.written or not p.exists()]
        if new:
            overview.draw(done, self.voices, new)
        kinds = {*done.written, *self.formats, *paths}
        files = {**done.files, **self.results.files([*written, *new])}
        return replace(done, written=tuple(sorted(kinds)), files=files), lost

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
        saved = self.saved
        strangers = list(filter(None, map(origin, (*saved.members, saved.task, saved.model.head))))
        return _digest_of(facts | ({"plugins": strangers} if strangers else {}))

    def _key(self, recording: Recording, digest: str) -> str:
        """What a result is found by: model, options and audio."""
        return _digest_of([self.made_by, digest, recording.start, recording.end])


def _before(out: Path, saved: Saved, device: str) -> str:
    """The precision in which this model has begun a folder; "" = it hasn't."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        origin = json.loads((out / FILE).read_text(encoding="utf-8"))
        if (origin["weights"], origin["device"]) == (saved.digest, device):
            return str(origin["precision"])
    return ""


def _digest_of(value: Any) -> str:
    """A value of JSON's kinds as a short name."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


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
