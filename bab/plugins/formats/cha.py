"""Format `cha`: CHAT transcripts, as CLAN and TalkBank have them, with times in bullets.

*CHI:	baba . ·12340_13840·
%xds:	T
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import ClassVar

from pydantic import Field

import bab
from bab import Annotation, BabError, Mark
from bab.plugins.formats.shared.chat import Person, invent_people, read_people
from bab.plugins.formats.shared.files import check_span, lines, milliseconds, one_line

_BULLET = re.compile(r'\s*\x15(?:%\w+:"[^"]*"_)?(\d+)_(\d+)-?\x15')
_END = re.compile(r"(?:^|\s)(?:[.?!]|\+\S+)(?=\s|$)")  # a terminator: . ? ! +... +/.
# Dependent tiers that CHAT defines; all others begin with x.
_OWN = frozenset(
    {"mor", "gra", "add", "act", "cod", "com", "eng", "err", "exp", "fac", "flo", "gpx", "gls"}
    | {"int", "lan", "mod", "ort", "par", "pho", "sin", "sit", "spa", "tim", "trn", "wor"}
)
_NOTHING = ("www", "not transcribed")  # CHAT's sign, and %exp that has to explain it
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]


class Cha(bab.Format):
    """CHAT (.cha). A mark without text is written `www`, with `%exp: not transcribed`.

    Voice types are roles: Target_Child, Child, Female, Male. Utterances without times are left out.
    """

    class Options(bab.Options):
        """Options of the format `cha`."""

        language: str = Field(
            "und", pattern="^[a-z]{3}$", description="@Languages when writing: an ISO 639-3 code"
        )

    suffixes: ClassVar[tuple[str, ...]] = (".cha",)
    keeps: ClassVar[frozenset[str]] = frozenset({"speaker", "text", "values", "began", "media"})
    source: ClassVar[str] = "CHAT manual, talkbank.org (MacWhinney 2000)"

    def read(self, path: Path) -> list[Annotation]:
        header: dict[str, list[str]] = {}
        spoken: list[tuple[str, str, str, dict[str, str]]] = []  # place, code, text, dependent
        for number, name, text in _entries(path):
            place = f"{path}:{number}"
            if name.startswith("@"):
                header.setdefault(name, []).append(text)
            elif name.startswith("*"):
                spoken.append((place, name[1:], text, {}))
            elif name.startswith("%") and spoken:
                spoken[-1][3][name[1:]] = text
            else:
                raise BabError(f"{place}: {name} belongs to no utterance: it must follow one")
        if "@Begin" not in header:
            raise BabError(f"{path}:1: there is no @Begin: not a CHAT transcript")
        people = read_people(header.get("@Participants", [""])[0], header.get("@ID", []))
        marks = [mark for one in spoken for mark in _mark(*one, people)]
        if len(marks) < len(spoken):
            self.notices.append(f"{len(spoken) - len(marks)} utterances without times left out")
        media = header.get("@Media", [""])[0].partition(",")[0].strip().strip('"')
        return [Annotation(path.stem, tuple(marks), began=_began(header), media=media)]

    def write(self, annotations: Sequence[Annotation], path: Path) -> None:
        (one,) = bab.fit_annotations(self, annotations, path)
        people = invent_people(one.marks, path)
        renamed = {who for (who, _), p in people.items() if who not in ("", p.code)}
        if renamed:
            self.notices.append(f"Cha has codes for speakers: {len(renamed)} names were changed")
        everyone = list(dict.fromkeys(people.values())) or [Person("CHI", "Target_Child")]
        rows = ["@UTF8", "@Begin", f"@Languages:\t{self.options.language}"]
        rows.append("@Participants:\t" + ", ".join(f"{p.code} {p.role}" for p in everyone))
        rows += [
            f"@ID:\t{self.options.language}|bab|{p.code}||{p.sex}|||{p.role}|||" for p in everyone
        ]
        media = Path(one.media.replace("\\", "/")).stem or one.uri
        rows.append(f"@Media:\t{one_line(media)}, audio")
        if isinstance(one.began, datetime):
            day = one.began
            rows.append(f"@Date:\t{day.day:02}-{_MONTHS[day.month - 1]}-{day.year:04}")
        if one.began is not None:
            rows.append(f"@Time Start:\t{one.began:%H:%M:%S}")
        for mark in one.marks:
            rows += _rows(mark, people[mark.speaker, mark.label].code)
        bab.write_text(path, "".join(f"{row}\n" for row in [*rows, "@End"]))


def _entries(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, name, text): `*CHI`, `%mor` or `@Media`, and what follows it, continuations joined."""
    entry: tuple[int, str, str] | None = None
    for number, line in lines(path):
        if line[:1] in ("\t", " ") and entry:
            entry = (*entry[:2], f"{entry[2]} {line.strip()}")
        elif line.strip():
            if entry:
                yield entry
            if line[0] not in "@*%":
                raise BabError(
                    f"{path}:{number}: not a line of CHAT, which begin with @, *, % or a tab: "
                    f"{line[:80]!r}"
                )
            name, colon, text = line.partition(":")
            if line[0] != "@" and not colon:
                raise BabError(f"{path}:{number}: no colon after the name: {line[:80]!r}")
            entry = (number, name.strip(), text.strip())
    if entry:
        yield entry


def _mark(
    place: str, code: str, text: str, tiers: Mapping[str, str], people: Mapping[str, Person]
) -> Iterator[Mark]:
    """The mark of one utterance; none where it has no times."""
    times = _BULLET.findall(text)
    text = _BULLET.sub("", text).strip()
    if "\x15" in text:
        raise BabError(f"{place}: a bullet that isn't START_END in milliseconds: {text!r:.90}")
    if not times:
        return
    start, end = check_span(int(times[0][0]) / 1000, int(times[-1][1]) / 1000, place)
    values = {_key(name): value for name, value in tiers.items()}
    if "add" in values and "addressee" not in values:
        codes = [each.strip() for each in values["add"].split(",")]
        letters = {people[c].addressee if c in people else "U" for c in codes}
        values["addressee"] = ",".join(sorted(letters))
    text = text.removesuffix(" .") if text != "." else ""
    if text == _NOTHING[0]:
        text = ""
        if values.get("exp") == _NOTHING[1]:
            del values["exp"]
    label = people[code].label if code in people else code
    yield Mark(start, end, label, code, text, values)


def _key(tier: str) -> str:
    if tier == "xds":
        return "addressee"
    return tier[1:] if tier.startswith("x") and tier not in _OWN else tier


def _rows(mark: Mark, code: str) -> Iterator[str]:
    text, values = one_line(mark.text).strip(), dict(mark.values)
    if not text:
        text = _NOTHING[0]
        values.setdefault("exp", _NOTHING[1])
    if not _END.search(text):
        text += " ."
    yield f"*{code}:\t{text} \x15{milliseconds(mark.start)}_{milliseconds(mark.end)}\x15"
    for key, value in values.items():
        tier = "xds" if key == "addressee" else key if key in _OWN else f"x{key}"
        if value.strip():
            yield f"%{tier}:\t{one_line(value).strip()}"


def _began(header: Mapping[str, list[str]]) -> datetime | time | None:
    """@Time Start, with @Date (12-SEP-2016) where there is one; a date alone is no clock."""
    clock = re.match(r"(\d\d?):(\d\d)(?::(\d\d))?", header.get("@Time Start", [""])[0])
    day = re.match(r"(\d\d?)-([A-Z]{3})-(\d{4})", header.get("@Date", [""])[0].upper())
    try:
        start = time(int(clock[1]), int(clock[2]), int(clock[3] or 0)) if clock else None
        if start and day and day[2] in _MONTHS:
            return datetime.combine(
                date(int(day[3]), _MONTHS.index(day[2]) + 1, int(day[1])), start
            )
        return start
    except ValueError:  # the 31st of February
        return None
