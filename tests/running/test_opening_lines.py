"""What a run says before anything slow begins, line by line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from bab.core.types import Clip
from bab.running import runner
from bab.running.context import Context


def opening(**changes: Any) -> list[str]:
    corpus = SimpleNamespace(name="rttm", root=changes.get("root", "/data"))
    config = SimpleNamespace(
        mode="probe", corpus=corpus, test_corpus=changes.get("tested"), corpus_name="rttm", seed=5,
        task=SimpleNamespace(name="vtc"), head=SimpleNamespace(name="frames"),
    )  # fmt: skip
    encoder = torch.nn.Linear(399, 250)  # 100,000 numbers with its biases
    encoder.resolved = "hubert:x"  # type: ignore[assignment]
    parts = SimpleNamespace(
        encoder=encoder, start=changes.get("start"), task=SimpleNamespace(notice="of the task"),
        corpus=SimpleNamespace(notices=["of the corpus"]),
    )  # fmt: skip
    clips = [Clip("a", "a.wav", 0, 1800, "g"), Clip("b", "b.wav", 10, 946, "g")]
    data = SimpleNamespace(
        clips=clips, skipped=changes.get("skipped", {}), refused=changes.get("refused", {}),
        leakage=changes.get("leakage", ""),
    )  # fmt: skip
    given = SimpleNamespace(
        config=config, parts=parts, data=data, info=SimpleNamespace(folder="runs/x"),
        accelerator=SimpleNamespace(device=torch.device("cpu")), doubts={"unseen": "given"},
    )  # fmt: skip
    return list(runner._opening(cast(Context, given)))


UNSEEN = (
    "No speaker and no group is known: whether splits share a voice can't be seen "
    "(docs/corpora.md, Who is heard)."
)
PLAIN = [
    "encoder hubert:x (0.1 million parameters), probe",
    "task vtc on rttm (/data): 0.76 h of audio",
    "head frames, device cpu, seed 5",
    "folder runs/x",
    "of the corpus",
    UNSEEN,
    "of the task",
]


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "overlooked", lambda device: "")


def test_what_was_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opening() == PLAIN
    sample = SimpleNamespace(root=None)
    both = "task vtc on rttm (/data → the shipped sample): 0.76 h of audio"
    assert opening(tested=sample) == [PLAIN[0], both, *PLAIN[2:]]
    start = SimpleNamespace(name="hubert@r1", spec={"notices": ["not for adults"]})
    assert opening(start=start) == ["model hubert@r1", "not for adults", *PLAIN]
    start.spec = {}
    assert opening(start=start) == ["model hubert@r1", *PLAIN]
    monkeypatch.setattr(runner, "overlooked", lambda device: f"a GPU beside {device}")
    assert opening() == [*PLAIN[:4], "a GPU beside cpu", *PLAIN[4:]]


def test_what_was_left_out() -> None:
    skipped = {"x.wav": "cut", "y.wav": "cut"}
    refused = {f"reason {i}": 12 - i for i in range(12)}
    told = opening(skipped=skipped, refused=refused, leakage="LEAKAGE")
    lines = [f"{12 - i} clips left out: reason {i}" for i in range(10)]  # ten, the commonest
    left = ["2 unreadable files left out: x.wav, y.wav", *lines, "LEAKAGE"]
    assert told == [*PLAIN[:5], *left, *PLAIN[5:]]
    assert "1 clip left out: rare" in opening(refused={"rare": 1})
