"""How to reach s3prl's upstreams without s3prl.hub, which dies beside torchaudio 2.9 and newer.

What can be named is read from the hubconf files as text, so listing imports nothing; one upstream's
hubconf is then imported by itself (s3prl 0.4.18: all 37 of them import, fairseq's aside).
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from bab import BabError, WeightsError, did_you_mean, locate_weights

_INSTALL = "s3prl is not installed here: pip install 'bab[s3prl]'"
_NEEDS_CKPT = ("_local", "_url", "_custom")


def version() -> str:
    """s3prl's version.

    Raises:
        WeightsError: it is not installed.
    """
    return (_folder() / "version.txt").read_text(encoding="utf-8").strip()


def catalogue() -> dict[str, str]:
    """Every name that s3prl's hubconf files define -> the upstream folder that defines it.

    Raises:
        WeightsError: s3prl is not installed.
    """
    folders: dict[str, str] = {}
    for file in sorted(_folder().glob("upstream/*/hubconf.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            before, folder = folders.get(node.name, ""), file.parent.name
            # Two folders define wav2vec2_local: the one of that name is meant.
            if not before or (node.name.startswith(folder) and not node.name.startswith(before)):
                folders[node.name] = folder
    return folders


def build(
    name: str, ckpt: str | None, model_config: str | None, *, offline: bool, trust_code: bool
) -> Any:
    """The upstream `name`, as its entry in s3prl's hubconf makes it.

    Raises:
        WeightsError: not installed, no such name, a checkpoint missing or not taken, or what
            s3prl says.
    """
    names = catalogue()
    if name not in names:
        raise WeightsError(
            f"s3prl has no upstream '{name}': {did_you_mean(name, names)} ({len(names)} names: "
            f"see the hubconf.py files in {_folder() / 'upstream'})"
        )
    mend_torchaudio()
    try:
        module = importlib.import_module(f"s3prl.upstream.{names[name]}.hubconf")
    except Exception as error:  # whatever a library of 2020 runs into today
        raise WeightsError(f"s3prl's '{name}' can't be imported here: {_line(error)}") from error
    entry = getattr(module, name)
    arguments = _arguments(name, entry, ckpt, model_config, offline)
    with _guarded(offline, trust_code):
        try:
            return entry(**arguments)
        except BabError:
            raise
        except Exception as error:
            raise WeightsError(_explain(name, error)) from error


def stride(upstream: Any, name: str) -> int:
    """Samples between frames of the last state, as the upstream says.

    Raises:
        WeightsError: it doesn't say.
    """
    ask: Any = getattr(upstream, "get_downsample_rates", None)
    said = ask("hidden_states") if ask is not None else None
    step = said[-1] if isinstance(said, (list, tuple)) else said
    if not isinstance(step, int) or step <= 0:
        raise WeightsError(f"s3prl's '{name}' doesn't say its stride: {said!r}")
    return step


def identity(path: str | None) -> str:
    """What a checkpoint or a configuration is, beyond the tensors: a hash of the file, or of the
    JSON files of a folder; a URL as it is."""
    if path is None:
        return ""
    place = Path(path).expanduser()
    if not place.exists():
        return path
    digest = hashlib.sha256()
    files = [place] if place.is_file() else sorted(place.glob("*.json"))
    for file in files:
        digest.update(f"{file.name if len(files) > 1 else ''}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _folder() -> Path:
    spec = importlib.util.find_spec("s3prl")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(_INSTALL)
    return Path(spec.submodule_search_locations[0])


def _arguments(
    name: str,
    entry: Callable[..., Any],
    ckpt: str | None,
    model_config: str | None,
    offline: bool,
) -> dict[str, Any]:
    """What the entry is called with. s3prl's entries swallow what they don't know, so a checkpoint
    that an entry would ignore is refused here."""
    parameters = inspect.signature(entry).parameters
    arguments: dict[str, Any] = {}
    takes = "ckpt" in parameters or (name.endswith(_NEEDS_CKPT) and name != "baseline_local")
    if takes and ckpt is None:
        raise WeightsError(f"s3prl's '{name}' needs a checkpoint: --set encoder.ckpt=PATH")
    if ckpt is not None:
        if not takes:
            raise WeightsError(
                f"s3prl's '{name}' takes no checkpoint: leave encoder.ckpt out, or name an entry "
                f"that ends in {', '.join(_NEEDS_CKPT)}"
            )
        arguments["ckpt"] = _checkpoint(name, ckpt, offline)
    required = "model_config" in parameters and (
        parameters["model_config"].default is inspect.Parameter.empty
    )
    if required and model_config is None:
        raise WeightsError(f"s3prl's '{name}' needs a configuration: --set encoder.config=PATH")
    if model_config is not None:
        if "model_config" not in parameters:
            raise WeightsError(f"s3prl's '{name}' takes no model_config: leave it out")
        if not Path(model_config).expanduser().is_file():
            raise WeightsError(f"encoder.config: there is no file {model_config}")
        arguments["model_config"] = str(Path(model_config).expanduser())
    return arguments


def _checkpoint(name: str, ckpt: str, offline: bool) -> str:
    """The checkpoint's path, or a URL as it is.

    Raises:
        WeightsError: no such file; or, for hf_*, no preprocessor_config.json, in whose place s3prl
            would silently take another model's.
    """
    if name.startswith("hf_"):
        place = locate_weights(
            ckpt, encoder=f"s3prl:{name}", hub={}, known=(), offline=offline
        ).path
        if not (place / "preprocessor_config.json").is_file():
            raise WeightsError(
                f"{place} has no preprocessor_config.json: s3prl would take another model's; copy "
                "the one of the model that these weights come from"
            )
        return str(place)
    if ckpt.startswith(("http://", "https://")):
        return ckpt
    path = Path(ckpt).expanduser()
    if not path.exists():
        raise WeightsError(f"encoder.ckpt: there is no file {path}")
    return str(path)


def mend_torchaudio() -> None:
    """Give torchaudio the names that s3prl imports and never needs here; a real one is kept."""
    import torchaudio

    if not hasattr(torchaudio, "set_audio_backend"):
        torchaudio.set_audio_backend = lambda backend: None
    try:
        importlib.import_module("torchaudio.sox_effects")
    except ImportError:
        stub: Any = ModuleType("torchaudio.sox_effects")
        stub.apply_effects_tensor = stub.apply_effects_file = _no_sox
        sys.modules["torchaudio.sox_effects"] = torchaudio.sox_effects = stub


def _no_sox(*args: Any, **named: Any) -> NoReturn:
    raise BabError("torchaudio has no sox effects any more: this upstream can't run here")


@contextmanager
def _guarded(offline: bool, trust_code: bool) -> Iterator[None]:
    """While an upstream is built: nothing is unpickled into objects unless that was allowed, and
    nothing is fetched when offline (what s3prl has in its cache is used)."""
    import torch

    download: Any = importlib.import_module("s3prl.util.download")
    load, fetchers = torch.load, (download._download_url_to_file, torch.hub.download_url_to_file)
    second = download._download_url_to_file_requests

    def careful(*args: Any, **named: Any) -> Any:
        return load(*args, **{**named, "weights_only": not trust_code})

    def refuse(url: str, *args: Any, **named: Any) -> NoReturn:
        raise WeightsError(
            f"{url} is not on this machine and --offline forbids fetching it: run once without it"
        )

    torch.load = careful
    if offline:
        download._download_url_to_file = download._download_url_to_file_requests = refuse
        torch.hub.download_url_to_file = refuse
    try:
        yield
    finally:
        torch.load = load
        download._download_url_to_file, torch.hub.download_url_to_file = fetchers
        download._download_url_to_file_requests = second


def _explain(name: str, error: Exception) -> str:
    import pickle

    if isinstance(error, pickle.UnpicklingError):
        return (
            f"s3prl's '{name}' has a checkpoint that holds more than tensors, and loading it could "
            "run code: pass --trust-code if you trust it"
        )
    if isinstance(error, ModuleNotFoundError):
        return f"s3prl's '{name}' needs the package {error.name}, which is not installed"
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return f"s3prl's '{name}' could not fetch its checkpoint: {_line(error)}"
    return f"s3prl's '{name}' could not be built: {_line(error)}"


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
