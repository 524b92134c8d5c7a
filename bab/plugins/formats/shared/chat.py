"""CHAT's speakers: roles, and what voice type each of them is (CHAT manual, Participants)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from bab import Mark
from bab.plugins.formats.shared.names import LENA, STEMS, kind_of, voice_of

CODE = re.compile(r"[A-Z][A-Z0-9]{0,6}")
_ROLES = {
    "Target_Child": "KCHI",
    **dict.fromkeys(
        ["Child", "Brother", "Sister", "Sibling", "Boy", "Girl", "Friend", "Playmate"], "OCH"
    ),
    **dict.fromkeys(("Mother", "Grandmother", "Female"), "FEM"),
    **dict.fromkeys(("Father", "Grandfather", "Male"), "MAL"),
}
_SEXED = frozenset(  # adults whose sex stands in @ID, or nowhere
    {"Adult", "Target_Adult", "Relative", "Investigator", "Partner", "Visitor", "Caretaker"}
    | {"Teacher", "Doctor", "Nurse", "Host", "Guest", "Participant"}
)
_WRITTEN = {"KCHI": "Target_Child", "OCH": "Child", "FEM": "Female", "MAL": "Male"}
_PARENTS = {"MOT": "Mother", "FAT": "Father"}
_SEX = {"FEM": "female", "MAL": "male"}


class Person(NamedTuple):
    """A participant: code, role, and sex ("female", "male", "")."""

    code: str
    role: str
    sex: str = ""

    @property
    def label(self) -> str:
        """The voice type, or else the code."""
        if self.role in _SEXED and self.sex[:1] in ("f", "m"):
            return "FEM" if self.sex.startswith("f") else "MAL"
        if self.role == "LENA":
            return LENA.get(self.code, self.code)
        return _ROLES.get(self.role) or voice_of(self.code) or self.code

    @property
    def addressee(self) -> str:
        """ChildProject's letter for being spoken to: T the key child, C a child, A an adult."""
        kind = self.label
        letters = {"KCHI": "T", "OCH": "C", "FEM": "A", "MAL": "A"}
        return letters.get(kind, "A" if self.role in _SEXED else "U")


def read_people(participants: str, ids: Iterable[str]) -> dict[str, Person]:
    """@Participants (code, perhaps a name, role; between commas) and @ID lines -> by code."""
    sexes = {}
    for line in ids:
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 4:
            sexes[cells[2]] = cells[4]
    people = {}
    for one in participants.split(","):
        words = one.split()
        if words:
            people[words[0]] = Person(words[0], words[-1], sexes.get(words[0], ""))
    return people


def invent_people(marks: Iterable[Mark], path: object) -> dict[tuple[str, str], Person]:
    """(speaker, label) -> a participant with a code of its own, in order of appearance."""
    marks = list(marks)
    people: dict[tuple[str, str], Person] = {}
    taken: dict[str, str] = {}  # code -> kind: who is the same person to CHAT
    named = {_code(mark.speaker) for mark in marks}  # left to the speakers who are called so
    for mark in marks:
        key = (mark.speaker, mark.label)
        if key in people:
            continue
        kind = kind_of(mark, path)
        wished = _code(mark.speaker or (STEMS[kind] if kind else mark.label or "NA"))
        if not mark.speaker and kind in ("FEM", "MAL", "OCH"):
            wished = "" if f"{wished}1" in named else f"{wished}1"
        code = _free(wished, kind, taken, named)
        taken[code] = kind
        role = _PARENTS.get(code) or _WRITTEN.get(kind, "Unidentified")
        people[key] = Person(code, role, _SEX.get(kind, ""))
    return people


def _code(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())


def _free(wished: str, kind: str, taken: Mapping[str, str], named: Collection[str]) -> str:
    """The code that is wished for, where it is one and nobody else's; else the next of its stem."""
    if CODE.fullmatch(wished) and taken.get(wished, kind) == kind:
        return wished
    stem = STEMS.get(kind, "UN")
    number = 1
    while f"{stem}{number}" in taken or f"{stem}{number}" in named:
        number += 1
    return f"{stem}{number}"
