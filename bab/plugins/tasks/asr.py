"""Task `asr`: what is said, character by character.

SUPERB's speech recognition (Yang et al. 2021, arXiv 2105.01051) and the Catalan one of Amplifying
Voices: CTC over the characters of the training text, in any script; greedy decoding; word and
character error rates as jiwer counts them, pooled over utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from bab import (
    Clip,
    ConfigError,
    CorpusError,
    Grid,
    Labels,
    Options,
    Output,
    Prediction,
    Task,
    View,
)
from bab.kit import character_errors, normalise, refuse_diverged, word_errors
from bab.plugins.tasks.shared import sequences
from bab.plugins.tasks.shared.beam import BeamSearch


class SpeechRecognitionOptions(Options):
    """What can be set under `task`."""

    lower: bool = Field(True, description="learn and compare lower case")
    punctuation: bool = Field(
        False, description="learn and compare punctuation too; apostrophes and l·l always stay"
    )
    beam: int = Field(
        0, ge=0, description="width of a beam search, the preset `beam`; 0 = greedy decoding only"
    )
    lm: str = Field("", description="ARPA n-gram model of words for the beam search; '' = none")
    lm_weight: float = Field(2.0, ge=0, description="weight of its log-probabilities")
    word_score: float = Field(0.0, description="added for each word, against its short texts")


class SpeechRecognition(Task):
    """Text from frames; word and character errors against the text, normalised and raw."""

    Options = SpeechRecognitionOptions
    source = "SUPERB (arXiv 2105.01051) and Amplifying Voices: characters, CTC; rates by jiwer"
    needs = frozenset({"text"})
    level = "sequence"
    corpus = "librispeech"
    head = "ctc"
    objective = "ctc"
    view = View()
    presets: tuple[str, ...] = ("greedy",)
    primary = "wer"
    # Until a model gets words right, its word error rate stands at 100 and chooses nothing.
    select = "cer"
    higher_is_better = False
    units: ClassVar[Mapping[str, str]] = dict.fromkeys(("wer", "cer", "wer_raw", "cer_raw"), "%")
    rates = frozenset(units)
    # SUPERB: Linear 1024, BiLSTM 2 x 1024, Adam 1e-4, 200,000 steps of 32 utterances: days on a
    # CPU. Here an eighth of the width, and ten times the rate for so many fewer steps.
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "probe": {
            "layers": "mix",
            "head": {"widths": [256], "rnn": "bilstm", "hidden": 128, "dropout": 0.2},
            "train": {"lr": 1e-3, "steps": 1000, "batch": 16, "eval_every": 100},
        },
        # Fine-tuning as for wav2vec 2.0: one linear layer on the last state, warm-up, and the rate
        # of fairseq's configurations for ten minutes to ten hours of labelled speech.
        "finetune": {
            "layers": "last",
            "train": {
                "lr": 5e-5,
                "steps": 5000,
                "warmup": 500,
                "schedule": "linear",
                "batch": 16,
                "accumulation": 4,
                "eval_every": 250,
            },
        },
    }

    options: SpeechRecognitionOptions

    def __init__(self, options: SpeechRecognitionOptions) -> None:
        super().__init__(options)
        self.presets = ("greedy", "beam") if options.beam else ("greedy",)
        self._searches: dict[tuple[str, ...], BeamSearch] = {}  # by vocabulary
        if options.lm and not options.beam:
            raise ConfigError("task.lm is for the beam search: give task.beam a width, e.g. 50")

    def refuses(self, clip: Clip) -> str:
        """A clip whose text isn't known; one in which nothing is said ("") is used."""
        return "no text" if clip.text is None else ""

    def fit(self, clips: Sequence[Clip]) -> Labels:
        """{"char": (blank, every character of the normalised training text, sorted)}.

        Raises:
            CorpusError: no text at all.
        """
        names = sequences.vocabulary(self._normal(clip.text or "") for clip in clips)
        if len(names) == 1:
            raise CorpusError("no training clip has any text: check the corpus's text column")
        return {"char": names}

    def targets(self, clip: Clip, grid: Grid, frames: int, labels: Labels) -> Tensor:
        """i64[U]: the characters of the normalised text."""
        return sequences.targets(self._normal(clip.text or ""), labels["char"])

    def tune(self, outputs: Sequence[Output], grid: Grid, labels: Labels) -> dict[str, Any]:
        """Nothing is tuned: each preset is told how to search."""
        return {preset: {"search": preset} for preset in self.presets}

    def decode(
        self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]
    ) -> Prediction:
        """Logits f32[T, C] -> text, greedily or by the beam search that `tune` names."""
        if tuned.get("search") == "beam":
            refuse_diverged(output)
            text = self._search(labels["char"])(output.values)
            spelt = sequences.aligned(output, text, labels["char"])
        else:
            spelt = sequences.greedy(output, labels["char"])
            text = " ".join("".join(one.unit for one in spelt).split())
        words = sequences.timed(spelt, output, grid, between=" ")
        return Prediction(output.clip.id, words, text=text)

    def cut(self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]) -> int:
        """In the last pause between two words."""
        return sequences.pause(output, labels["char"], after=" ")

    def statistics(self, reference: Clip, prediction: Prediction | None) -> dict[str, float]:
        """Errors and counts of words and characters: normalised, and "raw" as the corpus has it.

        A character that training never showed is an error like any other; a clip without a
        prediction is all deletions.
        """
        said = "" if prediction is None else prediction.text or ""
        sums: dict[str, float] = {}
        pairs = {"": (self._normal(reference.text or ""), self._normal(said))}
        pairs["_raw"] = (reference.text or "", said)
        for kind, (wanted, heard) in pairs.items():
            wrong, count = word_errors(wanted, heard)
            sums |= {f"wer{kind}_errors": wrong, f"words{kind}": count}
            wrong, count = character_errors(wanted, heard)
            sums |= {f"cer{kind}_errors": wrong, f"chars{kind}": count}
        return sums

    def amounts(self, reference: Clip) -> dict[str, float]:
        """Words, in the normal form."""
        return {"": float(len(self._normal(reference.text or "").split()))}

    def metrics(self, totals: Mapping[str, float]) -> dict[str, float]:
        """ "wer", "cer", "wer_raw", "cer_raw": errors per hundred words or characters of the
        references, all utterances pooled. Nothing where the references are empty."""
        rates: dict[str, float] = {}
        for kind in ("", "_raw"):
            rates |= sequences.rate(totals, f"wer{kind}", f"words{kind}")
            rates |= sequences.rate(totals, f"cer{kind}", f"chars{kind}")
        return rates

    def write(self, predictions: Sequence[Prediction], folder: Path) -> None:
        """`asr.csv`: `id,hypothesis`."""
        sequences.write_texts(predictions, folder / "asr.csv")

    def _search(self, names: tuple[str, ...]) -> BeamSearch:
        if names not in self._searches:
            o = self.options
            model = Path(o.lm).expanduser() if o.lm else None
            self._searches[names] = BeamSearch(names, o.beam, model, o.lm_weight, o.word_score)
        return self._searches[names]

    def _normal(self, text: str) -> str:
        return normalise(text, self.options.lower, self.options.punctuation)
