"""`bab export`: a finished run's model as a folder that others load without bab."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bab.core.atomic import atomic_folder, sweep_beside, write_json, write_text
from bab.core.errors import BabError, NotApplicableError
from bab.core.interfaces import Encoder
from bab.data.heard import heard_by, write_heard
from bab.exporting import graph, hf, usage
from bab.exporting.card import Folder, card
from bab.exporting.push import push, refuse_name
from bab.exporting.settings import FILE, settings
from bab.exporting.source import Source, open_source

KINDS = ("hf", "onnx")
_WHO = {"hf": "transformers", "onnx": "ONNX export"}


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of it. loads: transformers' Auto class, or "onnxruntime"; url: of what was pushed,
    "" = nothing was; notices: what a person should know."""

    folder: Path
    loads: str
    notices: tuple[str, ...] = ()
    url: str = ""


def export(
    run: str | Path,
    to: str = "hf",
    out: str | Path = "exported",
    *,
    encoder_only: bool = False,
    push_to: str = "",
    public: bool = False,
    offline: bool = False,
    trust_code: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Write a run's model as a folder for transformers or onnxruntime, with a model card.

    The folder is loaded again and compared with the run's model before it is kept.

    Args:
        run: a finished run's folder, a fold's, or a pretraining run's.
        to: "hf" (transformers) or "onnx".
        out: the folder; one that an export has written is replaced.
        encoder_only: leave the head out.
        push_to: OWNER/NAME on the hub; "" = nothing leaves this machine.
        public: a repository that is made may be seen by all.
        say: is told each step.

    Raises:
        BabError: no such run, a part that can't be exported (which is named), a folder of something
            else, a refused upload.
    """
    if to not in KINDS:
        raise BabError(f"--to {to}: known are {', '.join(KINDS)}")
    if push_to:
        refuse_name(push_to)
    target = Path(out)
    _refuse_foreign(target)
    say(f"loading {run}")
    source = open_source(Path(run), offline, trust_code)
    head = source.saved is not None and not encoder_only
    say(f"writing {target}, and comparing what it says with the run's model")
    with atomic_folder(target) as folder:
        loads, notices = _written(folder, source, to, head, push_to)
    sweep_beside(target)
    url = ""
    if push_to:
        say(f"pushing to {push_to}")
        url = push(target, push_to, public)
    return Exported(target, loads, tuple(notices), url)


def _written(folder: Path, source: Source, to: str, head: bool, repo: str) -> tuple[str, list[str]]:
    """Fill the folder. Returns what loads it, and notices."""
    about = settings(source, head)
    try:
        if to == "hf":
            loads, notices = hf.write(folder, source, not head)
            made = usage.of_transformers(loads, about, repo)
            told = Folder("transformers", head, made, "python", notices)
        else:
            loads, (script, notices) = "onnxruntime", graph.write(folder, source, not head, about)
            level = str(about.get("level", ""))
            made = usage.of_script(level) if script else usage.of_graph(about, head)
            told = Folder("onnx", head, made, "sh" if script else "python", notices)
    except NotApplicableError as error:
        raise NotApplicableError(
            f"{_WHO[to]} has no place for {error}. {_instead(source, to)}"
        ) from None
    write_json(folder / FILE, about)
    if heard := heard_by(source.encoder.resolved):
        write_heard(folder, heard)
    write_text(folder / "README.md", str(card(source, told)))
    return loads, notices


def _instead(source: Source, to: str) -> str:
    """What of a run can be exported."""
    saved = source.saved
    single = saved is None or len(saved.members) == 1
    graphs = single and hasattr(source.encoder, "traceable")
    folder = single and type(source.encoder).export is not Encoder.export
    can = []
    if folder and to == "onnx" and saved is not None and hf.holds(saved):
        can.append("the whole model with --to hf")
    if to == "hf" and graphs and saved is not None and saved.task.level != "sequence":
        can.append("the whole model with --to onnx")
    if folder:
        can.append("the encoder alone with --to hf --encoder-only")
    if graphs:
        can.append("the encoder alone with --to onnx --encoder-only")
    if not can:
        return "Nothing of this run can be exported; `bab predict` uses it as it is"
    return f"What can be exported: {', '.join(can)}"


def _refuse_foreign(target: Path) -> None:
    """Raises BabError: there is something that no export has written."""
    if target.is_dir():
        if any(target.iterdir()) and not (target / FILE).is_file():
            raise BabError(f"{target} holds files that no export has written: name another folder")
    elif target.exists():
        raise BabError(f"{target} is a file: name a folder")
