"""Options that have no test of their own arrive where they act, as what was typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from places import SAMPLES

import bab
from bab import Batch, Waves
from bab.cli import main
from bab.plugins.objectives.contrastive import Contrastive
from bab.plugins.objectives.masked import Masked
from bab.plugins.tasks.asr import SpeechRecognition


class ReachedError(Exception):
    """What a function was called with."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stops at a function, and gives its arguments."""

    def call(place: str, line: list[str]) -> tuple[Any, ...]:
        def stop(*args: Any, **named: Any) -> None:
            raise ReachedError(*args, *named.values())

        monkeypatch.setattr(place, stop)
        from bab.cli import cli

        with pytest.raises(ReachedError) as caught:
            cli.main(line, standalone_mode=False)
        return caught.value.args

    return call


def test_predict(seen: Any, tmp_path: Path) -> None:
    line = ["predict", "RUN", "a.wav", "--out", "x", "--threshold", "KCHI=.6"]
    line += ["--probabilities", "npy", "--precision", "bf16", "--overlap", ".5"]
    line += ["--timeline", "png,svg", "--enrol", str(tmp_path)]
    asked = seen("bab.predicting.predict.predict", line)[3]
    assert (asked.thresholds, asked.probabilities) == ({"KCHI": 0.6}, "npy")
    assert (asked.precision, asked.overlap) == ("bf16", 0.5)
    assert (list(asked.timeline), asked.enrol) == (["png", "svg"], tmp_path)


def test_embed_and_explain(seen: Any) -> None:
    line = ["embed", "fbank", "a.wav", "--out", "x", "--precision", "fp16"]
    assert seen("bab.predicting.embed.embed", line)[3].precision == "fp16"
    line = ["explain", "RUN", "a.wav", "--out", "x", "--start", "2", "--end", "4.5"]
    asked = seen("bab.explaining.explain.explain", line)[3]
    assert (asked.start, asked.end) == (2.0, 4.5)


def test_run(seen: Any) -> None:
    line = ["run", "--encoder", "fbank", "--task", "vtc", "--head", "frames", "--seed", "3"]
    line += ["--protocol", "kfold", "--mode", "finetune", "--freeze", "all"]
    config = seen("bab.running.runner.run", line)[0]
    assert (config.head.name, config.seed, config.protocol) == ("frames", 3, "kfold")
    assert (config.mode, config.freeze) == ("finetune", "all")
    # Training nothing contradicts a mode; without a model there is nothing to score.
    assert main(["run", "--evaluate", "--mode", "probe", "--task", "vtc"]) == 2


def test_audit_pretrain_targets(seen: Any, tmp_path: Path) -> None:
    line = ["audit", "donateacry", "--task", "classify", "--protocol", "kfold"]
    line += ["--set", "task.labels=[reason]"]
    assert seen("bab.auditing.audit.audit", line)[0].protocol == "kfold"
    line = ["pretrain", "--encoder", "hubert:random-tiny", "--objective", "masked"]
    line += ["--corpus", "audio", "--targets", str(tmp_path), "--seed", "5", "--set"]
    config = seen("bab.pretraining.runner.pretrain", [*line, "export_dtype=float16"])[0]
    assert (config.targets.folder, config.seed) == (str(tmp_path), 5)
    assert config.export_dtype == "float16"
    line = ["targets", "--corpus", "audio", "--out", str(tmp_path / "t"), "--seed", "7"]
    line += ["--sample-hours", "1.5"]
    asked = seen("bab.targets.make.make", line)[3]
    assert (asked.seed, asked.sample_hours) == (7, 1.5)
    asked = seen("bab.targets.make.make", [*line[:-2], "--sample-frames", "900"])[3]
    assert asked.sample_frames == 900


def test_the_contrastive_temperatures_decay() -> None:
    options = Contrastive.Options(gumbel_max=2.0, gumbel_decay=0.5, gumbel_min=0.3, temperature=0.2)
    loss = Contrastive(8, (), options)
    assert [loss.gumbel_temperature(step) for step in (0, 1, 2, 9)] == [2.0, 1.0, 0.5, 0.3]
    assert options.temperature == 0.2


class _States:
    """Three frames of one example, as an encoder's answer."""

    def __init__(self, states: torch.Tensor) -> None:
        self.layers, self.local = (states,), None
        self.lengths = torch.tensor([states.shape[1]])

    def encode(self, batch: Batch) -> _States:
        return self


def test_masked_scores_are_cosines_over_the_temperature() -> None:
    torch.manual_seed(0)
    states = torch.randn(1, 3, 8)
    mask, targets = torch.tensor([[True, False, True]]), torch.tensor([[1, 0, 2]])
    waves = Waves(torch.zeros(1, 9), torch.tensor([9]))
    batch = Batch(waves, targets, mask.sum(1), (), 0, mask=mask)
    options = Masked.Options(temperature=0.5, masked_weight=3.0, feature_penalty=0.0, final_dim=4)
    loss = Masked(8, (5,), options)
    term = loss(_States(states), batch).terms["masked"]
    ours, theirs = loss.final_proj(states[mask]), loss.label_embeddings
    cosines = torch.nn.functional.cosine_similarity(ours[:, None], theirs[None], dim=-1)
    expected = torch.nn.functional.cross_entropy(cosines / 0.5, targets[mask], reduction="sum")
    torch.testing.assert_close(term.total, expected)
    assert (term.count, term.weight) == (2.0, 3.0)


def test_beam_search_is_handed_the_score_of_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    from bab.plugins.tasks import asr

    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr(asr, "BeamSearch", lambda *given: made.append(given))
    options = SpeechRecognition.Options(beam=7, lm_weight=1.5, word_score=-0.5)
    SpeechRecognition(options)._search(("_", "a"))
    assert made == [(("_", "a"), 7, None, 1.5, -0.5)]


def test_metannots_say_the_algorithms_version(tmp_path: Path) -> None:
    from bab.plugins.formats.childproject import ChildProject

    written = ChildProject(ChildProject.Options(algorithm="vtc", algorithm_version="2.1"))
    written.write([bab.Annotation("a", (bab.Mark(0.0, 1.0, "KCHI"),))], tmp_path / "a.csv")
    said = "".join(p.read_text() for p in tmp_path.rglob("metannots.yml"))
    assert "2.1" in said


def test_renamed_options_name_the_new_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["prepare", "--corpus", "audio", "--out", str(tmp_path / "m.parquet"), "--hear", "all"]
    assert main(line) == 2 and "--hear is called --use now: --use all" in capsys.readouterr().err
    line = ["pretrain", "--encoder", "hubert:random-tiny", "--objective", "masked"]
    assert main([*line, "--corpus", "audio", "--set", "hear=all"]) == 2
    assert "unknown key 'hear' (from --set hear=all): it is called `use` now" in (
        capsys.readouterr().err
    )


def test_prepare_hands_on_what_is_used(seen: Any, tmp_path: Path) -> None:
    line = ["prepare", "--corpus", "audio", "--out", str(tmp_path / "m.parquet"), "--use", "all"]
    assert seen("bab.data.prepare.prepare", line)[6] == "all"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bab pre", {"predict", "prepare", "pretrain"}),
        ("bab run --evalu", {"--evaluate"}),
        ("bab run --encoder wav", {"wav2vec2", "wavlm"}),
        ("bab run --task gen", {"gender"}),
        ("bab data check rt", {"rttm"}),
        ("bab info x", {"xvector"}),
    ],
)
def test_the_tab_key(line: str, said: set[str]) -> None:
    from click.shell_completion import BashComplete

    from bab.cli import cli

    words = line.split()[1:]
    shell = BashComplete(cli, {}, "bab", "_BAB_COMPLETE")
    offered = shell.get_completions(words[:-1], words[-1])
    assert {item.value for item in offered} == said


def test_check_and_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = str(next((SAMPLES / "rttm" / "rttm").glob("*.rttm")))
    assert main(["check", "rttm", "--kind", "format", "--sample", sample]) == 0
    assert "format rttm of bab" in capsys.readouterr().out
    assert main(["new", "observer", "my-eyes", "--in", str(tmp_path)]) == 0
    assert (tmp_path / "my-eyes" / "pyproject.toml").is_file()
