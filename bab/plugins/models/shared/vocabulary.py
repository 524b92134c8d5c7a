"""The vocabulary of a CTC model that transformers saved: vocab.json and tokenizer_config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from bab import WeightsError, read_json


class Vocabulary(NamedTuple):
    """names: of each output, as it is written in a text; blank: its output's number; phones: the
    units are phones, between spaces."""

    names: tuple[str, ...]
    blank: int
    phones: bool


def tokenizer_of(path: Path, size: int, blank: int | None) -> Vocabulary:
    """What transformers' CTC tokenizers read. size: of the output; blank: config.json's
    pad_token_id, which the model was trained with.

    Raises:
        WeightsError: no vocabulary, or one of several languages.
    """
    if not (path / "vocab.json").is_file():
        raise WeightsError(f"{path} has no vocab.json: what its outputs stand for isn't known")
    said = _optional(path / "tokenizer_config.json")
    ids = read_json(path / "vocab.json")
    if any(isinstance(value, dict) for value in ids.values()):
        language = said.get("target_lang")
        if language not in ids:
            raise WeightsError(f"{path / 'vocab.json'} holds several languages, and none is chosen")
        ids = ids[language]
    ids = {**ids, **_optional(path / "added_tokens.json")}
    words = {int(number): token for token, number in ids.items()}
    pad = ids.get(_token(said.get("pad_token", "<pad>")), blank)
    blank = pad if blank is None or blank >= size else blank
    if blank is None or not 0 <= blank < size:
        raise WeightsError(f"{path}: neither config.json nor the tokenizer names the blank (pad)")
    space = _token(said.get("word_delimiter_token") or "|")
    lower = bool(said.get("do_lower_case"))

    def written(number: int) -> str:
        token = words.get(number, f"<{number}>")
        return " " if token == space else token.lower() if lower else token

    phones = "Phoneme" in str(said.get("tokenizer_class"))
    return Vocabulary(tuple(written(i) for i in range(size)), int(blank), phones)


def blank_first(size: int, blank: int) -> list[int]:
    """The outputs' numbers, the blank's before all others."""
    return [blank, *(i for i in range(size) if i != blank)]


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _token(value: Any) -> str:
    """A token as text; some files hold it with its properties."""
    return str(value.get("content")) if isinstance(value, dict) else str(value)
