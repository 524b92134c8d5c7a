"""The contract of an annotation format, as checks that the author of a plugin runs.

    from bab.testing import FormatContract

    class TestMine(FormatContract):
        component = Mine
        samples = (FILE,)      # of a format that is only read, files of its own

Each check takes a `FormatCase`: the class, an empty folder, and sample files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from bab.core.annotations import Annotation, Format, Mark
from bab.core.errors import BabError
from bab.data.annotations import FACETS
from bab.testing.declared import described
from bab.testing.suite import Contract

NEAR = 1e-3 + 1e-9  # seconds by which a time may differ after a round trip
PLAIN = Annotation(
    "home01",
    (
        Mark(12.3456, 13.8, "KCHI"),
        Mark(0.0, 1.2344, "FEM"),
        Mark(1.2344, 2.0, "FEM"),  # touches the one before
        Mark(13.0, 14.25, "MAL"),  # overlaps another voice
        Mark(20.001, 20.012, "OCH"),
        Mark(35999.5, 36000.25, "KCHI"),  # after ten hours
    ),
)
OVERLAP = Annotation("home01", (Mark(1, 4, "FEM"), Mark(2, 3, "FEM"), Mark(2.5, 5, "FEM")))
EMPTY = Annotation("home01", (), 60.0)
# One annotation for each thing that a format may hold, and how it is looked up afterwards.
_ONE = Mark(1.0, 2.0, "FEM")
_FULL: Mapping[str, tuple[Annotation, Callable[[Annotation], object]]] = {
    "speaker": (
        Annotation("home01", (replace(_ONE, speaker="FA2"), Mark(3, 4, "MAL", "MA1"))),
        lambda a: [m.speaker for m in a.marks],
    ),
    "text": (
        Annotation("home01", (replace(_ONE, text='où est l\'élan ? "là"'),)),
        lambda a: a.marks[0].text,
    ),
    "values": (
        Annotation("home01", (replace(_ONE, values={"addressee": "T", "vcm": "C"}),)),
        lambda a: {key: a.marks[0].values.get(key) for key in ("addressee", "vcm")},
    ),
    "duration": (Annotation("home01", (_ONE,), 7.25), lambda a: a.duration),
    "began": (
        Annotation("home01", (_ONE,), began=datetime(2024, 5, 17, 8, 30, 15)),
        lambda a: a.began,
    ),
    "media": (
        Annotation("home01", (_ONE,), media="other.wav"),
        lambda a: Path(a.media).stem,
    ),
    "scored": (Annotation("home01", (_ONE,), scored=((0.5, 3.0), (4.0, 5.0))), lambda a: a.scored),
}


@dataclass(frozen=True)
class FormatCase:
    """A format's class, an empty folder to write in, and files to read."""

    cls: type[Format]
    folder: Path
    samples: Sequence[Path] = ()


def check_format(cls: type[Format], folder: Path, samples: Sequence[Path] = ()) -> None:
    """Every check of this module. folder: an empty one to write in; samples: files to read.

    Raises:
        AssertionError: saying what breaks which rule.
    """
    assert cls.writes or samples, f"{cls.__name__} is read only: give files to read"
    for check in CHECKS:
        check(FormatCase(cls, folder, samples))


def check_declared(case: FormatCase) -> None:
    """Suffixes begin with a dot; what it keeps is known; it is read or written.

    To do: suffixes = (".mine",); keeps = frozenset({"speaker"}), of FACETS in bab.data.annotations.
    """
    cls = case.cls
    assert cls.suffixes and all(s.startswith(".") for s in cls.suffixes), f"suffixes {cls.suffixes}"
    unknown = {key for key in cls.keeps if key not in FACETS and not key.startswith("values.")}
    assert not unknown, f"keeps names {sorted(unknown)}; there are {', '.join(FACETS)}"
    assert cls.reads or cls.writes, "it is neither read nor written"


def check_round_trips(case: FormatCase) -> str | None:
    """Times come back to 1 ms and labels as they were: unsorted, overlapping, of one voice too,
    after ten hours, in a folder and under a name that are not ASCII, and with no mark at all.

    To do: write three decimals of a second; escape what the format's syntax uses.
    """
    cls, folder = case.cls, case.folder
    if not (cls.writes and cls.reads):
        return "it isn't both read and written"
    for name, given in (("plain", PLAIN), ("overlap", OVERLAP), ("empty", EMPTY)):
        back = _there_and_back(cls, given, folder / "élan où" / "é", name)
        _compare(given, back, cls.__name__)
    shuffled = replace(PLAIN, marks=tuple(reversed(PLAIN.marks)))
    path = _place(cls, folder, "shuffled")
    _write(cls, shuffled, path)
    again = _place(cls, folder, "shuffled-again")
    _write(cls, replace(shuffled, uri="shuffled"), again)
    one, two = _read(cls, path), _read(cls, again)
    assert one.marks == two.marks, f"{cls.__name__}: two writes of the same marks differ"
    return None


def check_losses(case: FormatCase) -> str | None:
    """What `keeps` names comes back, and is not complained of; all else costs a notice, unless
    `beside` says that it stands elsewhere.

    To do: begin `write` with bab.fit_annotations, which gives the notices.
    """
    cls, folder = case.cls, case.folder
    if not (cls.writes and cls.reads):
        return "it isn't both read and written"
    bare = cls(cls.Options())
    bare.write([Annotation("home01", (_ONE,))], _place(cls, folder, "bare"))
    assert not bare.notices, f"{cls.__name__}: notices of nothing lost: {bare.notices}"
    for what, (given, look) in _FULL.items():
        form = cls(cls.Options())
        path = _place(cls, folder, f"full-{what}")
        form.write([given], path)
        if what in cls.keeps:
            back = look(_read(cls, path))
            assert back == look(given), f"{cls.__name__} keeps {what}: {look(given)} is {back}"
            assert not form.notices, f"{cls.__name__} keeps {what}, and says: {form.notices}"
        elif what not in cls.beside:  # that stands in an index, which isn't read here
            assert form.notices, f"{cls.__name__} loses {what} without a notice"
    over = replace(PLAIN, marks=(Mark(2.0, 2.0001, "FEM"), _ONE))
    form = cls(cls.Options())
    form.write([over], _place(cls, folder, "short"))
    assert form.notices, f"{cls.__name__} loses a mark of no length without a notice"
    return None


def check_several(case: FormatCase) -> str | None:
    """Several recordings come back apart, or are refused, and then nothing is written. What stood
    there stays where a write fails.

    To do: bab.fit_annotations refuses several; bab.write_text writes whole files.
    """
    cls, folder = case.cls, case.folder
    if not (cls.writes and cls.reads):
        return "it isn't both read and written"
    path = _place(cls, folder, "several")
    two = [PLAIN, replace(OVERLAP, uri="home02")]
    if "several" in cls.keeps:
        cls(cls.Options()).write(two, path)
        back = {one.uri: one for one in cls(cls.Options()).read(path)}
        assert set(back) == {"home01", "home02"}, f"{cls.__name__}: two recordings are {set(back)}"
        for one in two:
            _compare(one, back[one.uri], cls.__name__)
    else:
        _refused(lambda: cls(cls.Options()).write(two, path), path.name, cls)
        assert not path.exists(), f"{cls.__name__}: a refused write left {path.name}"
    cls(cls.Options()).write([replace(PLAIN, uri=path.stem)], path)
    before = path.read_bytes()
    bad = Annotation("home01", (Mark(5.0, 2.0, "FEM"),))
    _refused(lambda: cls(cls.Options()).write([bad], path), path.name, cls)
    assert path.read_bytes() == before, f"{cls.__name__}: a failed write changed the file"
    return None


def check_read_only(case: FormatCase) -> str | None:
    """A format that is only read refuses to write.

    To do: writes = False, and let bab.fit_annotations refuse in `write`.
    """
    cls = case.cls
    if cls.writes:
        return "it is written, too"
    _refused(lambda: cls(cls.Options()).write([PLAIN], _place(cls, case.folder, "no")), "no", cls)
    return None


def check_samples(case: FormatCase) -> str | None:
    """Files of its own read: marks with lengths and labels, inside the recording.

    To do: times in seconds from the beginning of the recording.
    """
    if not case.samples:
        only = "" if case.cls.writes else "it is only read; "
        return f"{only}no files of its own were given (--sample FILE)"
    for sample in case.samples:
        check_read(case.cls, sample)
    return None


def check_read(cls: type[Format], path: Path) -> None:
    """A file reads: marks with lengths and labels; times inside the file's length."""
    back = cls(cls.Options()).read(path)
    assert back, f"{path}: no recording"
    for one in back:
        assert one.uri, f"{path}: a recording without a name"
        for mark in one.marks:
            assert 0 <= mark.start < mark.end, f"{path}: {mark} has no length"
            assert mark.label, f"{path}: {mark} has no label"
            late = one.duration is not None and mark.end > one.duration + NEAR
            assert not late, f"{path}: {mark} ends after {one.duration} s"


def check_bad_files(case: FormatCase) -> str | None:
    """A file that isn't there, is binary, or another kind of text, is an error that names it.

    To do: raise bab.BabError(f"{path}:{line}: what is wrong, and what to do").
    """
    cls, folder = case.cls, case.folder
    if not cls.reads:
        return "it isn't read"
    bad = {
        "binary": b"\x89PNG\r\n\x1a\n\x00\xff\xfe\x00\x80",
        "prose": b"Dear all,\nplease find the annotations attached.\n",
    }
    for name, data in bad.items():
        path = _place(cls, folder, name)
        path.write_bytes(data)
        _refused(lambda path=path: cls(cls.Options()).read(path), path.name, cls)  # type: ignore[misc]
    gone = _place(cls, folder, "gone")
    _refused(lambda: cls(cls.Options()).read(gone), gone.name, cls)
    return None


def check_described(case: FormatCase) -> None:
    """The class has a docstring, and each option a description.

    To do: write them; `bab info NAME` shows them.
    """
    described(case.cls)


CHECKS: tuple[Callable[[FormatCase], str | None], ...] = (
    check_declared,
    check_round_trips,
    check_losses,
    check_several,
    check_read_only,
    check_samples,
    check_bad_files,
    check_described,
)


class FormatContract(Contract):
    """`component` is the class; `samples` are files to read, of a format that is only read."""

    checks: ClassVar = CHECKS
    component: ClassVar[type[Format]]
    samples: ClassVar[Sequence[Path]] = ()

    def subject(self, folder: Path) -> FormatCase:
        return FormatCase(self.component, folder, self.samples)


def _place(cls: type[Format], folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}{cls.suffixes[0]}"


def _write(cls: type[Format], one: Annotation, path: Path) -> None:
    cls(cls.Options()).write([one], path)


def _read(cls: type[Format], path: Path) -> Annotation:
    back = cls(cls.Options()).read(path)
    assert len(back) == 1, f"{path}: holds one recording, and {len(back)} were read"
    return back[0]


def _there_and_back(cls: type[Format], given: Annotation, folder: Path, name: str) -> Annotation:
    path = _place(cls, folder, name)
    _write(cls, given, path)
    left = [other.name for other in path.parent.iterdir() if other.name.startswith(".")]
    assert not left, f"{cls.__name__}: left {left} behind"
    check_read(cls, path)
    return _read(cls, path)


def _compare(given: Annotation, back: Annotation, kind: str) -> None:
    """Marks by label and time, whatever their order among those that begin together."""
    one, two = (sorted((m.label, m.start, m.end) for m in a.marks) for a in (given, back))
    assert len(one) == len(two), f"{kind}: {len(one)} marks have become {len(two)}"
    for (label, start, end), (other, begin, stop) in zip(one, two, strict=True):
        assert label == other, f"{kind}: the label {label} has become {other}"
        near = abs(start - begin) <= NEAR and abs(end - stop) <= NEAR
        assert near, f"{kind}: {label} {start} to {end} s has become {begin} to {stop}"


def _refused(act: Callable[[], object], name: str, cls: type[Format]) -> None:
    try:
        act()
    except BabError as error:
        assert name in str(error), f"{cls.__name__}: the error doesn't name {name}: {error}"
        return
    raise AssertionError(f"{cls.__name__}: {name} was taken; it must be a BabError")
