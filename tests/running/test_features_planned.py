"""The frozen features of a run, as a session plans them: how an encoder is held, asked and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from train_worker import Small

from bab.config.resolve import run_config
from bab.core.types import View
from bab.data.content import content_memo
from bab.running import session as module
from bab.running.parts import Parts
from bab.running.session import Session

Planned = Callable[..., dict[str, Any]]


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """What `FeatureSource` is given of a run."""
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "own"))

    def of(*sets: str, device: str = "cpu", pooled: bool = False, layers: Any = None) -> Any:
        given: dict[str, Any] = {}

        class Source:
            def __init__(
                self, encoder: Any, layers: Any, store: Any, memo: Any, device: Any, dtype: Any,
                **more: Any,
            ) -> None:  # fmt: skip
                given.update(encoder=encoder, layers=layers, store=store, memo=memo, device=device)
                given.update(dtype=dtype, **more)

            def plan(self, windows: Any) -> None:
                given["planned"] = windows

        asked: list[Any] = []
        monkeypatch.setattr(module, "FeatureSource", Source)
        monkeypatch.setattr(module, "pack", lambda *args: asked.append(args) or "packed")
        monkeypatch.setattr(module, "room", lambda on: asked.append(on) or 77)
        config = run_config(None, {"encoder": "fbank", "task": "vtc"}, sets)
        if layers is not None:
            config = config.model_copy(update={"layers": layers})
        encoder = Small().train()
        parts = SimpleNamespace(
            encoder=encoder, members=(encoder,), pooled=pooled, view=View(),
            examples=lambda clips: SimpleNamespace(windows=("windows of", clips)),
        )  # fmt: skip
        handle = SimpleNamespace(device=torch.device(device))
        source = Session().features(config, cast(Parts, parts), handle, cast(Any, ["a clip"]))
        assert isinstance(source, Source)
        assert asked == [(encoder, handle.device), handle.device]
        return given

    return of


def test_features_are_kept_where_the_user_keeps_what_can_be_made_again(
    planned: Planned, tmp_path: Path
) -> None:
    given = planned("cache.dtype=float32")
    encoder, store = given["encoder"], given["store"]
    assert not any(p.requires_grad for p in encoder.parameters())
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert (store.root, store.budget) == (tmp_path / "own" / "features", 20 * 10**9)
    assert (given["memo"], given["layers"]) == (content_memo(), "all")
    assert (given["device"], given["dtype"]) == (torch.device("cpu"), torch.float32)
    assert (given["batch"], given["pool"], given["precision"]) == (1, False, "fp32")
    assert (given["packed"], given["resident"]) == ("packed", 77)
    assert given["planned"] == ("windows of", ["a clip"])


def test_what_a_run_asks_of_its_features_is_handed_on(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    sets = ("cache.dir=~/kept", "cache.budget_gb=0.5", "cache.dtype=float16")
    given = planned(*sets, "train.precision=bf16", device="meta", pooled=True, layers=1)
    assert (given["store"].root, given["store"].budget) == (tmp_path / "kept", 5 * 10**8)
    assert (given["device"], given["dtype"]) == (torch.device("meta"), torch.float16)
    assert (given["batch"], given["pool"], given["precision"]) == (512, True, "bf16")
    assert given["layers"] == 1
    held = {(p.device.type, p.dtype) for p in given["encoder"].parameters()}
    assert held == {("meta", torch.bfloat16)}  # rounded once, on the device
    assert planned("cache.dtype=float32", layers="last")["layers"] == "last"
