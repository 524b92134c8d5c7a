"""Beam search: against the sum over all alignments of every text, and with a model of words."""

from __future__ import annotations

import sys
from itertools import groupby, product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bab.core.errors import ConfigError
from bab.core.grid import Grid
from bab.core.types import Clip, Output
from bab.plugins.tasks.asr import SpeechRecognition, SpeechRecognitionOptions
from bab.plugins.tasks.shared.beam import BeamSearch

NAMES = ("<blank>", " ", "a", "e", "s")
MODEL = """
\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-9	<unk>
0	<s>	-0.3
-2	</s>
-2	see	-0.3
-2	sea	-0.3
-2	zoo	-0.3

\\2-grams:
-0.1	<s> sea
-3	<s> see
-0.1	sea </s>

\\end\\
"""


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "words.arpa"
    path.write_text(MODEL.lstrip())
    return path


def most_probable(logits: np.ndarray) -> str:
    """The text with the largest summed probability of all paths that read as it."""
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    texts: dict[str, float] = {}
    for path in product(range(logits.shape[1]), repeat=len(logits)):
        text = "".join(NAMES[i] for i, _ in groupby(path) if i)
        share = float(np.prod([probability[t, i] for t, i in enumerate(path)]))
        texts[" ".join(text.split())] = texts.get(" ".join(text.split()), 0.0) + share
    return max(texts, key=lambda text: texts[text])


def test_without_a_model_it_finds_the_most_probable_text() -> None:
    search = BeamSearch(NAMES[:1] + NAMES[2:4], 50, None, 0.0, 0.0)  # a separator is added
    both = 0
    for seed in range(20):
        logits = np.random.default_rng(seed).normal(size=(5, 5)).astype(np.float32) * 1.5
        logits[:, [1, 4]] = -50.0
        found = search(np.ascontiguousarray(logits[:, [0, 2, 3]]))
        assert found == most_probable(logits), seed
        best = "".join(NAMES[i] for i, _ in groupby(logits.argmax(1)) if i)
        both += found != best
    assert both  # somewhere the best path isn't the best text


def test_texts_that_differ_in_spaces_alone_are_one_text() -> None:
    """Two spaces with a blank between them, or one before the first word, read as the same."""
    names = NAMES[:4]
    search = BeamSearch(names, 500, None, 0.0, 0.0)
    for seed in range(12):
        logits = np.random.default_rng(seed).normal(size=(6, 5)).astype(np.float32)
        logits[:, 4] = -50.0
        assert search(np.ascontiguousarray(logits[:, :4])) == most_probable(logits), seed


def test_a_model_of_words_decides_between_them(arpa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.full((6, 5), -4.0, dtype=np.float32)
    for t, i in enumerate((4, 3, 0, 3, 0, 1)):  # s e _ e _ " ": "see", with "a" nearly as likely
        logits[t, i] = 2.0
    logits[3, 2] = 1.9
    monkeypatch.setenv("HOME", str(arpa.parent))
    task = SpeechRecognition(SpeechRecognitionOptions(beam=50, lm=f"~/{arpa.name}", lm_weight=1.0))
    labels = {"char": NAMES}
    output = Output(Clip("u", "u.wav", 0.0, 1.0, "g"), logits)
    assert task.presets == ("greedy", "beam")
    tuned = task.tune([], Grid(16000, 320, 400), labels)
    said = [task.decode(output, Grid(16000, 320, 400), labels, tuned[p]).text for p in task.presets]
    assert said == ["see", "sea"]
    silent = np.full((3, 5), -9.0, dtype=np.float32)
    silent[:, 0] = 9.0
    assert BeamSearch(NAMES, 50, arpa, 1.0, 0.0)(silent) == ""


def test_what_it_needs_is_named_where_it_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacks(ModuleType):  # as torchaudio's module, which looks for it when it is asked
        def __getattr__(self, name: str) -> None:
            raise RuntimeError("flashlight isn't there")

    for module in (None, Lacks("decoder")):
        monkeypatch.setitem(sys.modules, "torchaudio.models.decoder", module)
        with pytest.raises(ConfigError) as caught:
            BeamSearch(NAMES, 50, None, 0.0, 0.0)
        assert str(caught.value).startswith(
            "beam search needs flashlight-text: pip install 'bab[beam]', or leave task.beam at 0 ("
        )


def test_where_the_search_ends_with_nothing_nothing_is_said() -> None:
    search = BeamSearch(NAMES, 50, None, 0.0, 0.0)
    search.search = lambda scores: [[]]
    assert search(np.zeros((2, 5), np.float32)) == ""


def test_what_is_no_model_is_refused(tmp_path: Path, arpa: Path) -> None:
    (tmp_path / "x.arpa").write_text("hello\n")
    (tmp_path / "short.arpa").write_text("\\1-grams:\n-2\n")
    (tmp_path / "bytes.arpa").write_bytes(b"\\1-grams:\n-2\t\xff\n")
    for name in ("short", "bytes"):
        with pytest.raises(ConfigError, match=rf"{name}\.arpa: can't be read as an ARPA model \("):
            BeamSearch(NAMES, 50, tmp_path / f"{name}.arpa", 1.0, 0.0)
    for path, said in ((tmp_path / "x.arpa", "1-grams"), (tmp_path / "y.arpa", "can't be read")):
        with pytest.raises(ConfigError, match=said):
            BeamSearch(NAMES, 50, path, 1.0, 0.0)
    with pytest.raises(ConfigError, match="none of its words"):
        BeamSearch(("<blank>", " ", "x"), 50, arpa, 1.0, 0.0)
    with pytest.raises(ConfigError, match=r"task\.beam"):
        SpeechRecognition(SpeechRecognitionOptions(lm="x.arpa"))
