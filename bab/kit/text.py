"""Normal forms of text in any script, what a model learns to write and what is compared; and errors
between two texts."""

from __future__ import annotations

import unicodedata

# Other marks for the apostrophe and the Catalan middle dot (l·l) -> the usual ones.
_SAME = str.maketrans(
    {
        **dict.fromkeys("\u2019\u2018\u02bc\u02bb\uff07\u00b4`", "'"),
        **dict.fromkeys("\u2027\u22c5\u0387\u30fb", "\u00b7"),
        "\u0140": "l\u00b7",  # ŀ
        "\u013f": "L\u00b7",  # Ŀ
    }
)
_JOINERS = "\u200c\u200d"  # zero width (non-)joiner: part of the spelling in Indic scripts, Persian


def normalise(text: str, lower: bool = True, punctuation: bool = False) -> str:
    """Unicode NFC, single spaces; lower case and no punctuation unless asked otherwise.

    Letters, digits and combining marks of every script stay. An apostrophe stays between letters
    (l'home, don't), a middle dot between two l (col·lega), a zero-width joiner between letters.
    Any other punctuation or symbol, the hyphen included, becomes a space.
    """
    text = unicodedata.normalize("NFC", text).translate(_SAME)
    if lower:
        text = unicodedata.normalize("NFC", text.lower())
    if not punctuation:
        text = "".join(_kept(text, i) for i in range(len(text)))
    return " ".join(text.split())


def _kept(text: str, i: int) -> str:
    """What stands for the character at `i`: itself, a space or nothing."""
    char = text[i]
    if _of_word(char):
        return char
    before, after = text[i - 1 : i], text[i + 1 : i + 2]
    inside = bool(before and after) and _of_word(before) and _of_word(after)
    if char == "\u00b7":
        return char if before in ("l", "L") and after in ("l", "L") else " "
    if char == "'":
        return char if inside else " "
    if char in _JOINERS:
        return char if inside else ""
    return "" if unicodedata.category(char) == "Cf" else " "  # Cf: soft hyphens, direction marks


def _of_word(char: str) -> bool:
    """A letter, a mark or a number of any script."""
    return unicodedata.category(char)[0] in "LMN"


def word_errors(reference: str, hypothesis: str) -> tuple[float, float]:
    """(insertions + deletions + substitutions, words of the reference), counted by jiwer."""
    import jiwer

    if not reference.split():  # jiwer refuses an empty reference
        return float(len(hypothesis.split())), 0.0
    errors = jiwer.process_words(reference, hypothesis)
    wrong = errors.substitutions + errors.deletions + errors.insertions
    return float(wrong), float(errors.hits + errors.substitutions + errors.deletions)


def character_errors(reference: str, hypothesis: str) -> tuple[float, float]:
    """The same of characters: code points, spaces between words included, as jiwer counts."""
    import jiwer

    if not reference.strip():
        return float(len(hypothesis.strip())), 0.0
    errors = jiwer.process_characters(reference, hypothesis)
    wrong = errors.substitutions + errors.deletions + errors.insertions
    return float(wrong), float(errors.hits + errors.substitutions + errors.deletions)
