"""Corpus `hf`: a Hugging Face data set, on the hub (`hf:owner/name`) or on disk (`hf:FOLDER`).

Columns are mapped by name, see `bab info hf`. Audio stays encoded until it is read: what a data set
holds as bytes is written once to the cache folder, under the name of its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

import bab
from bab import Clip, CorpusError, Permissions, did_you_mean
from bab.kit import SPLIT_NAMES, SPLITS, Divided, duration_of
from bab.plugins.datasets.shared.hub import cell_text, load_parts, on_disk, undecoded

if TYPE_CHECKING:
    import datasets


class HuggingFace(bab.Corpus):
    """A Hugging Face data set with an audio column; needs the extra `hf`."""

    class Options(bab.Options):
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

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(root.resolve() if root.is_dir() else root, options, permissions)
        columns = {what: getattr(options, what) for what in ("text", "speaker")}
        given = {what for what, column in columns.items() if column}
        self.provides = frozenset(given | options.labels.keys())  # type: ignore[misc]
        parts = self._chosen(
            load_parts(self.root, options.config, options.revision, permissions.offline)
        )
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
        self._divided = Divided(clips, named, self.root, self.notices, permissions)
        self.splits_given = self._divided.given

    def splits(self) -> tuple[str, ...]:
        return self._divided.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._divided.clips(split)

    def _chosen(self, named: Mapping[str, datasets.Dataset]) -> dict[str, datasets.Dataset]:
        """Our split names -> parts; {"all": ...} where there is nothing to tell splits by."""
        wanted = self.options.splits
        for split, name in wanted.items():
            if split not in SPLITS:
                raise CorpusError(f"corpus.splits.{split}: {did_you_mean(split, SPLITS)}")
            if name not in named:
                raise CorpusError(f"{self.root}: no split '{name}': {did_you_mean(name, named)}")
        if wanted:
            return {split: named[wanted[split]] for split in SPLITS if split in wanted}
        if len(named) == 1:
            return {"all": next(iter(named.values()))}
        parts: dict[str, datasets.Dataset] = {}
        for name, part in named.items():
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
                f"{self.root}: its splits are {', '.join(named)}. Say which is what: "
                f"--set corpus.splits.train={next(iter(named))}"
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
        for number, row in enumerate(undecoded(part.select_columns(used), options.audio)):
            where = f"{self.root}: row {number} of '{split}'"
            cells = {c: cell_text(row[c], names[c]) for c in used if c != options.audio}
            yield self._clip(f"{split}-{number:06d}", row[options.audio], cells, where)

    def _clip(self, made_id: str, audio: Any, cells: Mapping[str, str], where: str) -> Clip:
        options = self.options

        def cell(column: str) -> str | None:
            return cells.get(column) or None

        for what in ("id", "group", "speaker"):
            column = getattr(options, what)
            if column and cell(column) is None:
                raise CorpusError(f"{where}: {what} (column '{column}') is empty.")
        path = on_disk(audio, self.root, where)
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
