"""The clips of a run: listed, checked, split, and hashed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bab.checking.clips import check_trials, checked_clips, refuse_same_ids
from bab.checking.tasks import check_labels
from bab.columns.ask import joined, those, without_files
from bab.config.run import RunConfig
from bab.core.errors import CorpusError, LeakageError, counted
from bab.core.interfaces import Corpus, Task
from bab.core.types import Clip, Labels, Tell, Trial
from bab.data import splits
from bab.data.check import bad_files, refuse_bad
from bab.data.content import contents, corpus_digest, same_audio
from bab.data.splits import Fold

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Data:
    """The clips of a run by fold, and what stands for their content."""

    folds: list[Fold]
    clips: Sequence[Clip]  # of all splits, each once, in the corpus's order
    skipped: dict[str, str]  # file -> why it was left out
    refused: dict[str, int]  # why the task can't use clips -> how many
    trials: dict[str, list[Trial]]  # of dev and test (pair tasks only)
    digest: str
    content: Mapping[str, str]  # path -> what the file holds
    leakage: str = ""  # what train shares with dev or test, where that was allowed


def read_data(
    config: RunConfig, task: Task, corpus: Corpus, tell: Tell, labels: Labels | None = None
) -> Data:
    """The run's clips: those the task can't use left out, unreadable files found, splits made and
    checked for leakage and for what training never met.

    labels: of a model that is evaluated: then only the test split has to be there.

    Raises:
        AudioError: unreadable files, unless `skip_bad`.
        CorpusError: a split without a clip, a class that training lacks, trials that can't be
            scored, or (LeakageError) a group or voice in two splits.
    """
    needed = SPLITS if labels is None else ("dev", "test")[config.tune == "model" :]
    refused: Counter[str] = Counter()
    given: dict[str, Sequence[Clip]] = {}
    if config.protocol == "given":
        there = SPLITS if labels is None else {*needed, *corpus.splits()}
        every = {name: _clips(corpus, name) if name in there else [] for name in SPLITS}
        _refuse_same_ids(config, corpus, every)
        given = {name: _usable(task, part, refused) for name, part in every.items()}
        listed = joined(list(given.values()))
    else:
        every = {"the corpus": _clips(corpus, None)}
        _refuse_same_ids(config, corpus, every)
        listed = _usable(task, every["the corpus"], refused)
    skipped = bad_files(listed, lambda done, total: tell("checking files", done, total, "files"))
    refuse_bad(skipped, config.skip_bad)
    kept = without_files(listed, skipped)
    trials: dict[str, list[Trial]] = {}
    if config.protocol != "given":
        folds = _rounds(config, corpus, kept)
    else:
        good = {name: without_files(part, skipped) for name, part in given.items()}
        folds = [Fold(good["train"], good["dev"], good["test"])]
        if task.pairs:
            kinds = [name for name in ("dev", "test") if name in there]
            trials = {name: _trials(corpus, name, every[name], good[name]) for name in kinds}
    leakage = _leakage(config, folds)
    _refuse_empty(folds, corpus, refused, needed)
    for fold in folds:
        known = check_labels(task, task.fit(fold.train)) if labels is None else labels
        for split in ("dev", "test"):
            if split in needed:
                _check(task, known, getattr(fold, split), split, labels is not None)
    content = contents(kept, lambda done, total: tell("taking checksums", done, total, "files"))
    leakage = " ".join(filter(None, [leakage, _twice(config, folds, content)]))
    digest = corpus_digest(kept, folds, trials, content)
    _refuse_trials(corpus, {split: trials[split] for split in trials if split in needed})
    return Data(folds, kept, skipped, dict(refused.most_common()), trials, digest, content, leakage)


def _check(task: Task, labels: Labels, clips: Sequence[Clip], split: str, given: bool) -> None:
    """`Task.check`; given: the labels are those of a model that is evaluated.

    Raises:
        CorpusError: the labels don't describe the clips.
    """
    try:
        task.check(labels, clips, split)
    except CorpusError as error:
        if not given:
            raise
        told = "; ".join(f"{key}: {', '.join(names[:20])}" for key, names in labels.items())
        raise CorpusError(
            f"the model knows other labels than the corpus ({told}): {error}"
        ) from None


def _leakage(config: RunConfig, folds: Sequence[Fold]) -> str:
    """What the folds' splits share, where the user has allowed it; "" where that is nothing.

    Raises:
        LeakageError: they share something, and --allow-leakage was not given.
    """
    leaks: dict[str, set[str]] = {}
    for fold in folds:
        parts = {name: getattr(fold, name) for name in SPLITS}
        for one in splits.shared(parts):
            if not config.allow_leakage:
                raise LeakageError(f"{splits.leak(one, parts)} {_remedy(config)}")
            leaks.setdefault(one.kind, set()).add(one.name)
    told = ", ".join(counted(len(names), kind) for kind, names in leaks.items())
    return f"LEAKAGE (allowed): {told} stand in two splits." if told else ""


def _twice(config: RunConfig, folds: Sequence[Fold], content: Mapping[str, str]) -> str:
    """What the folds' splits hold under two names, where the user has allowed it.

    Raises:
        LeakageError: audio that stands in two splits, and --allow-leakage was not given.
    """
    told: set[str] = set()
    for fold in folds:
        for twice in same_audio({name: getattr(fold, name) for name in SPLITS}, content):
            if not config.allow_leakage:
                raise LeakageError(f"{twice}. Leave one of them out, or mark it: --allow-leakage")
            told.add(str(twice))
    if not told:
        return ""
    return f"LEAKAGE (allowed): {counted(len(told), 'file')} under two names, such as: {min(told)}."


def _remedy(config: RunConfig) -> str:
    other = "Where that is the point, as in speaker identification, --allow-leakage marks it."
    if config.protocol == "clip-kfold":
        return f"protocol=kfold does so. {other}"
    if config.test_corpus is not None:
        return f"If the two corpora use one name for two things: --set test_names=distinct. {other}"
    return other


def _clips(corpus: Corpus, split: str | None) -> Sequence[Clip]:
    return checked_clips(corpus, corpus.clips(split))


def _refuse_same_ids(
    config: RunConfig, corpus: Corpus, splits: Mapping[str, Sequence[Clip]]
) -> None:
    """Raises CorpusError: two clips with one id. Two corpora may use the same one."""
    if config.test_corpus is None:
        refuse_same_ids(corpus, splits)
        return
    for name, clips in splits.items():
        refuse_same_ids(corpus, {name: clips})


def _usable(task: Task, clips: Iterable[Clip], refused: Counter[str]) -> Sequence[Clip]:
    """The clips that the task can use; the others are counted by reason."""

    def used(clip: Clip) -> bool:
        reason = task.refuses(clip)
        if reason:
            refused[reason] += 1
        return not reason

    return those(clips, used)


def _rounds(config: RunConfig, corpus: Corpus, clips: Sequence[Clip]) -> list[Fold]:
    """The folds of a protocol. Clips that may not be tested are trained on in every round, but for
    those that share a group with what that round holds out."""
    held = those(clips, corpus.testable)
    if config.protocol == "kfold":
        folds = splits.kfold(held, config.folds, 0)
    elif config.protocol == "clip-kfold":
        folds = splits.clip_kfold(held, config.folds, 0)
    else:
        folds = splits.leave_one_group_out(held)
    if len(held) == len(clips):
        return folds
    always = [c for c in clips if not corpus.testable(c)]
    rounds = []
    for fold in folds:
        out = {c.group for c in (*fold.dev, *fold.test)}
        more = [c for c in always if c.group not in out]
        rounds.append(replace(fold, train=[*fold.train, *more]))
    return rounds


def _trials(
    corpus: Corpus, split: str, every: Sequence[Clip], clips: Sequence[Clip]
) -> list[Trial]:
    """A split's trials between clips that are there: an unreadable one has no score. every: all
    that the split lists."""
    trials = list(corpus.trials(split))
    check_trials(corpus, split, trials, every)
    there = {c.id for c in clips}
    return [t for t in trials if t.enrol in there and t.test in there]


def _refuse_trials(corpus: Corpus, trials: Mapping[str, Sequence[Trial]]) -> None:
    """Refuse dev or test trials that nothing could be chosen on, or scored.

    Raises:
        CorpusError: no trial of one speaker, or none of two.
    """
    for split, listed in trials.items():
        same = sum(t.same for t in listed)
        if not 0 < same < len(listed):
            raise CorpusError(
                f"{corpus.root}: the {split} split has {len(listed)} trials, {same} of them "
                "of one speaker: both kinds are needed, in dev (to choose the checkpoint) and test"
            )


def _refuse_empty(
    folds: Iterable[Fold], corpus: Corpus, refused: Counter[str], needed: Sequence[str]
) -> None:
    why = "; ".join(f"{reason} ({count})" for reason, count in refused.most_common(5))
    left_out = f" Clips that the task can't use were left out: {why}." if why else ""
    for fold in folds:
        for name in needed:
            if not getattr(fold, name):
                wanted = "train, dev (to tune on) and test" if needed == SPLITS else "a test split"
                raise CorpusError(
                    f"{corpus.root}: the {name} split has no clip. This run needs "
                    f"{wanted}; `bab data check` shows what was found.{left_out}"
                )
