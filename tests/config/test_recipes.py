"""Every recipe in the repository names what exists, with keys that exist, and runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from places import ROOT

from bab.api.runs import recipe_kind
from bab.cli import main
from bab.config.pretrain import PretrainConfig
from bab.config.resolve import pretrain_config, run_config
from bab.config.run import RunConfig
from bab.core.errors import ConfigError

FOLDER = ROOT / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))
PUBLISHED = {
    "hindibabynet-wav2vec2", "babyhubert-iter1", "babyhubert-iter2", "vtc2", "addressee",
    "babar-phonemes", "superb-sv", "babycry-valence", "catalan-pretrain", "catalan-ctc",
    "catalan-accent", "catalan-gender",
}  # fmt: skip


def built(path: Path) -> RunConfig | PretrainConfig:
    return (pretrain_config if recipe_kind(path) == "pretrain" else run_config)(path, {})


def recipe(name: str) -> RunConfig | PretrainConfig:
    return built(FOLDER / f"{name}.yaml")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_each_published_system_has_its_recipes() -> None:
    assert {path.stem for path in RECIPES} >= PUBLISHED


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_builds(path: Path) -> None:
    assert built(path).encoder.name


@pytest.mark.parametrize(
    "path",
    [path for path in RECIPES if path.stem not in PUBLISHED],  # those: test_five_systems
    ids=lambda path: path.stem,
)
def test_a_recipe_runs_for_a_few_steps_and_says_what_it_replaced(
    path: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(path), "--smoke", "--quiet", "--offline", "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert "smoke:" in said and "the figures mean nothing" in said
    pretrains = recipe_kind(path) == "pretrain"
    name = "pretrain.json" if pretrains else "record.json"
    (found,) = (tmp_path / "smoke-runs").rglob(name)
    result = json.loads(found.read_text())
    weights = result["config"]["encoder"]["weights"]
    assert weights in ("", "random-tiny") and result["config"]["corpus"]["root"] is None
    if weights:
        assert "-> random-tiny" in said
    assert result["config"]["train"]["steps"] == 3


def test_smoke_needs_a_recipe(capsys) -> None:
    assert main(["run", "--encoder", "hubert", "--task", "vtc", "--smoke"]) == 2
    assert "--smoke tries a recipe" in capsys.readouterr().err


def test_a_pretraining_recipe_has_no_task(capsys) -> None:
    path = FOLDER / "hindibabynet-wav2vec2.yaml"
    assert main(["run", str(path), "--task", "vtc"]) == 2
    assert "--task has no meaning there" in capsys.readouterr().err


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("kind: prune\n")
    with pytest.raises(ConfigError, match="neither run nor pretrain"):
        recipe_kind(path)


def test_the_baseline_says_what_the_readme_reports() -> None:
    made = recipe("vtc-fbank-bilstm")
    assert isinstance(made, RunConfig)
    assert (made.view.window, made.view.train_seconds, made.train.steps) == (60, 8, 1500)
    assert made.head.options["rnn"] == "bilstm"


def test_published_hyperparameters_are_in_place() -> None:
    hindi = recipe("hindibabynet-wav2vec2")
    assert isinstance(hindi, PretrainConfig)
    assert (hindi.encoder.spec, hindi.mask.prob, hindi.mask.length) == ("wav2vec2:base", 0.05, 10)
    assert (hindi.audio.crop, hindi.audio.per_clip, hindi.audio.rms) == (8, 10, 0.001)
    assert (hindi.train.lr, hindi.train.warmup, hindi.train.steps) == (5e-5, 5000, 50000)
    assert (hindi.train.batch, hindi.train.schedule, hindi.train.clip) == (64, "linear", 1.0)
    assert hindi.objective.options["negatives"] == 100
    sizes = (hindi.objective.options["groups"], hindi.objective.options["codes"])
    assert sizes == (None, None)  # those of the checkpoint that it continues: 2 x 320
    for name, targets in (("iter1", "wavlm:base-plus"), ("iter2", "hubert:runs/babyhubert-iter1")):
        baby = recipe(f"babyhubert-{name}")
        assert isinstance(baby, PretrainConfig)
        assert (baby.mask.prob, baby.mask.length, baby.targets.clusters) == (0.8, 10, 500)
        assert (baby.targets.encoder, baby.targets.layer) == (targets, 6 if name == "iter1" else 7)
        assert (baby.train.lr, baby.train.betas, baby.train.eps) == (5e-4, (0.9, 0.98), 1e-6)
        assert (baby.train.warmup, baby.train.steps, baby.train.clip) == (32000, 400000, 10)
        assert baby.objective.options["feature_penalty"] == 10
        assert baby.encoder.options["feature_grad_mult"] == 0.1
    vtc = recipe("vtc2")
    assert isinstance(vtc, RunConfig)
    assert (vtc.train.lr, vtc.train.batch, vtc.view.window) == (1e-5, 128, 4)
    assert (vtc.head.options["dropout"], vtc.freeze, vtc.layers) == (0.5, "conv", "last")
    speakers = recipe("superb-sv")
    assert isinstance(speakers, RunConfig)
    assert (speakers.objective.options["scale"], speakers.objective.options["margin"]) == (30, 0.4)
    assert (speakers.view.train_seconds, speakers.view.train_minimum) == (8, 2)
