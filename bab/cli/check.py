"""`bab check`: does a plugin keep the contract of its kind?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bab.cli.echo import echo
from bab.cli.paths import Place

if TYPE_CHECKING:
    from bab.testing.subjects import Asked
    from bab.testing.suite import Outcome

_SECTIONS = {
    "encoders": "encoder",
    "datasets": "corpus",
    "tasks": "task",
    "heads": "head",
    "objectives": "objective",
}


@click.command("check")
@click.argument("name", metavar="[KIND/]NAME[:WHERE]")
@click.option("--kind", metavar="KIND", help="Of several of one name, which: encoder, task, ...")
@click.option(
    "--set", "sets", metavar="KEY=VALUE", multiple=True, help="Its options: encoder.KEY=VALUE ..."
)
@click.option("--corpus", metavar="NAME[:ROOT]", help="Clips to try a task on; default: a sample.")
@click.option(
    "--sample",
    "samples",
    type=Place(exists=True, dir_okay=False),
    multiple=True,
    help="A file that a format must read.",
)
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
@click.option("--trust-code", is_flag=True, help="Let a hub model's code run.")
@click.pass_context
def check_command(
    context: click.Context,
    name: str,
    kind: str | None,
    sets: tuple[str, ...],
    corpus: str | None,
    samples: tuple[Path, ...],
    offline: bool,
    trust_code: bool,
) -> None:
    """Run the contract suite of its kind on a component.

    NAME is a component as `bab list` shows it, one's own or a built-in. After a colon stand an
    encoder's weights (random ones are quick), a corpus's folder, or a published model. The suite
    is that of `bab.testing`, which a plugin's own tests run with pytest. The exit status is 1 where
    a check fails.

    \b
    Examples:
      bab check hubert:random-tiny
      bab check fbank --set encoder.mels=40
      bab check task/vtc --corpus rttm:/data/homes
      bab check ctc --kind head
      bab check rttm:/data/small --kind corpus
      bab check my-encoder --plugin ./my_encoder.py
    """
    import tempfile

    from bab.core import registry
    from bab.testing.subjects import Asked

    kind, name = _component(name, kind)
    bare, _, where = name.partition(":")
    entry = registry.find(kind, bare)
    echo(f"{registry.KINDS[kind][0]} {name} of {entry.owner} ({entry.value})\n")
    with tempfile.TemporaryDirectory(prefix="bab-check-") as folder:
        asked = Asked(
            kind, bare, Path(folder), where, _options(kind, bare, sets), _corpus(corpus, kind),
            samples, offline, trust_code,
        )  # fmt: skip
        outcomes = []
        for outcome in _outcomes(asked):
            outcomes.append(outcome)
            _show(outcome)
    counts = {verdict: sum(o.verdict == verdict for o in outcomes) for verdict in _WORDS}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    echo(f"\n{len(outcomes)} check{'s' * (len(outcomes) != 1)}: {said}")
    if counts["failed"]:
        context.exit(1)


def _component(name: str, kind: str | None) -> tuple[str, str]:
    """(kind, name) of what is asked for.

    Raises:
        PluginError: nothing of this name, or several kinds have one.
    """
    from bab.core import registry
    from bab.core.errors import PluginError, did_you_mean

    first, slash, rest = name.partition("/")
    words = {*registry.KINDS, *(word for word, _ in registry.KINDS.values()), "dataset"}
    if kind is None and slash and first in words:
        kind, name = first, rest
    bare = name.partition(":")[0]
    if kind is not None:
        return registry.kind_of(kind), name
    kinds = [one for one in registry.KINDS if registry.known(one, bare)]
    if not kinds:
        known = {entry.name for entry in registry.entries()}
        raise PluginError(f"nothing is called '{bare}': {did_you_mean(bare, known)}")
    if len(kinds) > 1:
        each = " or ".join(f"{registry.KINDS[one][0]}/{name}" for one in kinds)
        raise PluginError(f"several components are called '{bare}': say {each}")
    return kinds[0], name


def _options(kind: str, bare: str, sets: Sequence[str]) -> dict[str, Any] | None:
    from bab.config.resolve import component_config
    from bab.core.errors import ConfigError

    if kind == "launchers":
        from bab.launching.asked import open_launcher, split_sets

        own, others = split_sets(sets)
        if others:
            raise ConfigError(f"--set {others[0]}: a launcher's options are launcher.KEY=VALUE")
        return dict(open_launcher(bare, own).options.model_dump())
    section = _SECTIONS.get(kind)
    if section is None:
        if sets:
            raise ConfigError(f"--set {sets[0]}: {kind} have no options here")
        return None
    options: dict[str, Any] = component_config(section, bare, sets)["options"]
    return options


def _corpus(spec: str | None, kind: str) -> Any:
    from bab.config.corpora import open_corpus
    from bab.config.resolve import corpus_config
    from bab.core.errors import ConfigError

    if spec is None:
        return None
    if kind != "tasks":
        raise ConfigError("--corpus is for tasks: clips that the task is tried on")
    return open_corpus(corpus_config(spec))


def _outcomes(asked: Asked) -> Iterator[Outcome]:
    """Of each check; of loading alone, where that fails and it is the component's own fault.

    Raises:
        BabError: weights, a folder or a corpus that the user named and that can't be had.
    """
    from bab.core.errors import BabError, PluginError
    from bab.testing.subjects import suite_of
    from bab.testing.suite import Outcome, run_checks, said_by

    try:
        with _silence():
            suite = suite_of(asked)
    except PluginError as error:
        yield Outcome("loading", "failed", _LOADS, str(error))
        return
    except BabError:
        raise
    except (Exception, SystemExit) as error:
        yield Outcome("loading", "failed", _LOADS, said_by(error))
        return
    for check in suite.checks:
        with _silence():
            (outcome,) = run_checks([check], suite.subject)
        yield outcome


_LOADS = "It can be imported and made, and has the methods that its contract asks for."


@contextmanager
def _silence() -> Iterator[None]:
    """What a component prints or warns of meanwhile is no part of the report."""
    import io
    import warnings

    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


_WORDS = {"ok": "ok", "failed": "FAILED", "not applicable": "-"}


def _show(outcome: Outcome) -> None:
    """Its rule; of a failure also what was expected and came, and what to do."""
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    applies = outcome.verdict != "not applicable"
    told = outcome.rule if applies else f"not applicable: {outcome.told}"
    line = f"{_WORDS[outcome.verdict]:<6} {outcome.name:<12} {told}"
    echo(click.wrap_text(line, width, "", " " * 20))
    if outcome.verdict == "failed":
        echo(_below("here: ", outcome.told, width))
        if outcome.remedy:
            echo(_below("to do: ", outcome.remedy, width))


def _below(word: str, text: str, width: int) -> str:
    return click.wrap_text(word + text, width, " " * 20, " " * (20 + len(word)))
