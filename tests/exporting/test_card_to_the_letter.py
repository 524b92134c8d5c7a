"""A model card section by section, of made-up runs: what is said, and when."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_records
import numpy as np
import pytest
import yaml
from made_models import made
from torch import nn

from bab.core.components import build_task
from bab.core.errors import BabError
from bab.core.grid import Grid
from bab.core.types import View
from bab.exporting.card import Folder, card, public
from bab.exporting.settings import settings
from bab.exporting.source import Source, open_source, sound

GRID = Grid(16000, 320, 400)


def saved(task: str = "vtc", **more: Any) -> Any:
    encoder = SimpleNamespace(grid=GRID, max_seconds=None, modules=lambda: [nn.ReLU()])
    spec = {"run": "r7", "task": {"name": task}, "resolved": "hubert:facebook/hubert-base-ls960"}
    plain = {
        "spec": spec, "task": build_task(task, {}), "labels": {"voice": ("KCHI", "FEM")},
        "view": View(window=4.0), "encoder": encoder, "members": (1,),
        "tuned": {"f1": {"thresholds": {"KCHI": 0.3}}},
    }  # fmt: skip
    return SimpleNamespace(**{**plain, **more})


def source(record: Any = None, own: Any = None, **more: Any) -> Source:
    own = own or saved()
    facts = {"folder": Path("/nowhere"), "losses": (4.0, 0.5), "fold": "", **more}
    return Source(
        facts["folder"], own.encoder, own, record, {}, facts["losses"], facts["fold"]
    )  # fmt: skip


def pretrained(**result: Any) -> Source:
    encoder = saved().encoder
    told = {
        "id": "p1", "encoder": "wav2vec2:tiny", "objective": "contrastive", "corpus_digest": "d1",
        "corpora": ["kaldi", "no-such-plugin"], "clips": {"train": 4, "dev": 2}, "audio_hours": 2.0,
        "dev": {"loss": 1.23456}, "config": {"corpus": {"root": "/x"}, "audio": {"gain": None}},
    }  # fmt: skip
    return Source(Path("/nowhere"), encoder, None, None, {**told, **result}, None)  # type: ignore[arg-type]


def folder(**more: Any) -> Folder:
    return Folder(
        **{"library": "onnx", "head": True, "usage": "code\n\n", "language": "sh", **more}
    )


def sections(source: Source, folder: Folder) -> dict[str, list[str]]:
    """Heading -> paragraphs, bullets apart."""
    parts = str(card(source, folder)).partition("\n# ")[2].split("\n## ")
    cut = [part.partition("\n") for part in parts]
    return {
        head: [p for p in text.strip().replace("\n- ", "\n\n- ").split("\n\n") if p]
        for head, _, text in cut
    }


def front(source: Source, folder: Folder) -> dict[str, Any]:
    return yaml.safe_load(str(card(source, folder)).split("---\n")[1])


def record(**more: Any) -> Any:
    plain = {
        "dev": {"f1": 0.5}, "versions": {"bab": "0.0.7"},
        "data": {"train": {"clips": 2, "hours": 1.5}, "dev": {}, "folds": 3, "heard": {"test": 0},
                 "test": {"clips": 1, "hours": 0.254}, "skipped": {"a": 1}, "left_out": {"b": 1}},
        "cost": {"encoder_parameters": 94.4e6, "trained_parameters": 12_500},
    }  # fmt: skip
    return made_records.make(**{**plain, **more})


OTHER = "It was not tried on other corpora, languages, ages or recorders than those named above."
LICENCE = (
    "Licence of this model: not stated by whoever exported it. The encoder's weights and the "
    "training data have terms of their own, which hold for what is made of them."
)


def test_a_whole_card() -> None:
    told = sections(source(record()), folder(notices=["a notice"]))
    assert list(told) == [
        "vtc, hubert:facebook/hubert-base-ls960", "Usage", "Training data", "Training", "Results",
        "Limits", "Intended use and ethics", "Licence and credits", "Citation",
    ]  # fmt: skip
    assert told["vtc, hubert:facebook/hubert-base-ls960"] == [
        "Segments of four voices, from frames; scored by duration inside the annotated time. "
        "Trained with bab 0.0.7, run `r7`.",
        "Labels: voice: `KCHI`, `FEM`",
        "**It was trained on the small synthetic sample that ships with bab: it shows that the "
        "software works, and says nothing about real voices.**",
        "Note: a notice.",
    ]
    assert told["Usage"] == ["```sh\ncode\n```"]
    assert told["Training data"] == [
        "Corpus: rttm 1, digest `d1d1d1d1d1d1d1d1`.",
        "| split | clips | hours |\n| ----- | ----: | ----: |\n| train |     2 |  1.50 |\n"
        "| test  |     1 |  0.25 |",
        "Splits: given, 3 folds. What was tuned (thresholds, the checkpoint) was chosen on dev. 2 "
        "kinds of clips or files were left out as unusable.",
    ]
    assert told["Training"] == [
        "Training loss: 4 at the start, 0.5 at the end (means over the first and the last 5 % of "
        "the steps).",
        "94.4 M parameters in the encoder; 12.5 k were trained.",
        "Hyperparameters:",
        "```yaml\nseed: 0\ntrain:\n  steps: 300\n  lr: 0.001\n```",
    ]
    assert told["Results"][:2] == ["On test.", "### vtc@rttm, fbank, probe: default"]
    assert told["Limits"] == [
        "- Test holds 3 recordings: so few that the intervals are themselves unsure, and other "
        "voices may give other figures.",
        "- It takes 16000 Hz mono, at most 4 s at once, every 3.98 s. Other windows give other "
        "outputs.",
        "- Thresholds are in `bab.json`, by preset; pauses under 100 ms are closed and segments "
        "under 100 ms dropped, in this order. Thresholds were chosen for the training corpus's mix "
        "of voices.",
        f"- {OTHER}",
    ]
    assert told["Licence and credits"][:2] == [
        f"- {LICENCE}",
        "- Data, rttm: synthetic recordings that ship with bab. Licence: CC0.",
    ]
    assert told["Licence and credits"][2].startswith(
        "- Encoder, hubert:facebook/hubert-base-ls960: arXiv 2106.07447"
    )
    assert told["Licence and credits"][2].endswith(". Licence: see the page of its weights.")
    assert told["Licence and credits"][3].startswith("- Task: BabyHuBERT and VTC 2 (arXiv")
    meant, not_meant = told["Intended use and ethics"]
    assert meant.startswith("It is meant for research on recordings whose speakers, or their gua")
    assert not_meant.startswith("It is not meant for watching or identifying persons, for decisio")
    assert not_meant.endswith("has to measure it there first, on recordings annotated by hand.")
    assert told["Citation"] == [
        "Cite the works named under credits (encoder, task, data), and the software:",
        "```bibtex\n@software{bab,\n"
        "  title = {bab: pretrain, adapt and compare self-supervised audio encoders},\n"
        "  version = {0.0.7},\n  note = {run r7}\n}\n```",
    ]


def test_front_matter() -> None:
    told = front(source(record(metrics={"f1": 0.654321})), folder())
    assert told == {
        "base_model": "facebook/hubert-base-ls960", "library_name": "onnx", "license": "unknown",
        "metrics": ["f1"], "pipeline_tag": "voice-activity-detection",
        "tags": ["bab", "audio", "vtc"],
        "model-index": [{
            "name": "vtc, hubert:facebook/hubert-base-ls960",
            "results": [{
                "task": {"type": "voice-activity-detection"},
                "dataset": {"name": "rttm (test)", "type": "rttm"},
                "metrics": [{"type": "f1", "value": 0.6543}],
            }],
        }],
    }  # fmt: skip
    bare = front(source(record()), folder(head=False))
    assert bare["tags"] == ["bab", "audio"] and bare["pipeline_tag"] == "feature-extraction"
    assert "model-index" not in bare and "metrics" not in bare
    for one in (source(record(metrics={})), source()):
        assert "model-index" not in front(one, folder())
    for task, tag in (("gender", "audio-classification"), ("sv", "audio-classification"),
                      ("asr", "automatic-speech-recognition")):  # fmt: skip
        own = saved(task, tuned={}, labels={"a": ("b", "c")})
        assert front(source(own=own), folder())["pipeline_tag"] == tag


def limits(source: Source, folder: Folder) -> list[str]:
    return [line.removeprefix("- ") for line in sections(source, folder)["Limits"]]


def test_limits_of_figures(tmp_path: Path) -> None:
    def few(count: int) -> Any:
        return record(jackknife=made_records.kept([i / 30 for i in range(count)], unit="child"))

    shown = folder(head=False)
    plain = ["It gives vectors, no labels: what they are good for has to be measured with a head."]
    assert limits(source(few(20)), shown) == [*plain, OTHER] == limits(source(), shown)
    told = "Test holds 19 children: so few that the intervals are themselves unsure, and other "
    assert limits(source(few(19)), shown)[0] == f"{told}voices may give other figures."
    leaky = limits(source(record(leakage=True)), shown)
    assert leaky[0] == (
        "The splits share speakers, groups or recordings: the figures are too high."
    )
    of_fold = limits(source(few(20), fold="2"), shown)
    assert of_fold[0] == "This is the model of fold 2; the figures are of all folds' models."
    (tmp_path / "folds").mkdir()
    assert limits(source(few(20), folder=tmp_path), shown)[0] == (
        "The figures are of one model for each fold, on recordings that it had not met. This model "
        "was trained on all of them, and was tested on none."
    )
    assert limits(source(few(20), folder=tmp_path, fold="0"), shown)[0].startswith("This is the")
    assert limits(source(folder=tmp_path), shown) == [*plain, OTHER]


def test_limits_of_heads_and_encoders() -> None:
    padding = "One recording at a time, or several of the same length: in models with group norm, "
    hf = folder(library="transformers", head=False)
    normed = saved(encoder=SimpleNamespace(
        grid=GRID, max_seconds=None, modules=lambda: [nn.ReLU(), nn.GroupNorm(1, 1)]
    ))  # fmt: skip
    assert limits(source(own=normed), hf)[1].startswith(padding)
    assert len(limits(source(own=normed), folder(head=False))) == 2 == len(limits(source(), hf))
    context = saved(view=View(window=4.0, context=0.5))
    assert limits(source(own=context), folder())[1] == (
        "In training an utterance was given with 0.5 s of context on each side, and only its own "
        "frames counted. A file alone has no context."
    )
    two = saved("gender", labels={"a": ("b", "c"), "d": ("e", "f")}, tuned={}, view=View())
    assert limits(source(own=two), folder())[1:] == [
        "Each kind of label has a softmax of its own: the groups stand in `bab.json`.", OTHER
    ]  # fmt: skip
    text = saved("asr", labels={"t": ("_", "a")}, tuned={}, view=View())
    greedy = "Text is read greedily; a language model, where the run had one, is left out."
    assert greedy in limits(source(own=text), folder(library="transformers"))
    assert greedy not in limits(source(own=text), folder())
    pair = saved("sv", labels={"s": ("a", "b")}, tuned={}, view=View())
    assert limits(source(own=pair), folder())[1:3] == [
        "A cosine is no probability: choose the threshold on recordings like yours.",
        "Utterances of a few frames (under a third of a second) are an error there.",
    ]


def test_first_lines() -> None:
    many = saved(
        "gender", labels={"a": tuple(f"w{i}" for i in range(61)), "b": ("c", "d")}, tuned={}
    )
    lines = next(iter(sections(source(record(), many), folder()).values()))
    assert lines[1] == "Labels: a: 61 labels, in the folder's files; b: `c`, `d`"
    sixty = saved("gender", labels={"a": tuple(f"w{i}" for i in range(60))}, tuned={})
    lines = next(iter(sections(source(record(), sixty), folder()).values()))
    assert lines[1].endswith("`w58`, `w59`")
    pair = saved("sv", labels={"s": ("anna", "bert")}, tuned={})
    assert "anna" not in str(card(source(record(), pair), folder()))
    notice = saved("valence", labels={"a": ("b", "c")}, tuned={})
    lines = next(iter(sections(source(record(), notice), folder()).values()))
    assert lines[2] == f"**{notice.task.notice}**"
    elsewhere = record(config={"corpus": {"root": "/x"}})
    told = sections(source(elsewhere), folder(head=False))
    assert next(iter(told)) == "hubert:facebook/hubert-base-ls960, the encoder of a model for vtc"
    assert next(iter(told.values())) == [
        "A speech encoder: audio in, a vector for each frame out. From bab 0.0.7, run `r7`."
    ]
    assert told["Results"][0] == "These are of the whole model, of which this is the encoder."


def test_what_is_not_known_is_said() -> None:
    told = sections(source(losses=None), folder())
    assert told["Training data"] == ["Not known: the model was exported without its record."]
    assert told["Training"][0] == (
        "Losses of training: not known (no steps were taken, or no log was kept of them)."
    )
    assert told["Results"] == ["Not known: the model was exported without a finished record."]
    failed = sections(source(record(status="failed")), folder())
    assert failed["Results"] == told["Results"]
    solved = record(cost={"encoder_parameters": 870.0, "trained_parameters": 0}, dev={}, data={})
    told = sections(source(solved), folder())
    assert told["Training"][1] == (
        "870 parameters in the encoder; the head was solved in closed form."
    )
    assert told["Training data"] == [
        "Corpus: rttm 1, digest `d1d1d1d1d1d1d1d1`.", "Splits: given."
    ]  # fmt: skip
    assert (
        len(sections(source(record(cost={"encoder_parameters": 1.0})), folder())["Training"]) == 3
    )
    assert sections(source(record(intervals={})), folder())["Results"][0] == (
        "On test, without intervals."
    )


def test_subgroups_that_may_name_somebody_stay_out() -> None:
    values = {str(i): {"f1": 0.5} for i in range(7)}
    six = dict(list(values.items())[:6])
    names = ("session", "participant", "speaker", "recording", "child", "group", "date")
    told = record(subgroups={"gender": six, "age": values, **dict.fromkeys(names, six)},
                  groups={"anna": {"f1": 0.1}}, encoder="hubert:/data/anna/w")  # fmt: skip
    shown = [p for p in sections(source(told), folder())["Results"] if p.startswith("### ")]
    assert shown == ["### vtc@rttm, hubert:w, probe: default", "### gender"]


def test_a_pretraining_runs_card() -> None:
    told = sections(pretrained(), folder(head=False))
    assert next(iter(told)) == "wav2vec2:tiny, pretrained with bab (contrastive)"
    assert told["Training data"] == [
        "Corpus: kaldi, no-such-plugin (digest `d1`), 4 clips of training and 2 of dev. 2.00 h of "
        "audio were used in training, repetitions counted."
    ]
    assert told["Results"] == [
        "Losses on dev, at the checkpoint that was kept:",
        "|      | value |\n| ---- | ----: |\n| loss | 1.235 |",
    ]
    assert sections(pretrained(dev={}), folder(head=False))["Results"] == [
        "No dev loss was measured."
    ]
    assert told["Training"][-1] == "```yaml\n{}\n```"
    credits = told["Licence and credits"]
    assert credits[1].startswith("- Data, kaldi: data directories as kaldi-asr.org defines them")
    assert credits[1].endswith("Licence: not stated in the record: see the corpus's own page.")
    assert credits[2] == (
        "- Data, no-such-plugin: not stated. Licence: not stated in the record: see the corpus's "
        "own page."
    )
    assert len(credits) == 4 and credits[3].startswith("- Encoder, wav2vec2:tiny: ")
    both = record(corpus="kaldi→rttm", config={"corpus": {"root": "/x"}})
    credits = sections(source(both), folder())["Licence and credits"]
    assert [line.partition(":")[0] for line in credits[1:3]] == ["- Data, kaldi", "- Data, rttm"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x:rel/path", "x:rel/path"), ("./a/b", "b"), ("../a/b", "b"), ("\\\\host\\a", "a"),
        ("d:/a/b", "b"), ("enc:C:\\w\\m", "enc:m"), ("c:x", "c:x"), (("/a/b", 1), ["b", 1]),
        (None, None), ("", ""),
    ],
)  # fmt: skip
def test_folders_of_whoever_trained(value: Any, shown: Any) -> None:
    assert public(value) == shown


# --- what stands beside the card ------------------------------------------------------------------


def test_settings_of_a_model() -> None:
    about = settings(source(record()), True)
    raster = {"sample_rate": 16000, "hop": 320, "field": 400, "offset": 0}
    assert about == {
        "format": 1, "run": "r7", **raster, "task": "vtc", "level": "frame",
        "labels": {"voice": ["KCHI", "FEM"]}, "window": 64000, "step": about["step"], "once": False,
        "preset": "f1", "notice": "", "fill_gaps": 100, "min_segment": 100,
        "presets": {"f1": {"thresholds": {"KCHI": 0.3, "FEM": 0.5}},
                    "high-precision": {"thresholds": {"KCHI": 0.5, "FEM": 0.5}}},
    }  # fmt: skip
    assert settings(source(), False) == {"format": 1, "run": "r7", **raster}
    assert settings(pretrained(), True) == {"format": 1, "run": "p1", **raster}
    preset = build_task("sv", {}).presets[0]
    pair = settings(source(own=saved("sv", tuned={preset: {"x": 1}}, view=View())), True)
    assert pair["labels"] == {} and "fill_gaps" not in pair
    assert pair["presets"] == {preset: {"x": 1}} and pair["preset"] == preset
    task = build_task("vtc", {"fill_gaps": 0.0254, "min_segment": 0.0})
    own = saved()
    own.task = task
    brief = settings(source(own=own), True)
    assert (brief["fill_gaps"], brief["min_segment"]) == (25, 1)
    own.task = build_task("vtc", {"fill_gaps": 3.0, "min_segment": 2.5})
    long = settings(source(own=own), True)
    assert (long["fill_gaps"], long["min_segment"]) == (3000, 2500)


def test_where_a_model_lies_and_what_it_lost(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "gender")
    assert open_source(run, True, False).losses is None  # no log was kept
    events = [{"event": "started"}, {"event": "step", "step": 99}]
    events += [{"event": "step", "step": i, "loss": 100.0 - i, "fold": 0} for i in range(50)]
    events += [{"event": "step", "step": 0, "loss": 3.0}, {"event": "stage", "step": 7, "loss": 1}]
    events += [{"event": "step", "step": i, "loss": 7.0, "fold": 1} for i in range(3)]
    (run / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    one = open_source(run, True, False)
    # 50 steps of the first fold: two at each end; step 0 was repeated.
    assert one.losses == ((3.0 + 99.0) / 2, (52.0 + 51.0) / 2)
    assert (one.folder, one.fold, one.record, one.id) == (run, "", None, "made")
    assert one.config == one.saved.spec and one.began == one.saved.spec["resolved"]
    (run / "folds" / "1").mkdir(parents=True)
    assert open_source(run, True, False).losses is None  # a log of all folds at once
    (run / "model").rename(run / "folds" / "1" / "model")
    (run / "record.json").unlink(missing_ok=True)
    fold = open_source(run / "folds" / "1", True, False)
    assert (fold.folder, fold.fold, fold.losses) == (run, "1", (7.0, 7.0))


def test_what_is_not_finished_has_no_model(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(BabError, match=r"is not finished: the command that began it goes on"):
        open_source(tmp_path, True, False)
    (tmp_path / "pretrain.json").write_text(json.dumps({"id": "p"}))
    for place in (tmp_path, tmp_path / "model"):
        with pytest.raises(BabError, match=r"has no model folder: run the pretraining again with"):
            open_source(place, True, False)


def test_the_sound_that_models_are_compared_on() -> None:
    samples = sound(0.5, 8000)
    assert len(samples) == 4000 and samples.equal(sound(0.5, 8000))
    power = np.abs(np.fft.rfft(samples[1500:2500].numpy() * np.hanning(1000)))
    # 200 t + 300 t^2 cycles: at a quarter of a second the tone is at 200 + 600 / 4 Hz.
    assert abs(np.argmax(power) * 8 - 350) < 40
    assert abs(float(samples.abs().max()) - 0.4) < 0.15
