"""A saved model on recordings: one after the other, each written as soon as it is done.

A prediction that is stopped, at whatever moment, goes on where it was: what is done is found by
model, options and audio; of the recording at work, all but the last seconds of work is on disk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bab.core.atomic import write_json
from bab.core.errors import BabError, counted
from bab.core.record import now, versions
from bab.core.types import Prediction, Tell
from bab.data.shards import Shard
from bab.predicting import outputs, overview
from bab.predicting.jobs import Answer, Answers, in_turn, side_by_side
from bab.predicting.kept import STATE, Results
from bab.predicting.maker import FILE, Maker, PredictOptions
from bab.predicting.outputs import Done
from bab.predicting.recordings import Named, Recording, recordings, seconds_of
from bab.results.segments import write_segments
from bab.starting.folders import locked
from bab.starting.lifecycle import stopper

_USUAL = PredictOptions()
SHARDS = "shards"  # below the state: each shard holds a folder of its own
_OFTEN = 20.0  # seconds between two writings of the tables of all recordings


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
        for done in Results(self.out, Done).all(self.made_by):
            if done.name in self.files:
                yield done.prediction


def predict(
    folder: str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    asked: PredictOptions = _USUAL,
    tell: Tell = lambda stage, done, total, unit: None,
    say: Callable[[str], None] = lambda line: None,
    shard: Shard | None = None,
) -> Predicted:
    """Run the model of a finished run over recordings of any length.

    Args:
        folder: a run's folder, the `model` folder in it, or a published model (`segma:DIR`).
        inputs: audio files, folders, lists (`@files.txt`) or corpora (`rttm:ROOT`).
        out: the folder that gets the predictions.
        asked: how.
        tell: is told how much audio is done; say: gets a line for each recording.
        shard: a share of the recordings alone, while other processes do the others; no table is
            written: the call without one does that, and does what they have left.

    Raises:
        BabError: no model there, nothing to predict, an unknown preset, class or format.
        InterruptedRunError: Ctrl-C or SIGTERM; what was done is kept.
    """
    maker = Maker(folder, asked, Path(out))
    names = maker.results.names()
    known = [one for one in names if not one.name.startswith(overview.ENROLLED)]
    listed, left = recordings(inputs, asked.offline, asked.corpus, known)
    if asked.enrol is not None:
        listed = [*_enrolled(maker, left, names), *listed]
    maker.out.mkdir(parents=True, exist_ok=True)
    place, beside = maker.out / STATE, _folders(maker.out, listed)
    if shard is not None:
        listed = shard.of(listed, [seconds_of(one) for one in listed])
        # What is half written in the out folder may be another machine's.
        place, beside = place / SHARDS / f"{shard.number}-of-{shard.count}", set()
    with stopper() as stop, locked(place, True, beside):
        work = _Work(maker, folder, listed, tell, say, stop, shard is None)
        return work.run(left)


def _folders(out: Path, listed: Sequence[Recording]) -> set[Path]:
    """Where the recordings' files are written."""
    return {out, *((out / one.name).parent for one in listed)}


class _Work:
    """One call of `predict`."""

    def __init__(
        self,
        maker: Maker,
        folder: str | Path,
        listed: Sequence[Recording],
        tell: Tell,
        say: Callable[[str], None],
        stop: Callable[[], bool],
        tables: bool = True,
    ) -> None:
        """tables: write those of all recordings."""
        self.maker, self.folder, self.listed = maker, folder, listed
        self.whole = tables
        self.saved, self.out, self.results = maker.saved, maker.out, maker.results
        self.made_by = maker.made_by
        self.tell, self.say, self.stop = tell, say, stop
        self.result = Predicted(maker.out, made_by=maker.made_by)
        self.lengths: dict[str, float] = {}
        self.taken, self.done = 0, 0.0  # recordings, seconds
        self._written, self._pause = time.monotonic(), _OFTEN
        self.tables = _tables(maker.out / FILE)  # name -> the options that it is of

    def run(self, left: Mapping[str, str]) -> Predicted:
        """All recordings; what can't be read is left out, and told."""
        self.result.left.update(left)
        for number, recording in enumerate(self.listed, start=1):
            self.lengths[recording.name] = seconds_of(recording)
            self.tell("looking", number, len(self.listed), "files")
        outputs.refuse_foreign(self.results, self.lengths, self.maker.formats, self.out)
        jobs = min(self.maker.asked.jobs, len(self.listed))
        try:
            with closing(self._side_by_side(jobs) if jobs > 1 else self._in_turn()) as answers:
                for recording, answer in answers:
                    self._take(recording, answer)
        finally:
            if self.whole:
                self._write_tables()
        return self.result

    def _in_turn(self) -> Answers:
        return in_turn(self.maker, self.listed, self._tell, self.stop)

    def _side_by_side(self, jobs: int) -> Answers:
        plan = (self.folder, replace(self.maker.asked, precision=self.maker.precision), self.out)
        return side_by_side(self.listed, jobs, plan, self._tell, self.stop)

    def _take(self, recording: Recording, answer: Answer) -> None:
        """Note what came of a recording."""
        self.taken += 1
        place = f"[{self.taken}/{len(self.listed)}] {recording.name}"
        made = answer.made
        if made is None:
            self.result.left[recording.path or recording.name] = answer.why
            self.say(f"{place}: left out: {answer.why}")
        else:
            done = made.done
            self.result.again += made.again
            if made.again:
                self.say(f"{place}: done before")
            else:
                self._tell_rounded()
                word = "done"
                if self.maker.formats:
                    word = counted(len(done.prediction.segments), "segment")
                speed = done.seconds / max(1e-9, answer.seconds)
                self.say(f"{place}: {word}, {done.seconds / 60:.2f} min, {speed:.1f} x real time")
            for line in (*done.notices, *made.notices):
                self._notice(line)
            if not done.name.startswith(overview.ENROLLED):
                self.result.files[done.name] = done.seconds
        self.done += self.lengths[recording.name]
        self._tell(0.0)
        if self.whole and time.monotonic() - self._written > self._pause:
            self._write_tables()

    def _tell_rounded(self) -> None:
        if self.maker.asked.precision == "auto" and self.maker.precision != "fp32":
            self._notice(
                f"computed in {self.maker.precision}: faster, and shown to leave scores of this "
                "encoder and task within .002; --precision fp32 rounds nothing"
            )

    def _tell(self, seconds: float) -> None:
        self.tell("predicting", self.done + seconds, sum(self.lengths.values()), "s")

    def _write_tables(self) -> None:
        """The tables of all recordings that this model has done here, and how they were made."""
        began, before = time.monotonic(), _files(self.out)
        saved, made_by = self.saved, self.made_by
        if saved.task.pairs:
            known = (d for d in self.results.all(made_by) if self._counts(d.name))
            self._notice(overview.write_scores(saved, known, self.out / "scores.csv"))
        name, said = str(saved.spec["task"]["name"]), self._predictions()
        if self.maker.voices:
            write_segments(said, self.out / f"{name}.csv")
            overview.write_voices(self._done(), self.maker.voices, self.out / "summary.csv")
        else:
            saved.task.write(list(said), self.out)
        if saved.task.in_order:
            write_segments(self._predictions(), self.out / f"{name}.times.csv")
        others = self.results.others(made_by)
        if others:
            self._notice(
                f"{counted(others, 'recording')} in {self.out}: of another model or other options, "
                "and in none of its tables"
            )
        written = {name for name, at in _files(self.out).items() if before.get(name) != at}
        self._tell_earlier({name for name in written if not self._of_one(name)})
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

    def _tell_earlier(self, written: Set[str]) -> None:
        """Take note of the tables that were `written`, and of those that an earlier model left."""
        self.tables |= dict.fromkeys(written, self.made_by)
        self.tables = {n: by for n, by in self.tables.items() if (self.out / n).is_file()}
        earlier = sorted(name for name, by in self.tables.items() if by != self.made_by)
        if earlier:
            self._notice(
                f"{', '.join(earlier)} in {self.out}: of an earlier model or other options, and "
                "left as it was"
            )

    def _of_one(self, file: str) -> bool:
        """Whether a file may be a recording's: `--jobs` write those meanwhile."""
        parts = file.split(".")
        return any(".".join(parts[:count]) in self.lengths for count in range(len(parts)))

    def _write_origin(self) -> None:
        """`prediction.json`: where all this comes from."""
        files = [
            {"name": d.name, "path": d.path, "digest": d.digest, "seconds": round(d.seconds, 3)}
            for d in self.results.all(self.made_by)
        ]
        left = [{"path": path, "why": why} for path, why in sorted(self.result.left.items())]
        known = {one["name"] for one in files}
        bad = set(self.result.left)
        waiting = [
            r.name for r in self.listed if r.name not in known and (r.path or r.name) not in bad
        ]
        write_json(
            self.out / FILE,
            {
                **self.maker.identity,
                "date": now(),
                "versions": versions(),
                "tables": self.tables,
                "files": files,
                "left_out": left,
                "waiting": waiting,
                "notices": self.result.notices,
            },
        )


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """The files right in a folder, each with what changes when it is written anew."""
    files = [one for one in os.scandir(folder) if one.is_file() and one.name[0] != "."]
    return {one.name: (one.inode(), one.stat().st_mtime_ns) for one in files}


def _tables(path: Path) -> dict[str, str]:
    """Which tables earlier calls have written here, by `prediction.json`."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return dict(json.loads(path.read_text(encoding="utf-8"))["tables"])
    return {}


def _enrolled(maker: Maker, left: dict[str, str], names: Sequence[Named]) -> list[Recording]:
    """The recordings of known speakers.

    Raises:
        BabError: a task that compares no speakers, or nothing there.
    """
    saved, asked, prefix = maker.saved, maker.asked, overview.ENROLLED
    assert asked.enrol is not None
    if not saved.task.pairs:
        raise BabError(f"--enrol: task '{saved.spec['task']['name']}' compares no recordings")
    if not asked.enrol.is_dir():
        raise BabError(f"--enrol {asked.enrol}: no such folder")
    known = [n._replace(name=n.name[len(prefix) :]) for n in names if n.name.startswith(prefix)]
    enrolled, more = recordings([asked.enrol], asked.offline, known=known)
    left.update(more)
    return [replace(one, name=prefix + one.name) for one in enrolled]
