"""Data sets of the library `datasets`: loaded from the hub or from disk, their audio as files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bab import CorpusError, PluginError, cache_root, write_bytes

if TYPE_CHECKING:
    import datasets


def load_parts(
    root: Path, config: str, revision: str, offline: bool
) -> dict[str, datasets.Dataset]:
    """split -> part, from a folder of `save_to_disk`, a folder of files, or the hub.

    Raises:
        PluginError: the library is not installed.
        CorpusError: the data set can't be had, with the library's reason.
    """
    try:
        import datasets
    except ImportError:
        raise PluginError("corpus 'hf' needs the library datasets: pip install 'bab[hf]'") from None
    saved = any((root / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            loaded = datasets.load_from_disk(str(root))
        else:
            with _quiet("huggingface_hub"), _cut_off(offline):
                loaded = datasets.load_dataset(
                    root.as_posix(), config or None, revision=revision or None
                )
    except Exception as error:  # the library raises many kinds, from five layers
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        what = "a folder" if root.is_dir() else "neither a folder here nor a data set on the hub"
        if offline and not root.is_dir():
            what = "not on this machine, and --offline forbids asking the hub"
        raise CorpusError(
            f"hf:{root.as_posix()} can't be loaded ({what}): {reason.rstrip('.')}. Check the name, "
            "corpus.config and, for the hub, the connection and HF_TOKEN."
        ) from error
    if isinstance(loaded, datasets.Dataset):
        return {"all": loaded}
    return {str(name): part for name, part in loaded.items()}


@contextmanager
def _cut_off(offline: bool) -> Iterator[None]:
    """Without the hub, if `offline`: both libraries read their switch when they are imported."""
    import datasets
    from huggingface_hub import constants

    places = [(datasets.config, "HF_HUB_OFFLINE"), (constants, "HF_HUB_OFFLINE")]
    before = [getattr(module, name) for module, name in places]
    try:
        for module, name in places if offline else ():
            setattr(module, name, True)
        yield
    finally:
        for (module, name), value in zip(places, before, strict=True):
            setattr(module, name, value)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without a library's warnings: the hub's retries, ten lines, say no more than its error."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def undecoded(part: datasets.Dataset, column: str) -> datasets.Dataset:
    """The part with its audio as {bytes, path}, or as it is where it is no Audio: the library's own
    decoder is never asked."""
    import datasets

    if isinstance(part.features[column], datasets.Audio):
        return part.cast_column(column, datasets.Audio(decode=False))
    return part


def on_disk(audio: Any, root: Path, where: str) -> Path:
    """The audio file of a row: the one it names, or one in the cache made of the bytes it holds.

    audio: {"bytes": ..., "path": ...}, a path, or encoded bytes.
    """
    if isinstance(audio, Mapping):
        data, name = audio.get("bytes"), audio.get("path") or ""
    else:
        data = audio if isinstance(audio, bytes) else None
        name = audio if isinstance(audio, str) else ""
    if data is None:
        path = root / name
        if name and path.is_file():
            return path.absolute()
        raise CorpusError(
            f"{where}: no audio: neither encoded bytes nor the path of a file here ({name!r}). "
            "Say which column has it: --set corpus.audio=COLUMN"
        )
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    suffix = PurePosixPath(name).suffix.lower()
    path = cache_root() / "hf-audio" / digest[:2] / f"{digest[2:]}{suffix}"
    if not path.is_file() or path.stat().st_size != len(data):
        write_bytes(path, data)
    return path.absolute()


def cell_text(value: Any, names: list[str] | None) -> str:
    """A cell as text; the classes of a ClassLabel by name (-1 is how it writes "unknown")."""
    if value is None or (names is not None and value == -1):
        return ""
    return str(value if names is None else names[value]).strip()
