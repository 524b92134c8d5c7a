"""The tables of a Common Voice release: clips with their labels, and durations."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

from bab import CorpusError, did_you_mean
from bab.kit import Faults, gender, lines

# Label -> the columns that hold it, newest release first; a release has at most one of them.
COLUMNS = {
    "accent": ("accents", "accent"),
    "age": ("age",),
    "gender": ("gender",),
    "variant": ("variant",),
    "locale": ("locale",),
}

Labels = dict[str, str]
Row = tuple[str, str, str, Labels]  # client, file name, sentence, labels


def read_rows(path: Path, shared: dict[tuple[str, ...], Labels]) -> Iterator[Row]:
    """The rows of one of the release's tables, which are not quoted as CSV is.

    shared: cells -> labels, added to: rows that say the same share one object.

    Raises:
        CorpusError: naming the file and the line: a missing column, a short or overlong row.
    """
    rows = lines(path)
    header = next(rows, (1, ""))[1].rstrip("\r\n").split("\t")
    for column in ("client_id", "path", "sentence"):
        if column not in header:
            raise CorpusError(f"{path}:1: no column '{column}' ({did_you_mean(column, header)}).")
    width = len(header)
    # A column that this release lacks is read from an empty cell after the last one.
    columns = [[header.index(c) for c in names if c in header] for names in COLUMNS.values()]
    labelled = itemgetter(*(places[0] if places else width for places in columns))
    told = itemgetter(*map(header.index, ("client_id", "path", "sentence")))
    faults = Faults()
    for number, line in rows:
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) != width:
            if not line.strip():
                continue
            faults.say(path, number, f"{len(cells)} cells under {width} columns.")
            continue
        client, name, text = told(cells)
        if not name:
            faults.say(path, number, "the cell 'path' is empty.")
            continue
        cells.append("")
        written = labelled(cells)
        labels = shared.get(written)
        if labels is None:
            kept = dict(zip(COLUMNS, map(str.strip, written), strict=True))
            kept["gender"] = gender(kept["gender"])
            labels = shared[written] = {key: value for key, value in kept.items() if value}
        yield client, name, text.strip(), labels
    faults.refuse()


def read_durations(path: Path) -> dict[str, float]:
    """Clip's name without extension -> seconds; nothing where there is no such file.

    Raises:
        CorpusError: naming the file and the line: a missing column or a bad number.
    """
    durations: dict[str, float] = {}
    if not path.is_file():
        return durations
    rows = lines(path)
    header = next(rows, (1, ""))[1].strip().split("\t")
    if header != ["clip", "duration[ms]"]:
        raise CorpusError(
            f"{path}:1: the columns must be 'clip' and 'duration[ms]', separated by a tab; they "
            f"are: {', '.join(header)}. Correct or remove it: headers are read instead."
        )
    known: dict[str, float] = {}  # as written -> seconds: equal ones are one object
    faults = Faults()
    for number, line in rows:
        name, _, milliseconds = line.rstrip().partition("\t")
        seconds = known.get(milliseconds)
        if seconds is None:
            if not milliseconds.isdecimal():
                faults.say(path, number, f"not a duration in ms: {line.strip()!r}")
                continue
            seconds = known[milliseconds] = int(milliseconds) / 1000
        if seconds:  # 0 = it wasn't measured
            durations[name.rpartition(".")[0] or name] = seconds
    faults.refuse()
    return durations
