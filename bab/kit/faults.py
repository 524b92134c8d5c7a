"""What is wrong with the lines of a corpus's files: gathered, so that it is all told at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bab.core.errors import CorpusError

_KEPT = 1000  # mistakes that are told one by one: a long table may have one on every line


class Faults:
    """Mistakes that are raised together: the first as the message, each one as a note of it, which
    `bab data check` lists."""

    def __init__(self) -> None:
        self._kind: type[CorpusError] = CorpusError
        self._told: list[str] = []
        self._more = 0

    def add(self, error: CorpusError) -> None:
        """One more, or all that an error gathered itself."""
        if not self._told:
            self._kind = type(error)
        told = getattr(error, "__notes__", None) or [str(error)]
        room = max(0, _KEPT - len(self._told))
        self._told += told[:room]
        self._more += len(told[room:])

    def say(self, path: Path, number: int, what: str) -> None:
        """One mistake of a line."""
        self.add(CorpusError(f"{path}:{number}: {what}"))

    @contextmanager
    def caught(self) -> Iterator[None]:
        """What is raised inside is one more, and nothing else stops."""
        try:
            yield
        except CorpusError as error:
            self.add(error)

    def refuse(self) -> None:
        """Raise what there is, as its first is raised, if there is anything.

        Raises:
            CorpusError: whose notes are all the mistakes.
        """
        if not self._told:
            return
        count = len(self._told) + self._more
        also = f"\n{count - 1} more of the corpus's mistakes: `bab data check` lists them"
        error = self._kind(self._told[0] + (also if count > 1 else ""))
        for text in self._told:
            error.add_note(text)
        if self._more:
            error.add_note(f"and {self._more} more, of which each looks like these")
        raise error
