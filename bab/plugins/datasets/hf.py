"""Corpus `hf`: a Hugging Face data set, on the hub (`hf:owner/name`) or on disk (`hf:FOLDER`).

Columns are mapped by name, see `bab info hf`. Audio stays encoded until it is read: what a data set
holds as bytes is written once to the cache folder, under the name of its content.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bab.core import interfaces, permissions
from bab.core.atomic import write_bytes
from bab.core.content import cache_root
from bab.core.errors import CorpusError, PluginError, did_you_mean
from bab.core.records import Clip
from bab.plugins.datasets._recordings import SPLIT_NAMES, SPLITS, Divided, duration_of

if TYPE_CHECKING:
    import datasets

Row = Mapping[str, Any]


class HuggingFace(interfaces.Corpus):
    """A Hugging Face data set with an audio column; needs the extra `hf`."""

    class Options(interfaces.Options):
        """Options of the `hf` corpus: columns by name; empty = the data set has none."""

        config: str = Field("", description="the data set's configuration, e.g. a language")
        revision: str = Field("", description="commit, tag or branch on the hub; empty = main")
        audio: str = Field("audio", description="column of the audio")
        id: str = Field("", description="column of the clip's id; empty = made from its row")
        group: str = Field("", description="column of what stays in one split; empty = the speaker")
        speaker: str = Field("", description="column of the speaker")
        text: str = Field("", description="column of the transcript")
        labels: dict[str, str] = Field(
            default_factory=dict, description="label -> column, e.g. {gender: sex}"
        )
        splits: dict[str, str] = Field(
            default_factory=dict,
            description="train, dev, test -> the data set's name; empty = by the usual names",
        )

    hub: ClassVar[bool] = True
    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset()  # an instance says what its columns give
    source: ClassVar[str] = "the library datasets"

    def __init__(self, root: Path, options: Any) -> None:
        super().__init__(root.resolve() if root.is_dir() else root, options)
        columns = {what: getattr(options, what) for what in ("text", "speaker")}
        given = {what for what, column in columns.items() if column}
        self.provides = frozenset(given | options.labels.keys())  # type: ignore[misc]
        parts = self._chosen(_load(self.root, options.config, options.revision))
        clips: list[Clip] = []
        lists: dict[str, list[str]] = {}
        for split, part in parts.items():
            mine = list(self._clips(split, part))
            lists[split] = [clip.id for clip in mine]
            clips += mine
        self._refuse_twins(clips)
        if not options.group and not options.speaker:
            self.notices.append(
                "No column for group or speaker: every clip is a group of its own, and a voice "
                "that stands in two splits is not seen."
            )
        named = None if set(lists) == {"all"} else lists
        self._divided = Divided(clips, named, self.root, self.notices)
        self.splits_given = self._divided.given

    def splits(self) -> tuple[str, ...]:
        return self._divided.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._divided.clips(split)

    def _chosen(self, found: Mapping[str, datasets.Dataset]) -> dict[str, datasets.Dataset]:
        """Our split names -> parts; {"all": ...} where there is nothing to tell splits by."""
        wanted = self.options.splits
        for split, name in wanted.items():
            if split not in SPLITS:
                raise CorpusError(f"corpus.splits.{split}: {did_you_mean(split, SPLITS)}")
            if name not in found:
                raise CorpusError(f"{self.root}: no split '{name}': {did_you_mean(name, found)}")
        if wanted:
            return {split: found[wanted[split]] for split in SPLITS if split in wanted}
        if len(found) == 1:
            return {"all": next(iter(found.values()))}
        parts: dict[str, datasets.Dataset] = {}
        for name, part in found.items():
            split = SPLIT_NAMES.get(name.lower())
            if split is None:
                self.notices.append(f"Split '{name}' is neither train, dev nor test: left out.")
            elif split in parts:
                raise CorpusError(
                    f"{self.root}: two splits mean '{split}'. Say which: "
                    f"--set corpus.splits.{split}=NAME"
                )
            else:
                parts[split] = part
        if not parts:
            raise CorpusError(
                f"{self.root}: its splits are {', '.join(found)}. Say which is what: "
                f"--set corpus.splits.train={next(iter(found))}"
            )
        return {split: parts[split] for split in SPLITS if split in parts}

    def _clips(self, split: str, part: datasets.Dataset) -> Iterator[Clip]:
        """The clips of one part, their audio on disk."""
        options = self.options
        columns = [options.audio, options.id, options.group, options.speaker, options.text]
        used = list(dict.fromkeys(c for c in (*columns, *options.labels.values()) if c))
        for column in used:
            if column not in part.column_names:
                hint = did_you_mean(column, part.column_names)
                raise CorpusError(f"{self.root}: no column '{column}' in '{split}': {hint}")
        names = {column: getattr(part.features[column], "names", None) for column in used}
        for number, row in enumerate(_undecoded(part.select_columns(used), options.audio)):
            where = f"{self.root}: row {number} of '{split}'"
            cells = {c: _cell(row[c], names[c]) for c in used if c != options.audio}
            yield self._clip(f"{split}-{number:06d}", row[options.audio], cells, where)

    def _clip(self, made_id: str, audio: Any, cells: Mapping[str, str], where: str) -> Clip:
        options = self.options

        def cell(column: str) -> str | None:
            return cells.get(column) or None

        for what in ("id", "group", "speaker"):
            column = getattr(options, what)
            if column and cell(column) is None:
                raise CorpusError(f"{where}: {what} (column '{column}') is empty.")
        path = _on_disk(audio, self.root, where)
        clip_id = (cell(options.id) or made_id).replace("/", "_")
        speaker = cell(options.speaker)
        labels = {name: cells[column] for name, column in options.labels.items() if cells[column]}
        return Clip(
            id=clip_id,
            path=str(path),
            start=0.0,
            end=duration_of(path, 0.0, self.notices),
            group=cell(options.group) or speaker or clip_id,
            speaker=speaker,
            labels=labels,
            text=cells[options.text] if options.text else None,
        )

    def _refuse_twins(self, clips: list[Clip]) -> None:
        seen: set[str] = set()
        for clip in clips:
            if clip.id in seen:
                raise CorpusError(
                    f"{self.root}: two clips are called '{clip.id}' (column '{self.options.id}'). "
                    "Name a column without repeats, or none."
                )
            seen.add(clip.id)


def _load(root: Path, config: str, revision: str) -> dict[str, datasets.Dataset]:
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
            found = datasets.load_from_disk(str(root))
        else:
            with _quiet("huggingface_hub"), _cut_off(permissions.now().offline):
                found = datasets.load_dataset(
                    root.as_posix(), config or None, revision=revision or None
                )
    except Exception as error:  # the library raises many kinds, from five layers
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        what = "a folder" if root.is_dir() else "neither a folder here nor a data set on the hub"
        if permissions.now().offline and not root.is_dir():
            what = "not on this machine, and --offline forbids asking the hub"
        raise CorpusError(
            f"hf:{root.as_posix()} can't be loaded ({what}): {reason.rstrip('.')}. Check the name, "
            "corpus.config and, for the hub, the connection and HF_TOKEN."
        ) from error
    if isinstance(found, datasets.Dataset):
        return {"all": found}
    return {str(name): part for name, part in found.items()}


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


def _undecoded(part: datasets.Dataset, column: str) -> datasets.Dataset:
    """The part with its audio as {bytes, path}, or as it is where it is no Audio: the library's own
    decoder is never asked."""
    import datasets

    if isinstance(part.features[column], datasets.Audio):
        return part.cast_column(column, datasets.Audio(decode=False))
    return part


def _on_disk(audio: Any, root: Path, where: str) -> Path:
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


def _cell(value: Any, names: list[str] | None) -> str:
    """A cell as text; the classes of a ClassLabel by name (-1 is how it writes "unknown")."""
    if value is None or (names is not None and value == -1):
        return ""
    return str(value if names is None else names[value]).strip()
