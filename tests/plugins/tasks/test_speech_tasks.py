"""Tasks `asr` and `phonemes`: text in any script, greedy decoding, rates against a plain edit
distance and jiwer on whole lists."""

from __future__ import annotations

import csv
import random
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch

from bab.core.errors import CorpusError, DivergedError
from bab.core.grid import Grid
from bab.core.types import Clip, Output, Prediction
from bab.plugins.tasks.asr import SpeechRecognition, SpeechRecognitionOptions
from bab.plugins.tasks.phonemes import Phonemes, PhonemesOptions

GRID = Grid(16000, 320, 400)


def clip(name: str, text: str | None = None, **labels: str) -> Clip:
    return Clip(name, f"{name}.wav", 0.0, 1.0, "g", labels=labels, text=text)


def asr(**options: bool) -> SpeechRecognition:
    return SpeechRecognition(SpeechRecognitionOptions(**options))


def distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein's, by its recurrence."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
    return row[-1]


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ('Don\u2019t stop, "Mr. O\'Neil"!', "don't stop mr o'neil"),
        ("\u2018quoted\u2019 dogs' tails'", "quoted dogs tails"),
        ("L'home parla amb la col·lega", "l'home parla amb la col·lega"),
        ("la coŀlega i el XOC·COL•LAT COL‧LEGI", "la col·lega i el xoc col lat col·legi"),
        ("a·la l·a ·l l· L·l l··l", "a la l a l l l·l l l"),
        ("'n a' 'x' a\u200c \u200cb", "n a x a b"),
        ("Això és ÇA: què?", "això és ça què"),
        ("हिन्दी में क्‍या है। १२", "हिन्दी में क्\u200dया है १२"),
        ("well-known\u00adword\u200e — 5 %", "well knownword 5"),
        ("  a\tb\n c ", "a b c"),
        ("日本語、です。", "日本語 です"),
        ("İstanbul", "i\u0307stanbul"),
        ("", ""),
    ],
)
def test_the_normal_form_keeps_what_spells_a_word(written: str, normal: str) -> None:
    task = asr()
    for form in ("NFC", "NFD"):
        labels = task.fit([clip("a", unicodedata.normalize(form, written)), clip("b", "x")])
        read = task.targets(clip("a", unicodedata.normalize(form, written)), GRID, 99, labels)
        assert "".join(labels["char"][i] for i in read.tolist()) == normal


def test_options_keep_case_and_punctuation() -> None:
    labels = asr(lower=False, punctuation=True).fit([clip("a", "Hi,  You!")])
    assert labels["char"] == ("<blank>", " ", "!", ",", "H", "Y", "i", "o", "u")


def test_the_vocabulary_is_of_train_alone_and_its_first_is_the_blank() -> None:
    task = asr()
    labels = task.fit([clip("a", "ba"), clip("b", "ab c"), clip("c", "")])
    assert labels == {"char": ("<blank>", " ", "a", "b", "c")}
    assert task.targets(clip("a", "cab?"), GRID, 9, labels).tolist() == [4, 2, 3]
    assert task.targets(clip("x", "zaz"), GRID, 9, labels).tolist() == [2]
    empty = task.targets(clip("e", ""), GRID, 9, labels)
    assert empty.shape == (0,) and empty.dtype == torch.int64
    assert task.refuses(clip("n")) == "no text" and task.refuses(clip("e", "")) == ""
    with pytest.raises(CorpusError, match="text"):
        task.fit([clip("a", " ?!")])


def frames(best: Sequence[int], classes: int) -> np.ndarray:
    values = np.full((len(best), classes), -5.0, dtype=np.float32)
    values[np.arange(len(best)), best] = 1.0
    return values


def test_greedy_decoding_joins_runs_and_drops_blanks() -> None:
    labels = {"char": ("<blank>", " ", "a", "b")}
    best = [1, 0, 2, 2, 0, 2, 3, 3, 1, 0, 1, 2, 0, 1]
    output = Output(clip("u", "x"), frames(best, 4))
    said = asr().decode(output, GRID, labels, {})
    assert said.text == "aab a"
    # "aab" is said in frames 2 to 7, "a" in frame 11; a frame begins 2.5 ms after its hop does.
    assert [segment.label for segment in said.segments] == ["aab", "a"]
    times = [t for segment in said.segments for t in (segment.start, segment.end)]
    assert times == pytest.approx([0.0425, 0.1625, 0.2225, 0.2425], abs=6e-4)
    silent = Output(clip("u", "x"), frames([0, 0], 4))
    assert asr().decode(silent, GRID, labels, {}).text == ""
    output.values[3, 1] = np.nan
    with pytest.raises(DivergedError, match="u"):
        asr().decode(output, GRID, labels, {})


def test_rates_are_edit_distances_pooled_over_utterances() -> None:
    draw = random.Random(0)
    task = asr()
    words = ["ca", "sa", "col·lega", "l'ou", "क्या", "हिन्दी", "no"]
    references, predictions = [], {}
    for i in range(60):
        said = draw.choices(words, k=draw.randrange(0, 7))
        found = [w for w in said if draw.random() > 0.2] + draw.choices(words, k=draw.randrange(3))
        references.append(clip(str(i), " ".join(said)))
        predictions[str(i)] = Prediction(str(i), text=" ".join(found))
    del predictions["7"]
    texts = [(r.text or "", (p.text or "") if (p := predictions.get(r.id)) else "")
             for r in references]  # fmt: skip
    wer = 100 * sum(distance(r.split(), h.split()) for r, h in texts)
    wer /= sum(len(r.split()) for r, _ in texts)
    cer = 100 * sum(distance(r, h) for r, h in texts) / sum(len(r) for r, _ in texts)
    scores = task.score(references, predictions)
    assert scores["wer"] == scores["wer_raw"] == pytest.approx(wer)
    assert scores["cer"] == scores["cer_raw"] == pytest.approx(cer)
    spoken = [(r, h) for r, h in texts if r]
    assert jiwer.wer([r for r, _ in spoken], [h for _, h in spoken]) < scores["wer"] / 100


def test_raw_rates_count_case_and_punctuation_and_unknown_characters_are_errors() -> None:
    task = asr()
    references = [clip("a", "Hello, World"), clip("b", "Ñandú 3")]
    found = {"a": Prediction("a", text="hello world"), "b": Prediction("b", text="nandu 3")}
    scores = task.score(references, found)
    assert scores["wer"] == pytest.approx(100 * 1 / 4)
    assert scores["wer_raw"] == pytest.approx(100 * 3 / 4)
    assert scores["cer"] == pytest.approx(100 * 2 / (11 + 7))
    raw, said = ["Hello, World", "Ñandú 3"], ["hello world", "nandu 3"]
    assert scores["cer_raw"] == pytest.approx(100 * jiwer.cer(raw, said))


def test_statistics_of_parts_add_up_and_nothing_said_has_no_rate() -> None:
    task = asr()
    assert task.score([clip("a", "")], {"a": Prediction("a", text="")}) == {}
    insertions = task.statistics(clip("a", " "), Prediction("a", text="oh no"))
    assert insertions["wer_errors"] == 2 and insertions["words"] == 0
    assert insertions["cer_errors"] == 5 and insertions["chars"] == 0


def test_phones_are_read_decoded_and_scored() -> None:
    task = Phonemes(PhonemesOptions())
    train = [clip("a", phones="AY1 K AH0 K"), clip("b", phones="t1 ʃ"), clip("c", phones="")]
    labels = task.fit(train)
    assert labels == {"phone": ("<blank>", "AH", "AY", "K", "t1", "ʃ")}
    assert task.targets(train[0], GRID, 9, labels).tolist() == [2, 3, 1, 3]
    kept = Phonemes(PhonemesOptions(strip_stress=False)).fit(train[:1])
    assert kept == {"phone": ("<blank>", "AH0", "AY1", "K")}
    odd = clip("o", phones="AY0 AH2 ay1 AY3 AY12 A1B 0 1A1")  # digits that are no stress stay
    assert task.fit([odd])["phone"][1:] == ("0", "1A1", "A1B", "AH", "AY", "AY12", "AY3", "ay1")
    output = Output(train[0], frames([2, 0, 3, 1, 1, 3, 3, 5], 6))
    said = task.decode(output, GRID, labels, {})
    assert said.text == "AY K AH K ʃ"
    scores = task.score(train, {"a": said, "b": Prediction("b", text="ʃ")})
    assert scores == {"per": pytest.approx(100 * (1 + 1) / 6)}
    assert task.refuses(clip("d")) == "no phones" and task.refuses(train[2]) == ""
    with pytest.raises(CorpusError, match="phone"):
        task.fit(train[2:])


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    said = [Prediction("a,1", text='l·l "x"'), Prediction("b", text="")]
    asr().write(said, tmp_path)
    Phonemes(PhonemesOptions()).write(said, tmp_path)
    for name in ("asr", "phonemes"):
        with (tmp_path / f"{name}.csv").open(encoding="utf-8", newline="") as table:
            assert list(csv.DictReader(table)) == [
                {"id": "a,1", "hypothesis": 'l·l "x"'}, {"id": "b", "hypothesis": ""}
            ]  # fmt: skip
