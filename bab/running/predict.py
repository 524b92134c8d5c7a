"""A saved model on recordings: one after the other, each written as soon as it is done.

A prediction that is stopped, at whatever moment, goes on where it was: what is done is found by
model, options and audio; of the recording at work, all but the last few minutes is on disk.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bab.core.annotations import Format
from bab.core.atomic import write_json
from bab.core.device import keep_memory, refuse_precision, resolve_device
from bab.core.errors import AudioError, BabError, InterruptedRunError
from bab.core.folders import locked
from bab.core.lifecycle import stopper
from bab.core.record import now, versions
from bab.core.types import Tell
from bab.data.annotations import open_format
from bab.data.content import content_id
from bab.running import outputs
from bab.running.outputs import Done, Results
from bab.running.recordings import Recording, recordings, seconds_of
from bab.running.saved import Saved, choose_preset, load_saved, with_thresholds
from bab.running.spool import Spool
from bab.running.streaming import Engine

FILE = "prediction.json"
_OFTEN = 20.0  # seconds between two writings of the tables of all recordings
_FORMAT = 1  # of what is on disk


@dataclass(frozen=True, slots=True)
class Asked:
    """How to predict. preset: None = the task's first. thresholds: by class, in place of the tuned
    ones. formats: of annotation files; None = rttm for segments, none for texts. probabilities:
    "", "npy" or "parquet". precision: fp32, bf16 or fp16."""

    preset: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    formats: Sequence[str] | None = None
    probabilities: str = ""
    device: str = "auto"
    precision: str = "fp32"
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


def predict(
    folder: Path,
    inputs: Sequence[str | Path],
    out: Path,
    asked: Asked = Asked(),  # noqa: B008 (frozen)
    tell: Tell = lambda stage, done, total, unit: None,
    say: Callable[[str], None] = lambda line: None,
) -> Predicted:
    """Run the model of a finished run over recordings of any length.

    Args:
        folder: a run's folder, or the `model` folder in it.
        inputs: audio files, folders, lists (`@files.txt`) or corpora (`rttm:ROOT`).
        out: the folder that gets the predictions.
        asked: how.
        tell: is told how much audio is done; say: gets a line for each recording.

    Raises:
        BabError: no model there, nothing to predict, an unknown preset, class or format.
        InterruptedRunError: Ctrl-C or SIGTERM; what was done is kept.
    """
    saved = load_saved(folder, asked.offline, asked.trust_code)
    device = resolve_device(asked.device)
    refuse_precision(device, asked.precision)
    if device == "cpu":
        keep_memory()
    listed, left = recordings(inputs, asked.offline)
    out.mkdir(parents=True, exist_ok=True)
    with stopper() as stop, locked(out / outputs.STATE, True):
        engine = Engine(saved, torch.device(device), asked.precision)
        work = _Work(engine, asked, out, listed, tell, say, stop)
        return work.run(left)


class _Work:
    """One call of `predict`."""

    def __init__(
        self,
        engine: Engine,
        asked: Asked,
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
        self.result = Predicted(out)
        self.lengths = {r.name: seconds_of(r) for r in listed}
        self.done = 0.0  # seconds
        self._written = time.monotonic()

    def run(self, left: Mapping[str, str]) -> Predicted:
        """All recordings; what can't be read is left out, and told."""
        self.result.left.update(left)
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
            done = self.results.find(recording.name, key)
            if done is None:
                done = self._predicted(recording, key, digest)
                word = f"{len(done.prediction.segments)} segments" if self.formats else "done"
                speed = done.seconds / max(1e-9, time.monotonic() - began)
                self.say(f"{place}: {word}, {done.seconds / 60:.2f} min, {speed:.1f} x real time")
            else:
                self.result.again += 1
                self.say(f"{place}: done before")
            self._annotate(done)
            self.result.files[done.name] = done.seconds
        except AudioError as error:
            self.result.left[recording.path or recording.name] = str(error)
            self.say(f"{place}: left out: {error}")
        self.done += self.lengths[recording.name]
        self._tell(0.0)
        if time.monotonic() - self._written > _OFTEN:
            self._write_tables()

    def _predicted(self, recording: Recording, key: str, digest: str) -> Done:
        """Run the model over a recording, from where an earlier try stopped."""
        stream = recording.open()
        spool = Spool(self.results.spool(key))
        rate = self.saved.encoder.sample_rate

        def blocks(skip: int) -> Any:
            return recording.blocks(stream, rate, skip)

        try:
            for rows in self.engine.rows(blocks, spool.done):
                spool.add(rows)
                self._tell(rows.seconds)
                if self.stop():
                    raise InterruptedRunError(
                        f"stopped; what is done is in {self.out}, and the same command goes on"
                    )
        finally:
            spool.flush()
        seconds = self._seconds(recording, spool)
        prediction = outputs.decoded(self.saved, recording, spool, seconds, self.tuned)
        notices = tuple(outputs.noticed(prediction))
        done = Done(key, recording.name, recording.path, digest, seconds, prediction, notices)
        self._more(done, spool)
        self.results.keep(done)
        spool.remove()
        return done

    def _seconds(self, recording: Recording, spool: Spool) -> float:
        """How long the recording is: of a stream, what its frames cover at least."""
        if not spool.done:
            raise AudioError(f"{recording.path or recording.name}: it holds no sound")
        return self.lengths[recording.name]

    def _more(self, done: Done, spool: Spool) -> None:
        """What is written from the rows, which go afterwards."""
        path = self.out / done.name
        if self.asked.probabilities:
            kind = self.asked.probabilities
            outputs.write_probabilities(self.saved, spool, kind, path, done.seconds)
        if self.saved.task.one_output and spool.done > 1:
            outputs.write_windows(self.saved, spool, path.with_name(f"{path.name}.windows.csv"))

    def _annotate(self, done: Done) -> None:
        lost = outputs.write_annotations(done, self.formats, self.out)
        for line in [*done.notices, *sorted(lost)]:
            if line not in self.result.notices:
                self.result.notices.append(line)

    def _tell(self, seconds: float) -> None:
        self.tell("predicting", self.done + seconds, sum(self.lengths.values()), "s")

    def _write_tables(self) -> None:
        """The tables of all recordings, and how they were made."""
        self._written = time.monotonic()
        names = [r.name for r in self.listed if r.name in self.result.files]
        task = str(self.saved.spec["task"]["name"])
        if self.saved.task.one_target or not self.formats:
            self.saved.task.write([d.prediction for d in self.results.all(names)], self.out)
        if self.formats:
            outputs.write_segments(self.results.all(names), self.out / f"{task}.csv")
        files = [
            {"name": d.name, "path": d.path, "digest": d.digest, "seconds": round(d.seconds, 3)}
            for d in self.results.all(names)
        ]
        left = [{"path": path, "why": why} for path, why in self.result.left.items()]
        whole = {**self.identity, "date": now(), "versions": versions(), "files": files}
        waiting = len(self.listed) - len(names) - len(left)
        more = {"left_out": left, "waiting": max(0, waiting), "notices": self.result.notices}
        write_json(self.out / FILE, {**whole, **more})

    def _identity(self) -> dict[str, Any]:
        """All that what is said of a recording depends on, but for the recording."""
        spec, raster = self.saved.spec, self.engine.raster
        return {
            "format": _FORMAT,
            "model": str(self.saved.place),
            "weights": content_id(self.saved.place / "model.safetensors"),
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
            "probabilities": self.asked.probabilities,
            "formats": list(self.formats),
            "notice": self.saved.task.notice,
        }

    def _key(self, recording: Recording, digest: str) -> str:
        """What a result is found by: model, options and audio. Where the model lies, and in which
        formats segments are written, makes no difference."""
        facts = {k: v for k, v in self.identity.items() if k not in ("model", "formats")}
        span = (recording.start, recording.end)
        text = json.dumps([facts, digest, span], sort_keys=True, default=str)
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
    for name, form in formats.items():
        if not form.writes:
            raise BabError(f"--format {name}: that format is only read")
    return formats
