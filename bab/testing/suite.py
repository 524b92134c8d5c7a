"""How a contract suite is run: by pytest, or by `bab check` without it.

A check is a function of one thing (a component, or what makes one). It returns nothing where the
rule holds, a few words where the rule has no meaning for the thing, and raises where it is broken.
The first paragraph of its docstring is the rule; one that begins with "To do:" says what to do.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

Check = Callable[[Any], str | None]
Verdict = Literal["ok", "failed", "not applicable"]
_HERE = Path(__file__).parent


class Outcome(NamedTuple):
    """What one check came to. told: what was expected and what came, or why it doesn't apply."""

    name: str
    verdict: Verdict
    rule: str
    told: str = ""
    remedy: str = ""


def name_of(check: Check) -> str:
    """`check_batch` -> "batch"."""
    return str(getattr(check, "__name__", "check")).removeprefix("check_")


def rule_of(check: Check) -> tuple[str, str]:
    """The rule that a check holds, and what to do where it is broken ("" = nothing is said)."""
    paragraphs = inspect.cleandoc(check.__doc__ or "").split("\n\n")
    todo = [text for text in paragraphs[1:] if text.startswith("To do:")]
    remedy = " ".join(todo[0].removeprefix("To do:").split()) if todo else ""
    return " ".join(paragraphs[0].split()), remedy


def run_checks(checks: Sequence[Check], subject: Any) -> Iterator[Outcome]:
    """Every check on one thing, each by itself: whatever a check or the component raises is a
    failure of that check, and the others still run."""
    for check in checks:
        rule, remedy = rule_of(check)
        try:
            why = check(subject)
        except (AssertionError, Exception, SystemExit) as error:
            yield Outcome(name_of(check), "failed", rule, said_by(error), remedy)
        else:
            verdict: Verdict = "not applicable" if why else "ok"
            yield Outcome(name_of(check), verdict, rule, why or "")


def said_by(error: BaseException) -> str:
    """An assertion's own words; of anything else, also its type and where it was raised."""
    text = " ".join(str(error).split())
    if isinstance(error, AssertionError) and text:
        return text
    said = f"it raised {type(error).__name__}: {text}" if text else f"it raised {error!r}"
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if Path(frame.filename).parent != _HERE]
    last = (outside or frames)[-1] if frames else None
    return said if last is None else f"{said} ({Path(last.filename).name}:{last.lineno})"


class Contract:
    """Base of the pytest classes: one test for each check, `test_batch` of `check_batch`.

    A class is subclassed under a name that begins with Test, and says what is checked. A check that
    doesn't apply is skipped with the reason.
    """

    checks: ClassVar[tuple[Check, ...]] = ()

    def subject(self, folder: Path) -> Any:
        """What the checks are handed. folder: an empty one."""
        raise NotImplementedError

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for check in cls.checks:
            name = f"test_{name_of(check)}"
            if not hasattr(cls, name):
                setattr(cls, name, _method(check))


def _method(check: Check) -> Callable[[Contract, Path], None]:
    def test(self: Contract, tmp_path: Path) -> None:
        why = check(self.subject(tmp_path))
        if why:
            import pytest

            pytest.skip(why)

    test.__doc__ = check.__doc__
    return test
