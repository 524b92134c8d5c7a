"""`bab convert`: annotation files from one format to another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bab.cli.echo import echo
from bab.cli.paths import Place
from bab.core.errors import counted

_SETS = ("labels", "from", "to")


@click.command("convert")
@click.argument("given", metavar="IN", type=Place())
@click.argument("out", metavar="OUT", type=Place())
@click.option("--from", "source", metavar="FORMAT", default="", help="Of IN; default: by suffix.")
@click.option("--to", "target", metavar="FORMAT", default="", help="Of OUT; default: by suffix.")
@click.option(
    "--set",
    "sets",
    metavar="KEY=VALUE",
    multiple=True,
    help="labels.OLD=NEW (NA: leave out), or an option of a format: from.KEY, to.KEY. May repeat.",
)
@click.option("--quiet", is_flag=True, help="No progress, and no word of what is not kept.")
def convert_command(
    given: Path, out: Path, source: str, target: str, sets: tuple[str, ...], quiet: bool
) -> None:
    """Convert annotation files: RTTM, ELAN, TextGrid, CHAT, LENA, ChildProject ...

    IN is a file, or a folder whose annotation files are all converted, relative paths kept. OUT is
    a file, or a folder (then name --to). What a format can't hold is said. A file that can't be
    read is named at the end, the rest goes on, and the exit status is 1. `bab list formats` names
    the formats, `bab info FORMAT` says what one holds.

    \b
    Examples:
      bab convert home1.rttm home1.eaf
      bab convert /data/elan converted --to rttm
      bab convert lena.its home1.csv --to childproject --set from.segments=voices
      bab convert vtc2020.rttm grids --to textgrid --set labels.CHI=OCH --set labels.SPEECH=NA
    """
    from bab.cli.display import ticker
    from bab.data.convert import Conversion, convert, summed

    asked = Conversion(source, target, **_options(sets))
    with ticker(quiet) as display:
        done = convert(given, out, asked, display.tell)
    if not quiet:
        for line in summed(done.notices):
            echo(f"notice: {line}", err=True)
    for error in done.failed:
        echo(f"bab: error: {error}", err=True)
    if not quiet:
        one = f"{done.written[0]}" if len(done.written) == 1 else f"{out}"
        echo(
            f"{counted(len(done.written), 'file')} -> {one}" if done.written else "nothing written"
        )
    if done.failed:
        click.get_current_context().exit(1)


def _options(sets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`--set` of labels and of the two formats, as the fields of a Conversion."""
    from bab.config.files import assignment, merged
    from bab.core.errors import ConfigError

    values: dict[str, Any] = {}
    for text in sets:
        values = merged(values, assignment(text))
    for name, inner in values.items():
        if name not in _SETS or not isinstance(inner, dict):
            known = ", ".join(f"{key}.KEY=VALUE" for key in _SETS)
            raise ConfigError(f"--set {name}: here only {known} have a meaning")
    labels = values.get("labels", {})
    for old, new in labels.items():
        if not isinstance(new, str):
            raise ConfigError(f"--set labels.{old}={new}: expected a label")
    return {"labels": labels, "read": values.get("from", {}), "write": values.get("to", {})}
