"""Shared fixtures: distributions made up on the spot, as a stranger's plugins are installed."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forks
import listing
import pytest
from distributions import write_distribution

# Runs say `device: auto`, two processes stand on one machine, and results are compared to the byte:
# that is for CPUs. `BAB_GPU_TESTS=1 pytest -m gpu` (`make gpu`) is for the others.
if not os.environ.get("BAB_GPU_TESTS"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# readline, which pytest imports, sets it for the processes of pytest-xdist: tables would be folded.
os.environ.pop("COLUMNS", None)

# A gigabyte in small files, each written safely: in memory nothing waits for a disk.
MEMORY = Path("/dev/shm")
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 8e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

Install = Callable[..., Path]

_frozen = 0

# Until all is collected. Rewriting assertions takes each process of pytest 20 s: what was rewritten
# is kept, where PYTHONDONTWRITEBYTECODE says no, too. And there is no garbage that matters.
_unwritten = sys.dont_write_bytecode
sys.dont_write_bytecode = False
gc.disable()


def pytest_collection_finish() -> None:
    sys.dont_write_bytecode = _unwritten
    gc.enable()


# The dearest files, of five seconds and more: with --dist loadfile they come first, or one process
# ends with one of them while the other has nothing left to do.
DEAR = (
    "test_pretrain", "test_run", "test_audit", "test_five_systems", "test_ensembles",
    "test_export_onnx", "test_explain", "test_vad", "test_export_hf", "test_encoder_clap",
    "test_audio", "test_objectives_layout", "test_gpu", "test_bench", "test_bench_sweep",
    "test_builtins", "test_shards", "test_cli", "test_api", "test_encoder_ast",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("xdist"):
        config.option.loadscopereorder = False  # which begins with the files of most tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(DEAR)}
    items.sort(key=lambda item: places.get(item.path.stem, len(DEAR)))


def pytest_runtest_setup() -> None:
    """What has been imported stays: the collector of garbage, which ends each training, need not
    look through it every time."""
    global _frozen
    if len(sys.modules) > _frozen + 100:
        _frozen = len(sys.modules)
        gc.collect()
        gc.freeze()


def pytest_unconfigure() -> None:
    """pytest itself now collects twice, a second each time."""
    gc.freeze()


# Whose tests hang on no order in which a file system lists folders.
ANY_ORDER = {"data", "datasets", "formats", "hub", "kit", "targets"}


@pytest.fixture(autouse=True)
def any_order(request: pytest.FixtureRequest) -> None:
    if request.path.parent.name in ANY_ORDER:
        listing.mixed(request.getfixturevalue("monkeypatch"))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """A function like `write_distribution`, each in a folder of its own on the module path."""

    def lay(name, entries, modules=None, version="1.0", site=None):
        folder = site or tmp_path / f"site-{name}-{version}"
        write_distribution(folder, name, entries, modules, version)
        monkeypatch.syspath_prepend(str(folder))
        return folder

    return lay


@pytest.fixture
def forked_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workers that bab starts, also in a process of `forks`, need not import torch again; the
    file holds their process ids."""
    listed = tmp_path / "workers.txt"
    monkeypatch.setenv(forks.WORKERS, str(listed))
    monkeypatch.setattr(subprocess, "Popen", forks.popen)
    monkeypatch.setattr(multiprocessing, "get_context", forks.context)
    return listed


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a small voice type classifier, trained for a moment."""
    from bab.config.resolve import run_config
    from bab.running.runner import run

    base = tmp_path_factory.mktemp("model")
    asked = {"encoder": "fbank", "task": "vtc", "observers": [], "runs": str(base / "runs")}
    sets = ["train.steps=30", "train.eval_every=15", "train.lr=0.01"]
    sets.append(f"cache.dir={base / 'cache'}")
    return run(run_config(None, asked, sets))[1]


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Puts an answer, or a function, in a function's place; what it is called with."""

    def put_there(place: str, answer: Any) -> list[Any]:
        calls: list[Any] = []

        def called(*args: Any, **named: Any) -> Any:
            calls.append((args, named))
            if isinstance(answer, BaseException):
                raise answer
            return answer(*args) if callable(answer) else answer

        monkeypatch.setattr(place, called)
        return calls

    return put_there
