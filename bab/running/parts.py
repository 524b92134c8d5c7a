"""The components of a run, built and found to fit each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bab.config.corpora import open_corpus
from bab.config.run import RunConfig
from bab.core import registry
from bab.core.components import build_task, freeze
from bab.core.errors import ConfigError, NotApplicableError
from bab.core.interfaces import Corpus, Encoder, Head, Objective, Task
from bab.core.types import Clip, Permissions, View
from bab.data import cross_corpus
from bab.data.windows import Examples, regions
from bab.running.assembly import layer_mix, open_encoder
from bab.running.saved import Saved
from bab.running.start import begin


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of a run, built.

    members: the encoders that `encoder` is made of; itself, unless it is an ensemble.
    pooled: the head gets one mean frame per clip.
    start: the trained model that the run begins from, or evaluates; None where it begins anew.
    called: what is trained or evaluated, for records: the encoder, or the model.
    """

    encoder: Encoder
    members: tuple[Encoder, ...]
    task: Task
    corpus: Corpus
    head: type[Head]
    objective: type[Objective]
    view: View
    pooled: bool
    start: Saved | None
    called: str

    def examples(self, clips: Sequence[Clip], encoder: Encoder | None = None) -> Examples:
        """The examples of some clips, as task and view have them. encoder: another than the
        run's."""
        encoder = encoder or self.encoder
        whole = self.task.whole_clips
        return Examples(regions(clips), self.view, encoder.grid, encoder.max_seconds, whole)


def build_parts(config: RunConfig) -> Parts:
    """Load and build every component that the configuration names, and nothing else.

    Raises:
        ConfigError: a corpus that lacks what the task needs, a head of another level, or an
            encoder without frames where the task needs them.
    """
    task, corpus = build_question(config)
    start = begin(config, task)
    head = registry.load("heads", config.head.name)
    _refuse_head(config, task, head)
    objective = registry.load("objectives", config.objective.name)
    if config.mode != "evaluate":
        _refuse_objective(config, task, objective)
    if start is None:
        encoder, members = open_encoder(config.encoder, config.offline, config.trust_code)
    else:
        encoder, members = start.encoder, tuple(start.members)
    _refuse_ensemble(config, task, encoder)
    _refuse_encoder_settings(config, encoder, members)
    if encoder.grid.hop == 0 and not task.one_target:
        raise NotApplicableError(
            f"task '{config.task.name}' needs frames, but '{encoder.resolved}' as set gives one "
            "vector per clip (`bab info ENCODER` lists its options)"
        )
    view = config.view.view()
    pooled = _pooled(config, view, task, head)
    called = encoder.resolved
    if config.mode == "evaluate" and start is not None:
        pooled, called = bool(start.spec["pool"]), start.name
    return Parts(encoder, members, task, corpus, head, objective, view, pooled, start, called)


def build_question(config: RunConfig) -> tuple[Task, Corpus]:
    """What is asked, without who is to answer: the task and its corpus.

    Raises:
        NotApplicableError: a corpus that lacks what the task needs.
    """
    task = build_task(config.task.name, config.task.options)
    corpus = _corpus(config)
    _refuse_corpus(config, task, corpus)
    return task, corpus


def _pooled(config: RunConfig, view: View, task: Task, head: type[Head]) -> bool:
    """Does the head get one mean frame per clip? As the view says, or because a linear head gives
    the same from means as from frames, and means are all that has to be kept of frozen features."""
    if view.pool == "mean" or config.encoder.fusion:
        return True
    whole = view.train_seconds is None
    return config.mode == "probe" and head.linear and whole and task.one_output


def _corpus(config: RunConfig) -> Corpus:
    """The corpus, or the two: one to train and tune on, one to test on."""
    permissions = Permissions(config.offline, config.allow_leakage)
    corpus = open_corpus(config.corpus, permissions)
    if config.test_corpus is None:
        return corpus
    cross_corpus.check_protocol(config.protocol)
    tested = open_corpus(config.test_corpus, permissions)
    return cross_corpus.Across(corpus, tested, config.test_names == "distinct")


def _refuse_corpus(config: RunConfig, task: Task, corpus: Corpus) -> None:
    task.suit(corpus.provides)
    missing = task.needs - corpus.provides
    if missing:
        there = ", ".join(sorted(corpus.provides)) or "audio alone"
        raise NotApplicableError(
            f"task '{config.task.name}' needs {', '.join(sorted(missing))}, which corpus "
            f"'{config.corpus_name}' does not provide (it has {there})"
        )


def _refuse_head(config: RunConfig, task: Task, head: type[Head]) -> None:
    if task.level not in head.level:
        raise ConfigError(
            f"head '{config.head.name}' gives {' or '.join(head.level)} outputs; task "
            f"'{config.task.name}' needs one for level '{task.level}'"
        )
    if head.closed_form and config.mode == "finetune":
        raise ConfigError(f"head '{config.head.name}' is solved, not trained: use --mode probe")
    if task.pairs and config.protocol != "given":
        raise ConfigError("trial lists belong to given splits: use protocol=given")


def _refuse_objective(config: RunConfig, task: Task, objective: type[Objective]) -> None:
    """Raises ConfigError: a loss that learns from audio alone, or from another kind of target."""
    name, own = config.objective.name, task.objective or "none of its own"
    if objective.pretrains:
        raise ConfigError(
            f"objective '{name}' learns from audio alone: `bab pretrain` uses it. Task "
            f"'{config.task.name}' has {own}"
        )
    if objective.level and task.level not in objective.level:
        raise ConfigError(
            f"objective '{name}' is for tasks of level {' or '.join(objective.level)}; task "
            f"'{config.task.name}' is of level {task.level}, and has {own}"
        )


def _refuse_ensemble(config: RunConfig, task: Task, encoder: Encoder) -> None:
    """Raises NotApplicableError: a task that needs frames. ConfigError: fine-tuning."""
    if not config.encoder.fusion:
        return
    if not task.one_output:
        raise NotApplicableError(
            f"ensemble '{encoder.resolved}' gives one vector per clip; task '{config.task.name}' "
            "needs frames: name one encoder"
        )
    if config.mode == "finetune":
        raise ConfigError(
            f"ensemble '{encoder.resolved}': its members stay frozen: use --mode probe"
        )


def _refuse_encoder_settings(
    config: RunConfig, encoder: Encoder, members: Sequence[Encoder]
) -> None:
    """What can be known to fail before anything slow begins, and before a folder is made.

    Raises:
        ConfigError: a layer, a frozen part or a window that this encoder doesn't have.
    """
    layer_mix(members, config.layers)
    if config.mode == "finetune":
        freeze(encoder, config.freeze)
    view, several = config.view, bool(config.encoder.fusion)
    if config.mode == "probe" and view.train_seconds and (view.pool == "mean" or several):
        raise ConfigError(
            f"view.train_seconds={view.train_seconds:g}: of pooled features no part can be "
            "cropped; leave it out, or use --mode finetune"
        )
    window = config.view.window
    for member in members:
        field = member.grid.span(0)
        if window is not None and member.grid.hop and window < field[1] - field[0]:
            raise ConfigError(
                f"view.window={window}: one frame of '{member.resolved}' takes in "
                f"{field[1] - field[0]:g} s; a window can't be shorter"
            )
