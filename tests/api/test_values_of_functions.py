"""What functions give: a bench as a value, and what an evaluation can't be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_records import make

from bab.api.bench import Bench
from bab.api.runs import Run, configured
from bab.core.errors import ConfigError
from bab.results.detail import detail
from bab.results.table import table


def test_a_bench_is_its_table_and_what_failed() -> None:
    records = (make("a"), make("b", encoder="ast"))
    done = Bench(records, ("failed: x: no disk",), (), "2 runs in 0:01: 2 done", Path("r"))
    assert done.markdown() == table(records).rstrip() and not done.markdown().endswith("\n")
    assert done._repr_markdown_() == f"{done.markdown()}\n\nfailed: x: no disk"
    assert repr(done) == "<Bench of 2 runs in 0:01: 2 done. Runs: r>"
    nothing = Bench((), ("failed: x", "failed: y"), (), "2 runs in 0:01: 2 failed", Path("r"))
    assert nothing.markdown() == "" and nothing._repr_markdown_() == "failed: x\n\nfailed: y"


def test_tables_of_a_bench_hold_its_audits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    for place in ("bab.api.table.table", "bab.results.table.table"):
        monkeypatch.setattr(place, lambda records, audits: asked.append((records, audits)) or "t\n")
    done = Bench((make(),), (), ("audit",), "", Path("r"))  # type: ignore[arg-type]
    assert (done.table, done.markdown()) == ("t\n", "t")
    assert asked == [(done.records, ("audit",))] * 2


def test_a_run_is_its_scores() -> None:
    run = Run(make(), Path("f"))
    assert run.metrics == make().metrics and run.intervals == make().intervals
    assert run.__fspath__() == "f" and run._repr_markdown_() == detail(make(), matrices=False)


def test_an_evaluation_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        "bab.config.resolve.run_config", lambda place, keys, *given, **more: asked.append(keys)
    )
    for mode in (None, "evaluate"):
        configured(None, {"mode": mode}, (), [], evaluate=True)
        assert asked.pop() == {"mode": "evaluate", "layers": None}
    with pytest.raises(ConfigError) as caught:
        configured(None, {"mode": "probe"}, (), [], evaluate=True)
    assert str(caught.value) == "--evaluate trains nothing: --mode probe contradicts it"
    configured(None, {"mode": "probe"}, (), [])
    assert asked.pop() == {"mode": "probe", "layers": None}
