"""`help` of a contract is the contract: short, with all that an author must set or write."""

from __future__ import annotations

import abc
import pydoc
import re

import pytest

import bab

MUST = {
    "Encoder": "sample_rate dim depth grid max_seconds fingerprint resolved local_dim load forward",
    "Head": "level linear closed_form outputs forward",
    "Objective": "pretrains level counts forward",
    "Task": "needs level primary fit targets decode statistics metrics",
    "Corpus": "provides splits clips",
}


@pytest.mark.parametrize("name", MUST)
def test_help_is_short_and_whole(name: str) -> None:
    text = pydoc.plain(pydoc.render_doc(getattr(bab, name)))
    assert len(text.splitlines()) < 170
    assert "register_forward_hook" not in text
    for word in MUST[name].split():
        assert re.search(rf"\b{word}\b", text), word


def test_what_derives_from_a_contract_keeps_all_names() -> None:
    encoder = bab.load_encoder("fbank")
    assert "parameters" in dir(encoder) and "state_dict" in dir(type(encoder))

    class Mixed(bab.Head, abc.ABC):  # no conflict of metaclasses
        @abc.abstractmethod
        def extra(self) -> None: ...

    with pytest.raises(TypeError, match="abstract"):
        Mixed(1, 1, None)
