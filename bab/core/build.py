"""A resolved configuration -> the components, the device and the data of a run."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bab.core import across, members, registry, splits
from bab.core.content import cache_root, content_id, corpus_digest
from bab.core.datacheck import bad_files
from bab.core.device import accelerator as accelerator
from bab.core.device import resolve_device as resolve_device
from bab.core.ensemble import Ensemble, members_of, mix_of
from bab.core.errors import AudioError, ConfigError, CorpusError, LeakageError, NotApplicableError
from bab.core.interfaces import Corpus, Encoder, Head, Objective, Task
from bab.core.model import freeze
from bab.core.permissions import allowing
from bab.core.records import Clip, Trial, View
from bab.core.schema import CorpusConfig, EncoderConfig, RunConfig
from bab.core.splits import Fold

Progress = Callable[[float, float], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of a run, built."""

    encoder: Encoder
    task: Task
    corpus: Corpus
    head: type[Head]
    objective: type[Objective]
    view: View


@dataclass(frozen=True, slots=True)
class Data:
    """The clips of a run by fold, and what stands for their content."""

    folds: list[Fold]
    clips: list[Clip]  # of all splits, each once, in the corpus's order
    skipped: dict[str, str]  # file -> why it was left out
    refused: dict[str, int]  # why the task can't use clips -> how many
    trials: dict[str, list[Trial]]  # of dev and test (pair tasks only)
    digest: str
    leakage: str = ""  # what train shares with dev or test, where that was allowed


def parts(config: RunConfig) -> Parts:
    """Load and build every component that the configuration names, and nothing else.

    Raises:
        ConfigError: a corpus that lacks what the task needs, a head of another level, or an
            encoder without frames where the task needs them.
    """
    task = build_task(config)
    corpus = _corpus(config)
    task.suit(corpus.provides)
    missing = task.needs - corpus.provides
    if missing:
        raise NotApplicableError(
            f"task '{config.task.name}' needs {', '.join(sorted(missing))}, which corpus "
            f"'{config.corpus_name}' does not provide (it has {', '.join(sorted(corpus.provides))})"
        )
    head = registry.load("heads", config.head.name)
    if task.level not in head.level:
        raise ConfigError(
            f"head '{config.head.name}' gives {' or '.join(head.level)} outputs; task "
            f"'{config.task.name}' needs one for level '{task.level}'"
        )
    objective = registry.load("objectives", config.objective.name)
    if head.closed_form and config.mode != "probe":
        raise ConfigError(f"head '{config.head.name}' is solved, not trained: use --mode probe")
    if task.level == "pair" and config.protocol != "given":
        raise ConfigError("trial lists belong to given splits: use protocol=given")
    encoder = build_encoder(config.encoder, config.offline, config.trust_code)
    if isinstance(encoder, Ensemble):
        _refuse_ensemble(config, task, encoder)
    _refuse_encoder_settings(config, encoder)
    if encoder.grid.hop == 0 and task.level in ("frame", "sequence"):
        raise NotApplicableError(
            f"task '{config.task.name}' needs frames, but '{encoder.resolved}' as set gives one "
            "vector per clip (`bab info ENCODER` lists its options)"
        )
    return Parts(encoder, task, corpus, head, objective, config.view.view())


def _refuse_encoder_settings(config: RunConfig, encoder: Encoder) -> None:
    """What can be known to fail before anything slow begins, and before a folder is made.

    Raises:
        ConfigError: a layer, a frozen part or a window that this encoder doesn't have.
    """
    mix_of(encoder, config.layers)
    if config.mode == "finetune":
        freeze(encoder, config.freeze)
    view, several = config.view, isinstance(encoder, Ensemble)
    if config.mode == "probe" and view.train_seconds and (view.pool == "mean" or several):
        raise ConfigError(
            f"view.train_seconds={view.train_seconds:g}: of pooled features no part can be "
            "cropped; leave it out, or use --mode finetune"
        )
    window = config.view.window
    for member in members_of(encoder):
        field = member.grid.span(0)
        if window is not None and member.grid.hop and window < field[1] - field[0]:
            raise ConfigError(
                f"view.window={window}: one frame of '{member.resolved}' takes in "
                f"{field[1] - field[0]:g} s; a window can't be shorter"
            )


def _refuse_ensemble(config: RunConfig, task: Task, encoder: Ensemble) -> None:
    """Raises NotApplicableError: a task that needs frames. ConfigError: fine-tuning."""
    if task.level != "clip":
        raise NotApplicableError(
            f"ensemble '{encoder.resolved}' gives one vector per clip; task '{config.task.name}' "
            "needs frames: name one encoder"
        )
    if config.mode != "probe":
        raise ConfigError(
            f"ensemble '{encoder.resolved}': its members stay frozen: use --mode probe"
        )


def build_task(config: RunConfig) -> Task:
    cls = registry.load("tasks", config.task.name)
    task: Task = cls(cls.Options(**config.task.options))
    return task


def _corpus(config: RunConfig) -> Corpus:
    """The corpus, or the two: one to train and tune on, one to test on."""
    with allowing(config.offline, config.allow_leakage):
        corpus = build_corpus(config.corpus)
        if config.test_corpus is None:
            return corpus
        across.check_protocol(config.protocol)
        tested = build_corpus(config.test_corpus)
    return across.Across(corpus, tested, config.test_names == "distinct")


def build_corpus(config: CorpusConfig) -> Corpus:
    """A corpus at its root, or its shipped sample.

    Raises:
        ConfigError: no root was named and no sample of this layout ships.
        CorpusError: the root isn't there (nor can be a name on a hub); a corpus that needs a
            folder, or takes a file, says so itself.
    """
    cls = registry.load("datasets", config.name)
    root = cls.sample if config.root is None else Path(config.root).expanduser()
    if root is None:
        raise ConfigError(
            f"corpus '{config.name}' ships no sample: name its folder, {config.name}:PATH"
        )
    if root.exists():
        root = root.resolve()
    elif not cls.hub:
        raise CorpusError(f"{root}: there is no such folder or file (corpus '{config.name}')")
    corpus: Corpus = cls(root, cls.Options(**config.options))
    corpus.name = config.name
    return corpus


def build_encoder(config: EncoderConfig, offline: bool, trust_code: bool) -> Encoder:
    """An encoder with the weights that were named, or its default ones; an ensemble, of all its
    members."""
    several = members.split(config.name)
    if len(several) > 1:
        built = [
            build_encoder(_member(spec, config.options), offline, trust_code) for spec in several
        ]
        return Ensemble(built, config.options["fusion"])
    cls = registry.load("encoders", config.name)
    encoder: Encoder = cls.load(
        config.weights or cls.default,
        cls.Options(**config.options),
        offline=offline,
        trust_code=trust_code,
    )
    return encoder.eval()


def _member(spec: str, options: Mapping[str, Any]) -> EncoderConfig:
    """A member of an ensemble: `ast:base`, and the options under its name."""
    name, _, weights = spec.partition(":")
    return EncoderConfig(name=name, weights=weights, options=options[name])


def data(
    config: RunConfig,
    task: Task,
    corpus: Corpus,
    progress: Callable[[str, float, float], None],
) -> Data:
    """The run's clips: those the task can't use left out, unreadable files found, splits made and
    checked for leakage and for what training never met.

    Raises:
        AudioError: unreadable files, unless `skip_bad`.
        CorpusError: a split without a clip, a class that training lacks, or (LeakageError) a group
            or voice in two splits.
    """
    refused: Counter[str] = Counter()
    given: dict[str, list[Clip]] = {}
    with allowing(config.offline, config.allow_leakage):
        if config.protocol == "given":
            names = ("train", "dev", "test")
            given = {name: _usable(task, corpus.clips(name), refused) for name in names}
            listed = [c for part in given.values() for c in part]
        else:
            listed = _usable(task, corpus.clips(None), refused)
    skipped = bad_files(listed, lambda done, total: progress("checking files", done, total))
    if skipped and not config.skip_bad:
        shown = "\n  ".join(list(skipped.values())[:5])
        more = f"\n  and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        raise AudioError(
            f"{len(skipped)} unreadable file(s):\n  {shown}{more}\n"
            "Mend them (`bab data check` lists all), or leave them out with --skip-bad"
        )
    kept = [c for c in listed if c.path not in skipped]
    trials: dict[str, list[Trial]] = {}
    if config.protocol != "given":
        folds = _rounds(config, corpus, kept)
    else:
        good = {name: [c for c in part if c.path not in skipped] for name, part in given.items()}
        folds = [Fold(good["train"], good["dev"], good["test"])]
        if task.level == "pair":
            trials = {name: _trials(corpus, name, good[name]) for name in ("dev", "test")}
    leakage = _leakage(config, folds)
    _refuse_empty(folds, corpus, refused)
    for fold in folds:
        labels = task.fit(fold.train)
        for split in ("dev", "test"):
            task.check(labels, getattr(fold, split), split)
    content = _content(kept, lambda done, total: progress("taking checksums", done, total))
    if config.test_corpus is not None:
        twice = across.same_audio(folds[0], content)
        if twice and not config.allow_leakage:
            raise LeakageError(f"{twice}. Leave one of them out, or mark it with --allow-leakage")
        leakage = " ".join(filter(None, [leakage, twice and f"LEAKAGE (allowed): {twice}."]))
    digest = corpus_digest(kept, folds, trials, content)
    return Data(folds, kept, skipped, dict(refused.most_common()), trials, digest, leakage)


def _leakage(config: RunConfig, folds: Sequence[Fold]) -> str:
    """What the folds' splits share, where the user has allowed it; "" where that is nothing.

    Raises:
        LeakageError: they share something, and --allow-leakage was not given.
    """
    found: dict[str, set[str]] = {}
    for fold in folds:
        parts = {name: getattr(fold, name) for name in ("train", "dev", "test")}
        for one in splits.shared(parts):
            if not config.allow_leakage:
                raise LeakageError(f"{splits.leak(one, parts)} {_remedy(config)}")
            found.setdefault(one.kind, set()).add(one.name)
    told = ", ".join(f"{len(names)} {kind}(s)" for kind, names in found.items())
    return f"LEAKAGE (allowed): {told} stand in two splits." if told else ""


def _remedy(config: RunConfig) -> str:
    other = "Where that is the point, as in speaker identification, --allow-leakage marks it."
    if config.protocol == "clip-kfold":
        return f"protocol=kfold does so. {other}"
    if config.test_corpus is not None:
        return f"If the two corpora use one name for two things: --set test_names=distinct. {other}"
    return other


def _usable(task: Task, clips: Iterable[Clip], refused: Counter[str]) -> list[Clip]:
    """The clips that the task can use; the others are counted by reason."""
    kept = []
    for clip in clips:
        reason = task.refuses(clip)
        if reason:
            refused[reason] += 1
        else:
            kept.append(clip)
    return kept


def _rounds(config: RunConfig, corpus: Corpus, clips: Sequence[Clip]) -> list[Fold]:
    """The folds of a protocol. Clips that may not be tested are trained on in every round, but for
    those that share a group with what that round holds out."""
    held = [c for c in clips if corpus.testable(c)]
    if config.protocol == "kfold":
        folds = splits.kfold(held, config.folds, 0)
    elif config.protocol == "clip-kfold":
        folds = splits.clip_kfold(held, config.folds, 0)
    else:
        folds = splits.leave_one_group_out(held)
    always = [c for c in clips if not corpus.testable(c)]
    found = []
    for fold in folds:
        out = {c.group for c in (*fold.dev, *fold.test)}
        found.append(replace(fold, train=[*fold.train, *(c for c in always if c.group not in out)]))
    return found


def _trials(corpus: Corpus, split: str, clips: Sequence[Clip]) -> list[Trial]:
    """A split's trials between clips that are there: an unreadable one has no score."""
    there = {c.id for c in clips}
    return [t for t in corpus.trials(split) if t.enrol in there and t.test in there]


def check_trials(parts: Parts, found: Data) -> None:
    """Refuse dev or test trials that nothing could be chosen on, or scored.

    Raises:
        CorpusError: no trial of one speaker, or none of two.
    """
    for split, trials in found.trials.items():
        same = sum(t.same for t in trials)
        if not 0 < same < len(trials):
            raise CorpusError(
                f"{parts.corpus.root}: the {split} split has {len(trials)} trials, {same} of them "
                "of one speaker: both kinds are needed, in dev (to choose the checkpoint) and test"
            )


def _refuse_empty(folds: Iterable[Fold], corpus: Corpus, refused: Counter[str]) -> None:
    why = "; ".join(f"{reason} ({count})" for reason, count in refused.most_common(5))
    left_out = f" Clips that the task can't use were left out: {why}." if why else ""
    for fold in folds:
        for name in ("train", "dev", "test"):
            if not getattr(fold, name):
                raise CorpusError(
                    f"{corpus.root}: the {name} split has no clip. Every run needs train, dev (to "
                    f"tune on) and test; `bab data check` shows what was found.{left_out}"
                )


def _content(clips: Sequence[Clip], progress: Progress) -> dict[str, str]:
    """Path -> a hash of the audio that is there."""
    paths = list(dict.fromkeys(c.path for c in clips))
    content = {}
    for done, path in enumerate(paths, start=1):
        content[path] = content_id(Path(path), content_memo())
        progress(done, len(paths))
    return content


def content_memo() -> Path:
    """Where content ids of files seen before are kept."""
    return cache_root() / "content"


def feature_folder(config: RunConfig) -> Path:
    """Where cached features are kept: `cache.dir`, or the user's cache folder."""
    return Path(config.cache.dir).expanduser() if config.cache.dir else cache_root() / "features"


def run_id(config: RunConfig, parts: Parts, digest: str) -> str:
    """12 hex digits: a hash of all that the result depends on. Where the corpus lies is left out:
    its digest stands for what is in it."""
    identity = config.identity()
    for section in ("corpus", "test_corpus"):
        identity.get(section, {}).pop("root", None)
    facts = [identity, parts.encoder.fingerprint, parts.task.version, parts.corpus.version, digest]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=6).hexdigest()


def run_folder(config: RunConfig, parts: Parts, identifier: str) -> Path:
    """runs/<task>/<corpus>/<encoder>/<id>."""
    corpus = "-to-".join(
        f"{c.name}-{'sample' if c.root is None else Path(c.root).expanduser().name}"
        for c in (config.corpus, config.test_corpus)
        if c is not None
    )
    return place(config.runs, config.task.name, corpus, parts.encoder.resolved, identifier)


def place(runs: str, what: str, corpus: str, resolved: str, identifier: str) -> Path:
    """runs/<what>/<corpus>/<encoder>/<id>, in names that every file system takes."""
    names = (what, corpus, _short(resolved), identifier)
    return Path(runs).joinpath(*(_slug(name) for name in names))


def _short(resolved: str) -> str:
    """`hubert:/long/path/to/checkpoint+ast:base` -> `hubert-checkpoint+ast-base`."""
    short = []
    for spec in members.split(resolved):
        name, _, weights = spec.partition(":")
        short.append(f"{name}-{Path(weights).name}" if weights else name)
    return "+".join(short)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.") or "x"
