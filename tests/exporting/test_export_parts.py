"""The parts of an export one by one: what has a place where, what differs, what is said."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_models import made

from bab.core.errors import BabError, NotApplicableError
from bab.core.interfaces import Encoder
from bab.exporting import export as exporting
from bab.exporting import graph, hf, push, tokens
from bab.exporting.export import Exported, export
from bab.exporting.source import open_source

# --- transformers -------------------------------------------------------------------------------


def layered(layers: Any = None, logits: Any = None, depth: int = 4) -> Any:
    mix = SimpleNamespace(layers=layers) if logits is None else SimpleNamespace(logits=logits)
    return SimpleNamespace(model=SimpleNamespace(mix=mix), encoder=SimpleNamespace(depth=depth))


@pytest.mark.parametrize(
    ("layers", "weights"),
    [("last", None), (3, None), (-1, None), (0, [0, -1e4, -1e4, -1e4]),
     (2, [-1e4, -1e4, 0, -1e4]), (-2, [-1e4, -1e4, 0, -1e4])],
)  # fmt: skip
def test_one_layer_is_a_sum_in_which_the_others_weigh_nothing(
    layers: Any, weights: list[float] | None
) -> None:
    for stable in (False, True):
        summed, tensors = hf._layers(layered(layers), "ForXVector", stable)
        assert summed is (weights is not None)
        assert {k: v.tolist() for k, v in tensors.items()} == (
            {"layer_weights": weights} if weights else {}
        )
    if weights:
        assert torch.softmax(torch.tensor(weights), 0).max() == 1.0
        with pytest.raises(NotApplicableError) as caught:
            hf._layers(layered(layers), "ForCTC", False)
        assert str(caught.value) == (
            f"layers {layers} under a CTC head, which reads the last layer alone there"
        )
    else:
        assert hf._layers(layered(layers), "ForCTC", False) == (False, {})


def test_a_mix_keeps_its_weights() -> None:
    logits = torch.nn.Parameter(torch.tensor([0.1, 0.2]))
    summed, tensors = hf._layers(layered(logits=logits), "ForXVector", False)
    assert summed and tensors["layer_weights"].tolist() == logits.tolist()
    assert not tensors["layer_weights"].requires_grad
    with pytest.raises(NotApplicableError, match=r"takes before the final norm$"):
        hf._layers(layered(logits=logits), "ForXVector", True)


def config(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"architectures": [f"{name}Model"], "model_type": kind, **more}


def test_the_class_of_transformers() -> None:
    notices: list[str] = []
    ctc, frames = "ForCTC", "ForAudioFrameClassification"
    assert hf._class(config("Hubert", "hubert"), ctc, notices) == "HubertForCTC"
    assert hf._class(config("WavLM", "wavlm"), frames, notices) == f"WavLM{frames}"
    assert notices == []
    asked = config("Hubert", "hubert", feat_proj_layer_norm=True, conv_pos_batch_norm=False)
    assert hf._class(asked, frames, notices) == f"Wav2Vec2{frames}"
    assert asked["model_type"] == "wav2vec2" and notices == [
        f"transformers has no Hubert{frames}: HuBERT's network is wav2vec 2.0's, so the folder is "
        f"a Wav2Vec2{frames} with the same weights and outputs"
    ]
    for other in (
        config("Hubert", "hubert", feat_proj_layer_norm=False),
        config("Hubert", "hubert", conv_pos_batch_norm=True),
        config("Clap", "clap"),
    ):
        with pytest.raises(NotApplicableError, match=rf"{frames}, a class that it doesn't have$"):
            hf._class(other, frames, notices)
    assert len(notices) == 1


def test_labels_in_the_configuration() -> None:
    def told(ending: str, **labels: Any) -> Any:
        said = hf._labels(SimpleNamespace(labels=labels), ending)
        return said and (list(said["id2label"].items()), said["label2id"], said["problem_type"])

    frames, clips = "ForAudioFrameClassification", "ForSequenceClassification"
    one = [("0", "b"), ("1", "c")], {"b": 0, "c": 1}
    assert told(frames, a=("b", "c")) == (*one, "multi_label_classification")
    assert told(clips, a=("b", "c")) == (*one, "single_label_classification")
    assert told(clips, a=("b", "c"), d=("e",)) == (
        [("0", "a=b"), ("1", "a=c"), ("2", "d=e")], {"a=b": 0, "a=c": 1, "d=e": 2},
        "multi_label_classification",
    )  # fmt: skip
    for ending in ("ForXVector", "ForCTC"):
        assert told(ending, a=("b", "c")) == {}


@pytest.mark.parametrize(
    ("own", "other", "same"),
    [([0.5, 0.0], [0.5, 0.125], True), ([0.5, 0.0], [0.5, 0.126], False),
     ([8.0, 0.0], [8.0, 1.0], True), ([-8.0, 0.0], [-8.0, 1.01], False),
     ([0.0], [0.0, 0.0], False), ([0.0], [float("nan")], False)],
)  # fmt: skip
def test_how_far_outputs_may_be_apart(own: Any, other: Any, same: bool) -> None:
    given = ("logits", torch.tensor(own).double(), torch.tensor(other).double(), 0.125, "it")
    if same:
        hf.refuse_different(*given)
        return
    with pytest.raises(BabError, match=r"^it gives other logits than the run's model \(apart by "):
        hf.refuse_different(*given)


def test_transformers_is_quiet_and_then_as_before() -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        for bars in (True, False):
            logging.set_verbosity(logging.INFO)
            (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
            with hf.quiet():
                assert logging.get_verbosity() == logging.ERROR
                assert not logging.is_progress_bar_enabled()
            assert logging.get_verbosity() == logging.INFO
            assert logging.is_progress_bar_enabled() is bars
    finally:
        logging.set_verbosity(before[0])
        (logging.enable_progress_bar if before[1] else logging.disable_progress_bar)()


def test_a_head_without_a_place() -> None:
    def with_head(head: Any) -> Any:
        own = layered(1)
        own.model.head = head
        return own

    placed = SimpleNamespace(as_transformers=lambda: ("ForXVector", {}, {}))
    text = SimpleNamespace(as_transformers=lambda: ("ForCTC", {}, {}))
    assert hf.holds(with_head(placed))
    assert not hf.holds(with_head(text)) and not hf.holds(with_head(object()))


def test_parts_that_know_no_place_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bab.plugins.encoders.hubert import Hubert
    from bab.plugins.heads.pooled import Pooled

    run, alone = made(tmp_path / "run", "gender"), "the encoder alone with --to"
    with monkeypatch.context() as patch:
        patch.delattr(Pooled, "as_transformers")
        with pytest.raises(NotApplicableError) as caught:
            export(run, "hf", tmp_path / "out")
    assert str(caught.value) == (
        "transformers has no place for head pooled. What can be exported: the whole model with "
        f"--to onnx, {alone} hf --encoder-only, {alone} onnx --encoder-only"
    )
    (owner,) = (cls for cls in Hubert.__mro__ if "traceable" in vars(cls))
    monkeypatch.delattr(owner, "traceable")
    with pytest.raises(NotApplicableError) as caught:
        export(run, "onnx", tmp_path / "out")
    assert str(caught.value) == (
        "ONNX export has no place for encoder hubert. What can be exported: the whole model with "
        f"--to hf, {alone} hf --encoder-only"
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_that_says_something_else_is_not_kept(tmp_path: Path) -> None:
    import transformers
    from safetensors.torch import load_file, save_file

    run = made(tmp_path / "run", "gender")
    out = export(run, "hf", tmp_path / "out").folder
    source = open_source(run, True, False)
    ending = "ForSequenceClassification"
    hf._check(out, source, ending)
    file = out / "model.safetensors"
    whole = load_file(file)
    save_file({k: v * 1.1 for k, v in whole.items()}, file, {"format": "pt"})
    with pytest.raises(BabError, match="transformers gives other logits"):
        hf._check(out, source, ending)
    gone = {k: v for k, v in whole.items() if not k.startswith("classifier")}
    save_file(gone, file, {"format": "pt"})
    with pytest.raises(
        BabError, match=r"lacks tensors: \['classifier.bias', 'classifier.weight'\]"
    ):
        hf._check(out, source, ending)
    assert transformers.AutoConfig.from_pretrained(out).use_weighted_layer_sum is True


# --- ONNX ---------------------------------------------------------------------------------------


def test_what_a_graph_is_given() -> None:
    source: Any = SimpleNamespace(encoder=SimpleNamespace(sample_rate=1000))
    one = graph._given(source, SimpleNamespace(inputs=("samples",)), 2, 0.7)  # type: ignore[arg-type]
    assert [x.shape for x in one] == [(2, 700)]
    two = graph._given(source, SimpleNamespace(inputs=("samples", "first")), 3, 0.5)  # type: ignore[arg-type]
    assert [x.shape for x in two] == [(3, 500), (3,)] and two[1].tolist() == [0, 0, 0]
    from bab.exporting.source import sound

    assert one[0].flatten().equal(sound(1.4, 1000))


# --- what is said -------------------------------------------------------------------------------


class Bare(Encoder):
    """Neither a folder nor a graph."""


class Traced(Bare):
    """A graph alone."""

    def traceable(self, samples: Any) -> Any: ...


class Both(Traced):
    """A folder too."""

    def export(self, folder: Any, extra: Any) -> None: ...


HEAD = "the whole model with --to {}"
ALONE = "the encoder alone with --to {} --encoder-only"


@pytest.mark.parametrize(
    ("kind", "to", "level", "members", "held", "said"),
    [
        (Bare, "hf", "frame", 1, True, None),
        (Both, "hf", "frame", 2, True, None),
        (Traced, "hf", "frame", 1, True, [HEAD.format("onnx"), ALONE.format("onnx")]),
        (Traced, "hf", "sequence", 1, True, [ALONE.format("onnx")]),
        (Traced, "onnx", "frame", 1, True, [ALONE.format("onnx")]),
        (Both, "onnx", "sequence", 1, True,
         [HEAD.format("hf"), ALONE.format("hf"), ALONE.format("onnx")]),
        (Both, "onnx", "sequence", 1, False, [ALONE.format("hf"), ALONE.format("onnx")]),
        (Both, "hf", "clip", 1, True,
         [HEAD.format("onnx"), ALONE.format("hf"), ALONE.format("onnx")]),
        (Both, "hf", "", 0, True, [ALONE.format("hf"), ALONE.format("onnx")]),
        (Both, "onnx", "", 0, True, [ALONE.format("hf"), ALONE.format("onnx")]),
    ],
)  # fmt: skip
def test_what_can_be_exported_instead(
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
    to: str,
    level: str,
    members: int,
    held: bool,
    said: list[str] | None,
) -> None:
    """members: 0 stands for a pretraining run."""
    monkeypatch.setattr(exporting.hf, "holds", lambda saved: held)
    saved = SimpleNamespace(members=[1] * members, task=SimpleNamespace(level=level))
    source: Any = SimpleNamespace(encoder=kind.__new__(kind), saved=saved if members else None)
    none = "Nothing of this run can be exported; `bab predict` uses it as it is"
    expected = none if said is None else f"What can be exported: {', '.join(said)}"
    assert exporting._instead(source, to) == expected


def test_each_step_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bab.cli import main

    run, out = made(tmp_path / "run", "gender"), tmp_path / "out"
    pushed: list[Any] = []
    monkeypatch.setattr(exporting, "push", lambda *given: pushed.append(given) or "address")
    done = export(run, "hf", out, push_to="a/b", say=pushed.append)
    assert pushed == [
        f"loading {run}", f"writing {out}, and comparing what it says with the run's model",
        "pushing to a/b", (out, "a/b", False),
    ]  # fmt: skip
    assert done == Exported(out, "AutoModelForAudioClassification", (), "address")
    capsys.readouterr()
    assert main(["export", str(run), str(out), "--encoder-only"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}: AutoModel loads it; the card is {out / 'README.md'}\n"
    assert said.err.splitlines() == pushed[:2]
    assert main(["export", str(run), str(out), "--encoder-only", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(exporting.hf, "write", lambda *given: ("X", ["a notice"]))
    assert main(["export", str(run), str(out), "--quiet", "--push", "a/b", "--public"]) == 0
    said = capsys.readouterr()
    assert said.err == "note: a notice\n" and said.out.endswith("\npushed: address\n")
    assert pushed[-1] == (out, "a/b", True)


def test_what_an_encoder_was_pretrained_on_stays_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path / "run", "gender")
    kept: list[Any] = []
    monkeypatch.setattr(exporting, "heard_by", lambda resolved: {"corpus": resolved})
    monkeypatch.setattr(exporting, "write_heard", lambda folder, heard: kept.append(heard))
    export(run, "hf", tmp_path / "out")
    assert kept == [{"corpus": open_source(run, True, False).encoder.resolved}]
    monkeypatch.setattr(exporting, "heard_by", lambda resolved: None)
    export(run, "hf", tmp_path / "out")
    assert len(kept) == 1


def test_a_folder_of_an_export_or_an_empty_one_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    exporting._refuse_foreign(out)
    out.mkdir()
    exporting._refuse_foreign(out)
    (out / "bab.json").write_text(json.dumps({}))
    exporting._refuse_foreign(out)
    (out / "bab.json").rename(out / "other.json")
    with pytest.raises(BabError, match=r"out holds files that no export has written: name another"):
        exporting._refuse_foreign(out)
    with pytest.raises(BabError, match=r"other.json is a file: name a folder$"):
        exporting._refuse_foreign(out / "other.json")


def test_a_text_that_no_tokenizer_spells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = open_source(made(tmp_path / "run", "asr", layers="last"), True, False).saved
    assert saved is not None and tokens.write_tokenizer(tmp_path, saved) == []
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    assert vocabulary == {"<pad>": 0, "|": 1, "'": 2, "a": 3, "b": 4, "é": 5}
    monkeypatch.setattr(tokens, "_spelt", lambda saved, ids: "otherwise")
    (tmp_path / "none").mkdir()
    assert tokens.write_tokenizer(tmp_path / "none", saved) == [
        "no tokenizer of transformers spells as this task does: the folder has none"
    ]
    assert not list((tmp_path / "none").iterdir())


# --- the hub ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            type("ConnectError", (Exception,), {"__module__": "httpx2.errors"})(),
            "can't reach https://h to push a/b: check the connection or",
        ),
        (OSError("x"), "can't reach https://h to push a/b: check the connection or proxy; the"),
        ("offline", "--push: HF_HUB_OFFLINE forbids it; the export itself is done, in out"),
        (ZeroDivisionError("own fault"), None),
    ],
)
def test_what_goes_wrong_on_the_way(
    monkeypatch: pytest.MonkeyPatch, error: Any, said: str | None
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled

    asked: list[Any] = []
    raised = OfflineModeIsEnabled("x") if error == "offline" else error

    class Api:
        def __init__(self, **given: Any) -> None:
            asked.append(given)

        def create_repo(self, repo: str, **given: Any) -> str:
            asked.append((repo, given))
            if asked.count("fails"):
                raise raised
            return "address"

        def upload_folder(self, **given: Any) -> None:
            asked.append(given)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "t")
    monkeypatch.setenv("HF_ENDPOINT", "https://h/")
    assert push.push(Path("out"), "a/b", public=True) == "address"
    assert asked == [
        {"endpoint": "https://h", "library_name": "bab"},
        ("a/b", {"private": False, "exist_ok": True}),
        {"repo_id": "a/b", "folder_path": Path("out"), "commit_message": "Exported by bab"},
    ]
    asked.append("fails")
    with pytest.raises(BabError if said else ZeroDivisionError) as caught:
        push.push(Path("out"), "a/b", public=True)
    assert said is None or str(caught.value).startswith(said)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.delenv("HF_ENDPOINT")
    with pytest.raises(BabError) as caught:
        push.push(Path("out"), "a/b", public=True)
    assert str(caught.value) == (
        "--push needs an access token: make one that may write at "
        "https://huggingface.co/settings/tokens, and store it with `hf auth login` or in HF_TOKEN; "
        "the export itself is done, in out"
    )
