"""Every built-in passes the suite of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bab.core import registry
from bab.testing import loading
from bab.testing.subjects import Asked, suite_of
from bab.testing.suite import Check, run_checks

# What a component is tried with, where its defaults are slow, or have nothing to try.
WHERE = {
    **dict.fromkeys(("hubert", "wav2vec2", "wavlm", "ast", "clap"), "random-tiny"),
    "s3prl": "fbank",
}
OPTIONS: dict[str, dict[str, Any]] = {"classify": {"labels": ("reason",)}}
NO_SAMPLE = ("datasets", "hf")  # its own tests make one
ENGINES = (("launchers", "slurm"), ("launchers", "ray"))  # tests/launching/test_engines.py
EVERY = [
    (entry.kind, entry.name)
    for entry in registry.entries()
    if entry.distribution == "bab" and (entry.kind, entry.name) not in (NO_SAMPLE, *ENGINES)
]


def test_every_kind_is_there():
    assert {kind for kind, _ in EVERY} == set(registry.KINDS) and len(EVERY) > 50


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=[f"{k}-{n}" for k, n in EVERY])
def test_a_built_in_passes(kind: str, name: str, tmp_path: Path):
    """Of encoders, what isn't a forward pass: the rest their own tests run, with many settings."""
    own = loading.CHECKS if kind == "encoders" else None
    suite_passes(kind, name, tmp_path, own)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for kind, name in EVERY if kind == "encoders"])
def test_an_encoder_passes_all(name: str, tmp_path: Path):
    suite_passes("encoders", name, tmp_path)


def suite_passes(kind: str, name: str, folder: Path, checks: Sequence[Check] | None = None):
    where = WHERE.get(name, "") if kind == "encoders" else ""
    suite = suite_of(Asked(kind, name, folder, where, OPTIONS.get(name), offline=True))
    outcomes = list(run_checks(checks or suite.checks, suite.subject))
    failed = [f"{one.name}: {one.told}" for one in outcomes if one.verdict == "failed"]
    assert not failed, "\n".join(failed)
    assert any(one.verdict == "ok" for one in outcomes)
