"""What a run's seed draws, and objectives that don't fit a task."""

from __future__ import annotations

import pytest
from made_records import make

from bab.config.resolve import pretrain_config, run_config
from bab.core.errors import ConfigError
from bab.pretraining.runner import pretrain
from bab.results.summary import summarise
from bab.running.parts import build_parts


def asked(encoder: str, *sets: str, seed: int = 0):
    return run_config(None, {"encoder": encoder, "task": "gender", "seed": seed}, sets).encoder


def test_the_runs_seed_draws_untrained_weights_unless_the_encoders_is_given():
    assert asked("hubert:random-tiny", seed=3).options["seed"] == 3
    assert asked("hubert:random-tiny", "encoder.seed=1", seed=3).options["seed"] == 1
    assert asked("hubert:tiny", seed=3).options["seed"] == 0
    pair = asked("fbank+hubert:random-tiny+clap:random-tiny", "encoder.clap.seed=9", seed=3)
    assert pair.options["hubert"]["seed"] == 3 and pair.options["clap"]["seed"] == 9
    keys = {"encoder": "hubert:random-tiny", "objective": "contrastive", "corpus": "rttm"}
    assert pretrain_config(None, keys | {"seed": 5}).encoder.options["seed"] == 5


def test_the_draw_is_another_model_and_the_record_and_the_fingerprint_say_so():
    options = {"encoder": "hubert:random-tiny", "task": "gender", "corpus": "librispeech"}
    made = [build_parts(run_config(None, options | {"seed": seed})) for seed in (0, 1, 1)]
    prints = [parts.encoder.fingerprint for parts in made]
    assert prints[0] != prints[1] == prints[2]


def one(seed: int, drawn: int, weights: str = "random-tiny"):
    config = {"encoder": {"name": "hubert", "weights": weights, "options": {"seed": drawn}}}
    config |= {"seed": seed}
    print_of = f"{weights}-{drawn}"
    return make(f"r{seed}{drawn}", encoder=f"hubert:{weights}", seed=seed, config=config,
                encoder_fingerprint=print_of)  # fmt: skip


def test_a_table_averages_over_the_seeds_draws():
    (row,) = summarise([one(seed, seed) for seed in (0, 1, 2)]).rows
    assert row.settings == "" and row.cells[0].seeds == (0, 1, 2)


def test_a_draw_that_was_held_fixed_is_a_row_of_its_own():
    rows = summarise([*(one(s, s) for s in (0, 1)), *(one(s, 7) for s in (0, 1))]).rows
    assert [row.cells[0].seeds for row in rows] == [(0, 1), (0, 1)]
    assert any("encoder.options.seed=7" in row.settings for row in rows)


def test_two_versions_of_a_plugin_are_two_rows():
    whose = "mine {} mine:Encoder"
    made = [make(v, versions={"encoder plugin": whose.format(v)}) for v in ("1.0", "1.1")]
    assert sorted(row.settings for row in summarise(made).rows) == [
        f"encoder plugin={whose.format(v)}" for v in ("1.0", "1.1")
    ]


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (
            "cross_entropy",
            "is for tasks of level clip; task 'vtc' is of level frame, and has multil",
        ),
        ("masked", "learns from audio alone: `bab pretrain` uses it. Task 'vtc' has multilabel"),
    ],
)
def test_an_objective_that_does_not_fit_is_refused_before_anything_slow(objective, said):
    options = {"encoder": "hubert:missing", "task": "vtc", "objective": objective}
    with pytest.raises(ConfigError) as caught:
        build_parts(run_config(None, options))
    assert said in str(caught.value)


def test_pretraining_names_the_objectives_that_are_installed(install):
    source = """
        import bab
        class Mine(bab.Objective):
            pretrains = True
            def counts(self, batch): ...
            def forward(self, model, batch): ...
    """
    install("pretrains", {"objectives": {"mine": "pre_mine:Mine", "bad": "pre_mine:None"}},
            {"pre_mine": source})  # fmt: skip
    keys = {"encoder": "hubert:random-tiny", "objective": "ctc", "corpus": "rttm"}
    with pytest.raises(ConfigError, match="takes contrastive or masked or mine"):
        pretrain(pretrain_config(None, keys | {"observers": []}))
