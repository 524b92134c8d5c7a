"""The vocabulary of a CTC head as a tokenizer of transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bab.core.atomic import write_json
from bab.core.types import Clip, Output
from bab.running.saved import Saved

BLANK = "<pad>"  # transformers' name of the blank, when it pads
_TRIED = 200  # frames of made-up labels, that a tokenizer has to spell as the task does


def write_tokenizer(folder: Path, saved: Saved) -> list[str]:
    """Write the tokenizer that spells frames as the run's task does. Returns notices: none does."""
    (names,) = saved.labels.values()
    ids = np.random.default_rng(0).integers(0, len(names), _TRIED)
    text = _spelt(saved, ids)
    for tokenizer in _tokenizers(names):
        if " ".join(tokenizer.decode(ids.tolist()).split()) == text:
            tokenizer.save_pretrained(folder)
            return []
    return ["no tokenizer of transformers spells as this task does: the folder has none"]


def _spelt(saved: Saved, ids: Any) -> str:
    """What the task reads in frames, each of which says one label."""
    (names,) = saved.labels.values()
    rows = np.full((len(ids), len(names)), -9.0, np.float32)
    rows[np.arange(len(ids)), ids] = 9.0
    grid = saved.encoder.grid
    clip = Clip("made", "", 0.0, grid.samples(len(ids)) / grid.sample_rate, "")
    tuned = saved.tuned[saved.task.presets[0]]
    said = saved.task.decode(Output(clip, rows), grid, saved.labels, tuned)
    return " ".join((said.text or "").split())


def _tokenizers(names: Sequence[str]) -> Iterator[Any]:
    """Letters between words; units between spaces (phones)."""
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2PhonemeCTCTokenizer

    space = "|" if "|" not in names else "<space>"
    with TemporaryDirectory() as place:
        words = Path(place) / "vocab.json"
        vocabulary = {name: number for number, name in enumerate(names)}
        vocabulary = {BLANK: 0, **{k: v for k, v in vocabulary.items() if v and k != " "}}
        if " " in names:
            vocabulary[space] = names.index(" ")
        write_json(words, dict(sorted(vocabulary.items(), key=lambda one: one[1])))
        none: Any = {"bos_token": None, "eos_token": None, "unk_token": None, "pad_token": BLANK}
        yield Wav2Vec2CTCTokenizer(str(words), word_delimiter_token=space, **none)
        yield Wav2Vec2PhonemeCTCTokenizer(str(words), do_phonemize=False, **none)
