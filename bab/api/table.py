"""`bab.table`: the results of many runs as a pandas frame."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from bab.core.atomic import StrPath
from bab.core.errors import BabError
from bab.core.record import Record

if TYPE_CHECKING:
    from bab.results.audit import Audit


def table(
    runs: StrPath | Sequence[Record] = "runs",
    *,
    detail: bool = False,
    superb: StrPath | None = None,
    compare: Sequence[str] = (),
    view: Literal["subgroups", "recordings", "layers"] | None = None,
    audit: bool = False,
    audits: Sequence[Audit] = (),
    baseline: str = "fbank",
) -> Any:
    """The results of runs as a pandas frame, a line per cell of `bab table`.

    >>> bab.table("runs")[["encoder", "label", "metric", "value", "low", "high"]]
    >>> bab.table("runs").pivot(index="encoder", columns="label", values="value")
    >>> bab.table("runs", compare=["hubert:base", "fbank"])

    The columns are those of `bab table --format csv` with the same options.

    Args:
        runs: a folder of runs, a run, or records.
        detail: of one run, all its scores.
        superb: a CSV file of SUPERB's leaderboard in place of runs.
        compare: two encoders or more, every two of them, paired.
        view: scores by "subgroups", "recordings" or "layers".
        baseline: the encoder that relative scores start from.
        audit: beside results, what `bab audit` found in the folder; or give `audits`.

    Raises:
        BabError: no pandas (`pip install pandas`), no finished run, an unknown encoder.
    """
    frame = _pandas()
    text = _csv(runs, detail, superb, compare, view, audit, audits, baseline)
    # An empty field is a missing value; "NA" and "nan" may be names.
    return frame.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise BabError(
            "bab.table gives a pandas frame, and pandas isn't installed: pip install pandas. "
            "`bab table --format csv` does without"
        ) from None
    return pandas


def _csv(
    runs: StrPath | Sequence[Record],
    detail: bool,
    superb: StrPath | None,
    compare: Sequence[str],
    view: Literal["subgroups", "recordings", "layers"] | None,
    audit: bool,
    audits: Sequence[Audit],
    baseline: str,
) -> str:
    from bab.results import breakdown, record
    from bab.results.audit import collect

    if superb is not None:
        from bab.results.superb import leaderboard

        return leaderboard(Path(superb).expanduser(), "csv")
    # A `Run` is a tuple, too.
    folder = Path(os.fspath(runs)).expanduser() if isinstance(runs, (str, os.PathLike)) else None
    records = list(cast(Sequence[Record], runs)) if folder is None else record.collect(folder)[0]
    if not records:
        raise BabError("no records" if folder is None else f"no finished run in {folder}")
    if detail:
        from bab.results.detail import detail as whole

        if len(records) > 1:
            raise BabError(f"detail is of one run, and there are {len(records)} in {runs}")
        return whole(records[0], "csv")
    if compare:
        return breakdown.versus(records, list(compare), "csv")
    if view:
        return breakdown.show(records, view, "csv")
    from bab.results.table import table as cells

    if audit and folder is not None:
        audits = collect(folder)
    return cells(records, "csv", audits, baseline)
