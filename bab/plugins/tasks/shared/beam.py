"""CTC beam search with an n-gram model of words, by flashlight-text through torchaudio."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bab import ConfigError

_SPACE = "<space>"  # a lexicon's columns are separated by spaces, so a space needs a name
_NEVER = -1e4  # log-probability of what can't be


class BeamSearch:
    """The most probable text of an utterance, among as many beginnings as the beam is wide."""

    def __init__(
        self,
        names: Sequence[str],
        width: int,
        model: Path | None,
        weight: float,
        word_score: float,
    ) -> None:
        """names: the characters, the blank first. model: an ARPA file of words; then only its words
        are said. weight: of its log-probabilities; word_score: added for each word.

        Raises:
            ConfigError: flashlight-text is missing, or the file is no ARPA model of words that
                these characters spell.
        """
        known = [_SPACE if name == " " else name for name in names]
        # The search needs a separator, even where no two words were ever separated.
        self.tokens = known if _SPACE in known else [*known, _SPACE]
        options: dict[str, Any] = {"beam_size": width, "log_add": True}
        if model is None:
            self.search = self._made(None, {**options, "nbest": width})
            return
        options |= {"lm": str(model), "lm_weight": weight, "word_score": word_score}
        spelled = [w for w in arpa_words(model) if set(w) <= set(known)]
        if not spelled:
            raise ConfigError(f"{model}: none of its words is spelled with the task's characters")
        with tempfile.TemporaryDirectory() as folder:
            lexicon = Path(folder) / "lexicon.txt"
            lines = [f"{word}\t{' '.join(word)} {_SPACE}\n" for word in spelled]
            lexicon.write_text("".join(lines), encoding="utf-8")
            self.search = self._made(str(lexicon), options)

    def _made(self, lexicon: str | None, options: dict[str, Any]) -> Any:
        try:
            from torchaudio.models.decoder import ctc_decoder
        except (ImportError, RuntimeError) as error:
            raise ConfigError(
                "beam search needs flashlight-text: pip install 'bab[beam]', or leave task.beam at "
                f"0 ({error})"
            ) from error
        names = {"blank_token": self.tokens[0], "sil_token": _SPACE}
        return ctc_decoder(lexicon=lexicon, tokens=self.tokens, **names, **options)

    def __call__(self, logits: NDArray[np.float32]) -> str:
        """f32[T, C] -> text."""
        scores = torch.from_numpy(logits).log_softmax(-1)
        scores = functional.pad(scores, (0, len(self.tokens) - scores.shape[1]), value=_NEVER)
        # Words end with a space in the lexicon, so the utterance must end with one too.
        end = torch.full((1, len(self.tokens)), _NEVER)
        end[0, self.tokens.index(_SPACE)] = 0.0
        hypotheses = self.search(torch.cat([scores, end])[None])[0]
        if not hypotheses:
            return ""
        # Beginnings that differ in spaces alone (two, with a blank between them; one before the
        # first word) are one text: its probability is the sum of theirs.
        texts: dict[str, float] = {}
        for one in hypotheses:
            text = self._read(one.tokens)
            texts[text] = np.logaddexp(texts.get(text, -np.inf), one.score)
        return max(texts, key=lambda text: texts[text])

    def _read(self, tokens: Any) -> str:
        said = self.search.idxs_to_tokens(tokens)
        return " ".join("".join(" " if t == _SPACE else t for t in said).split())


def arpa_words(path: Path) -> Iterator[str]:
    """The unigrams of an ARPA file, but for those in angle brackets.

    Raises:
        ConfigError: no such file, or not an ARPA file.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            inside = section = False
            for line in lines:
                if line.startswith("\\"):
                    inside = line.strip() == "\\1-grams:"
                    section = section or inside
                elif inside and line.strip():
                    word = line.split()[1]
                    if not (word.startswith("<") and word.endswith(">")):
                        yield word
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise ConfigError(f"{path}: can't be read as an ARPA model ({error})") from error
    if not section:
        raise ConfigError(f"{path}: has no \\1-grams: section, so it is no ARPA model (as text)")
