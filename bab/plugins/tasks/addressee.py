"""Task `addressee`: whom is an utterance meant for, an adult, the key child or someone else?

The addressee task on top of BabyHuBERT: the encoder reads the utterance with ten seconds of
context on each side, and the mean over the utterance's own frames goes through dropout and one
linear layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from bab import Options, View
from bab.kit import FINETUNE, PROBE, ClipTask

CLASSES = ("ADS", "KCDS", "Other")
# ChildProject's `addressee`: T target child, C other child, A adult, O other, P pet, U uncertain.
# Several at once, separated by commas, are "Other".
CODES = {"A": "ADS", "T": "KCDS", "C": "Other", "O": "Other", "P": "Other"}


class AddresseeOptions(Options):
    """What can be set under `task`."""

    classes: tuple[str, ...] = Field(
        CLASSES, min_length=2, description="of ADS, KCDS and Other; the others are left out"
    )


class Addressee(ClipTask):
    """Adult-directed (ADS), key-child-directed (KCDS) or other speech; uncertain is left out."""

    Options = AddresseeOptions
    source = "BabyHuBERT (arXiv 2509.15001): addressee; ChildProject's annotation format"
    needs = frozenset({"addressee"})
    corpus = "childproject"
    view = View(context=10.0)
    primary = "macro_f1"
    kinds = ("addressee",)
    remedy = "Leave the class out with --set task.classes='[ADS, KCDS]', or split otherwise"
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        mode: {
            **rest,
            "corpus": {"clips": "utterances"},
            "head": {"hidden": 0, "dropout": 0.5},
        }
        for mode, rest in (("probe", PROBE), ("finetune", {**FINETUNE, "layers": "last"}))
    }

    def __init__(self, options: AddresseeOptions) -> None:
        super().__init__(options)
        self.wanted = {"addressee": options.classes}

    def mapped(self, kind: str, written: str) -> str:
        if written in CLASSES:
            return written
        codes = {code.strip() for code in written.upper().split(",")}
        if not codes <= CODES.keys():
            return ""
        return CODES[codes.pop()] if len(codes) == 1 else "Other"
