"""The command line, a file for each command. Importing it imports click and nothing heavy."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click

from bab import __version__
from bab.cli.audit import audit_command
from bab.cli.bench import bench_command
from bab.cli.check import check_command
from bab.cli.convert import convert_command
from bab.cli.data import data_group
from bab.cli.echo import echo
from bab.cli.embed import embed_command
from bab.cli.explain import explain_command
from bab.cli.export import export_command
from bab.cli.info import info_command
from bab.cli.listing import list_command
from bab.cli.new import new_command
from bab.cli.plugins import forgotten_after, takes_plugins
from bab.cli.predict import predict_command
from bab.cli.prepare import prepare_command
from bab.cli.pretrain import pretrain_command
from bab.cli.run import run_command
from bab.cli.table import table_command
from bab.cli.targets import targets_command
from bab.core.errors import BabError

_INTERRUPTED = 130  # 128 + SIGINT, as shells count
_PIPE_CLOSED = 141  # 128 + SIGPIPE


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bab", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; also at the end.")
def cli(debug: bool) -> None:
    """Train, adapt and compare self-supervised audio encoders on child-centred speech.

    \b
    Begin with:
      bab run --encoder hubert --task vtc    on the recordings that ship with bab
      bab run --encoder hubert --task vtc --corpus rttm:/data/homes
      bab table                              all results, side by side
      bab list                               what there is
      bab info vtc                           what one of them is, and its options
    """


for _command in (
    run_command,
    pretrain_command,
    bench_command,
    audit_command,
    table_command,
    predict_command,
    export_command,
    embed_command,
    explain_command,
    convert_command,
    prepare_command,
    targets_command,
    list_command,
    info_command,
    check_command,
    new_command,
    data_group,
):
    cli.add_command(_command)
    if _command not in (table_command, prepare_command, new_command):
        for _taking in getattr(_command, "commands", {"": _command}).values():
            takes_plugins(_taking)


def _leave_group() -> None:
    """Under torchrun: close the connections to the other processes in order. Left to the end of the
    interpreter, a thread of theirs may outlive what it needs, and the process aborts (gloo)."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available():
        return
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


@contextmanager
def _ends_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP (a scheduler's limit, a terminal that is closed) end a command as Ctrl-C
    does: files and worker processes are closed. One that is ignored (nohup) stays so."""

    def stop(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {}
    try:
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    except ValueError:  # not the main thread
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit status is returned.

    A user's mistake is one message on standard error. A traceback is a fault of bab or a plugin.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    own = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in own
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and out.errors == "strict":
        # Where a terminal has no ↑ (no UTF-8), its code is shown, as on standard error.
        out.reconfigure(errors="backslashreplace")
    with _ends_in_order(), forgotten_after():
        return _main([*(a for a in own if a != "--debug"), *given[len(own) :]], debug)


def _main(arguments: Sequence[str], debug: bool) -> int:
    try:
        status = _called(arguments)
        sys.stdout.flush()
        _leave_group()
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        echo("bab: stopped", err=True)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain once more at exit: give it a
        # place to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except Exception as error:
        return _told(error, debug)


def _called(arguments: Sequence[str]) -> object:
    """What a command returns.

    Raises:
        PluginError: a stranger's code raised something.
    """
    try:
        return cli.main(
            args=list(arguments), prog_name="bab", standalone_mode=False, obj=list(arguments)
        )
    except (click.ClickException, click.Abort, BabError, BrokenPipeError):
        raise
    except (Exception, SystemExit) as error:
        from bab.checking.blame import blamed

        told = blamed(error)
        if told is error:
            raise
        raise told from error


def _told(error: Exception, debug: bool) -> int:
    """Say what went wrong; the exit status is returned."""
    import traceback

    if debug:
        traceback.print_exception(error)
    if isinstance(error, BabError):
        echo(f"bab: error: {error}", err=True)
        return error.exit_code
    if isinstance(error, OSError):
        # A full disk, a folder that can't be written, a path through a file: nobody's bug.
        why = error.strerror or str(error)
        if isinstance(error, FileExistsError):
            why = "a file is there, where a folder is to be made: name another place"
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            why += ": see its permissions and its folder's, or name another place"
        name = re.sub(r"\.tmp-\d+-[0-9a-f]+-(.+)\.tmp$", r"\1", str(error.filename or "a file"))
        echo(f"bab: error: {name}: {why}", err=True)
        return 2
    if not debug:
        traceback.print_exception(error)
    echo(
        "bab: this is a fault of bab, not yours. Please report it with the lines above, the "
        f"command, and the output of `bab list plugins` (bab {__version__})",
        err=True,
    )
    return 1
