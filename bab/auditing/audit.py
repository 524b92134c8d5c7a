"""The shortcut audit of a task on a corpus: what traits of the recordings alone get on its splits.

Decoding, tuning on dev, metrics and intervals are the task's own, as of a run.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bab.auditing import folds, traits
from bab.auditing.folds import Question
from bab.config.run import RunConfig
from bab.core.atomic import write_bytes
from bab.core.caches import cache_root
from bab.core.errors import BabError, NotApplicableError, counted
from bab.core.interfaces import Corpus, Task
from bab.core.record import Record, now, versions
from bab.core.seeds import derive
from bab.core.types import Clip, Tell
from bab.data.content import contents
from bab.data.sealed import seal, unsealed
from bab.results import audit as results
from bab.results.audit import FOLDER, MAJORITY, NAMES, SHUFFLED, TRAITS, Audit, Trait
from bab.results.summary import Column, arrange
from bab.running.data import Data, read_data
from bab.running.groups import Groups, kept, scored
from bab.running.parts import build_question
from bab.running.scores import Scorecard

VERSION = "1"  # of the trees and of what is asked of them
SHUFFLES = 5  # draws of the shuffled-label control
REPEATS = 3  # shuffles of a trait among the tested clips
_ALL = list(traits.TRAITS)
_HEARD = [_ALL.index(name) for name in traits.SIGNAL]
_NAMED = [_ALL.index(name) for name in traits.NAMES]


def audit(config: RunConfig, tell: Tell, force: bool = False) -> tuple[Audit, Path]:
    """The audit that a run's task, corpus and splits ask for, and its file.

    config: a run's; its encoder, head and training play no part. force: make it anew.

    Raises:
        NotApplicableError: a task that doesn't give whole clips a class.
        BabError: as `read_data`.
    """
    task, corpus = build_question(config)
    refuse(task, config.task.name)
    data = read_data(config, task, corpus, tell)
    facts = (config.task.name, task.version, sorted(config.task.options.items()), data.digest)
    files = [Path(clip.path).name for clip in data.clips]  # which the digest leaves out
    more = (config.rounds, corpus.version, VERSION, traits.VERSION, files)
    name = hashlib.blake2b(repr((facts, more)).encode(), digest_size=6).hexdigest()
    path = Path(config.runs) / FOLDER / config.task.name / config.corpus_name / f"{name}.json"
    if path.exists() and not force:
        try:
            return results.load(path), path
        except BabError:  # damaged, or of another version: made anew
            pass
    made = _made(config, task, corpus, data, name, tell)
    results.save(made, path)
    return made, path


def audits_of(records: Sequence[Record], runs: str, tell: Tell) -> tuple[list[Audit], list[str]]:
    """The audits of a table's columns, and why others have none.

    runs: the table's folder; a run whose learning rate was searched was made in another.
    """
    from pydantic import ValidationError

    made, why = [], []
    for column, members in zip(*_columns(records), strict=True):
        first = next((r for r in members if r.status == "done"), None)
        if first is None:
            continue
        try:
            config = {**first.config, "runs": runs}
            one, _ = audit(RunConfig.model_validate_json(json.dumps(config)), tell)
        except (BabError, ValidationError) as error:
            old = "its record is another version's: repeat the run"
            why.append(f"{column.label}: {error if isinstance(error, BabError) else old}")
            continue
        if results.fitting([one], members) is None:
            why.append(f"{column.label}: the corpus has changed since: repeat its runs")
        made.append(one)
    return made, why


def _columns(records: Sequence[Record]) -> tuple[Sequence[Column], Sequence[Sequence[Record]]]:
    laid = arrange(records)
    return laid.columns, laid.members


def refuse(task: Task, name: str) -> None:
    """Raises NotApplicableError for a task that has no classes of whole clips."""
    if task.level == "clip":
        return
    why = {
        "frame": "labels moments, and what a recording's traits say is the same for all of them",
        "pair": "compares two clips",
        "sequence": "writes what is said",
    }[task.level]
    raise NotApplicableError(
        f"task '{name}' {why}: the audit is of tasks that give whole clips a class (classify, "
        "gender, accent, addressee, valence)"
    )


def _measured(data: Data, tell: Tell, clips: Sequence[Clip]) -> traits.Floats:
    """The traits of clips; those measured before are kept by content, also when it is stopped."""
    said: Callable[[float, float], None] = lambda done, total: tell(  # noqa: E731
        "taking checksums", done, total, "files"
    )
    content = contents(clips, said)
    keys = {c.id: f"{content[c.path]} {c.start!r} {c.end!r}" for c in clips}
    file = cache_root() / "audit" / f"{data.digest}-{traits.VERSION}.npz"
    known = _recalled(file)
    before = len(known)
    try:
        return traits.measure(
            clips, known, keys, lambda done, total: tell("measuring", done, total, "clips")
        )
    finally:
        if len(known) > before:
            out = io.BytesIO()
            np.savez(out, keys=np.array(list(known)), rows=np.array(list(known.values())))
            write_bytes(file, seal(out.getvalue()))


def _recalled(file: Path) -> dict[str, list[float]]:
    try:
        data = unsealed(file.read_bytes())
        if data is None:
            return {}
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            return dict(zip(held["keys"].tolist(), held["rows"].tolist(), strict=True))
    except (OSError, ValueError, KeyError, EOFError):  # none yet, or damaged
        return {}


def _made(
    config: RunConfig, task: Task, corpus: Corpus, data: Data, name: str, tell: Tell
) -> Audit:
    x = _measured(data, tell, data.clips)
    asked = Question(task, data, x)
    total = len(data.folds) * (4 + SHUFFLES) + len(_ALL) * (1 + REPEATS)
    done = 0

    def step(count: int = 1) -> None:
        nonlocal done
        done += count
        tell("fitting trees", done, total, "steps")

    answers = {TRAITS: asked.trees(_HEARD, step), NAMES: asked.trees(_NAMED, step)}
    made = {key: [_record(config, task, corpus, data, asked, a, key)] for key, a in answers.items()}
    base = asked.majority()
    made[MAJORITY] = [_record(config, task, corpus, data, asked, base, MAJORITY)]
    weights = answers[TRAITS].weights
    made[SHUFFLED] = [
        _record(config, task, corpus, data, asked, shuffled, SHUFFLED, seed)
        for seed in range(SHUFFLES)
        for shuffled in [asked.shuffled(_HEARD, weights, seed, step)]
    ]
    listed = _traits(asked, answers[TRAITS], x, step)
    tell("fitting trees", total, total, "steps")
    notices = [*filter(None, [data.leakage]), *corpus.notices]
    if data.skipped:
        notices.append(f"{counted(len(data.skipped), 'unreadable file')} left out")
    return Audit(name, made, listed, notices)


def _record(
    config: RunConfig,
    task: Task,
    corpus: Corpus,
    data: Data,
    asked: Question,
    answers: folds.Answers,
    name: str,
    seed: int = 0,
) -> Record:
    """What a run's record has of scores and data, of trees."""
    card = Scorecard(task, asked.tested, answers.predictions)
    groups = Groups(task, asked.tested, asked.tested)
    one = scored(card, groups)
    return Record(
        id=f"audit-{name}-{seed}",
        status="done",
        task=config.task.name,
        task_version=task.version,
        corpus=config.corpus_name,
        corpus_version=corpus.version,
        corpus_digest=data.digest,
        encoder=name,
        encoder_fingerprint="",
        head="trees",
        objective="",
        mode="probe",
        seed=seed,
        protocol=config.rounds,
        split="test",
        metrics=one.metrics,
        intervals=one.intervals,
        units=dict(task.units),
        primary=task.primary,
        higher_is_better=task.higher_is_better,
        jackknife=kept(groups, corpus.unit, task.primary, one),
        labels={key: list(names) for key, names in asked.labels[0].items()},
        tuned={"class_weight": [w or "none" for w in answers.weights]},
        versions=versions(),
        leakage=bool(data.leakage),
        created=now(),
    )


def _traits(
    asked: Question, answers: folds.Answers, x: traits.Floats, step: Callable[[], None]
) -> list[Trait]:
    """Every trait by itself, and what is lost without it; the best first."""
    whole = asked.score(answers.predictions)
    listed = []
    for column, (name, meaning) in enumerate(traits.TRAITS.items()):
        alone = asked.score(asked.alone(column, answers.weights).predictions)
        step()
        drop = None
        if column in _HEARD:
            draws = []
            for draw in range(REPEATS):
                generator = np.random.default_rng(derive("trait", name, draw))
                draws.append(whole - asked.score(asked.without(answers, column, generator)))
                step()
            drop = float(np.mean(draws)) * (1 if asked.task.higher_is_better else -1)
        own = x[:, column]
        same = bool((own == own[0]).all())
        listed.append(Trait(name, meaning, alone, drop, same, _medians(asked, own)))
    sign = -1.0 if asked.task.higher_is_better else 1.0
    return sorted(listed, key=lambda one: sign * one.alone)


def _medians(asked: Question, values: traits.Floats) -> Mapping[str, float]:
    """The median of a trait in each class of the first kind of label, where these are few."""
    kind, names = next(iter(asked.labels[0].items()))
    if len(names) > folds.FEW:
        return {}
    own = asked.y[0][:, list(asked.labels[0]).index(kind)]
    return {
        name: float(np.median(values[own == i])) for i, name in enumerate(names) if (own == i).any()
    }
