"""What is explained, of which stretch, and what is written of it: parts, with made-up answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from made_models import made
from torch import Tensor, nn

from bab.core.errors import BabError, ConfigError, NotApplicableError
from bab.core.grid import Grid
from bab.core.types import Prediction, Segment
from bab.explaining import attribution, explain, layers
from bab.explaining.attribution import Shares
from bab.explaining.explain import ExplainOptions, _aim, _probabilities, _sound, _spoken
from bab.explaining.pictures import Explained
from bab.plugins.encoders.segma import Cells

RATE = 1000
GRID = Grid(RATE, 100, 200)


def saved(level: str = "frame", in_order: bool = False, **labels: Any) -> Any:
    encoder = SimpleNamespace(
        grid=GRID, sample_rate=RATE, max_seconds=None, resolved="ear:x", groups=dict,
        modules=list,
    )  # fmt: skip
    task = SimpleNamespace(
        level=level, in_order=in_order, presets=("f1",), pairs=False,
        decode=lambda output, grid, labels, tuned: Prediction(
            output.clip.id, segments=(Segment(output.clip.start, output.clip.end, str(tuned)),)
        ),
    )  # fmt: skip
    return SimpleNamespace(
        encoder=encoder, task=task, labels=labels or {"voice": ("A", "B")}, tuned={"f1": "tuned"},
        spec={"task": {"name": "t"}, "resolved": "ear:x", "fingerprint": "f"}, place=Path("/m"),
        model=SimpleNamespace(head=nn.Linear(1, 1)), members=(1,),
    )  # fmt: skip


# --- the stretch --------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """25 s, each sample of which says its second."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.repeat(np.arange(25) / 100, RATE), RATE, "FLOAT")
    return path


def heard(
    file: Path, most: float | None = None, **asked: Any
) -> tuple[float, float, float, list[str]]:
    """Start, seconds, the first sample's second, notices."""
    own = saved()
    own.encoder.max_seconds = most
    start, sound, notices = _sound(own, file, ExplainOptions(**asked))
    return start, len(sound) / RATE, round(float(sound[0]) * 100), notices


@pytest.mark.parametrize(
    ("asked", "most", "told"),
    [
        ({}, None, (0, 10, 0, "10 s of 25.0 s are explained: --start and --end name others")),
        ({}, 4.0, (0, 4, 0, "4 s of 25.0 s are explained: --start and --end name others")),
        ({}, 12.0, (0, 10, 0, "10 s of 25.0 s are explained: --start and --end name others")),
        ({"start": 15.0}, None, (15, 10, 15, "")),
        ({"start": 20.0}, None, (20, 5, 20, "")),
        ({"start": 3.0, "end": 5.5}, None, (3, 2.5, 3, "")),
        ({"end": 25.0}, None, (0, 25, 0, "")),
        ({"end": 4.0}, 4.0, (0, 4, 0, "")),
        ({"start": 24.0, "end": 25.01}, None, (24, 1, 24, "")),
    ],
)
def test_the_stretch_that_is_heard(file: Path, asked: Any, most: Any, told: Any) -> None:
    *facts, notices = heard(file, most, **asked)
    assert facts == list(told[:3]) and notices == ([told[3]] if told[3] else [])


@pytest.mark.parametrize(
    ("asked", "most", "said"),
    [
        ({"start": 5.0, "end": 5.0}, None, "--end 5: must come after --start 5$"),
        ({"start": -1.0}, None, "^--start -1: .* has 25.00 s; name a stretch inside$"),
        (
            {"start": 24.0, "end": 25.02},
            None,
            "^--start 24 --end 25.02: .* has 25.00 s; name a stretch inside",
        ),
        ({"start": 25.0}, None, "^--start 25: .* has 25.00 s"),
        ({"end": 4.1}, 4.0, "--end 4.1: 'ear:x' takes in 4 s at once"),
    ],
)
def test_stretches_that_are_not_there(file: Path, asked: Any, most: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        heard(file, most, **asked)


def test_a_file_without_sound(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain.streaming, "blocks", lambda *given: [np.empty(0, np.float32)])
    with pytest.raises(BabError, match=r"a\.wav: it holds no sound$"):
        heard(file)
    monkeypatch.setattr(explain.streaming, "blocks", lambda *given: [])
    with pytest.raises(BabError, match=r"a\.wav: it holds no sound$"):
        heard(file)


def test_a_file_that_cant_be_heard(tmp_path: Path) -> None:
    """No corpus, no `bab data check`: the file was named by itself."""
    file = tmp_path / "a.wav"
    with pytest.raises(BabError, match=r"a\.wav: there is no such file; check its path$"):
        heard(file)
    file.touch()
    with pytest.raises(BabError, match=r"a\.wav: the file is empty \(0 bytes\); get it again$"):
        heard(file)
    with pytest.raises(BabError, match=r": is a folder, and no file; check its path$"):
        heard(tmp_path)


# --- what is explained --------------------------------------------------------------------------

FRAMES = np.array([[-1.0, -2.0], [2.0, -3.0], [0.5, 0.0], [-1.0, 1.0]])


def aim(
    answer: Any, own: Any = None, start: float = 0.0, **asked: Any
) -> tuple[int, list[int], str]:
    values = np.asarray(answer, np.float32)
    told = _aim(own or saved(), values, 0.5, ExplainOptions(**asked), start)
    return told.column, told.frames.tolist(), told.name


def test_a_class_of_frames() -> None:
    assert aim(FRAMES) == (0, [1, 2], "A")  # the likeliest anywhere, where it is likelier than not
    assert aim(FRAMES, label="B") == (1, [3], "B")
    assert aim(-np.abs(FRAMES), label="A") == (0, [0, 1, 2, 3], "A")
    assert aim(FRAMES[:1], label="B") == (1, [0], "B")
    # Cells end at .15, .25, .35 s and the stretch's end, .5 s.
    for at, frame in ((0.0, 0), (0.149, 0), (0.151, 1), (0.251, 2), (0.36, 3), (0.499, 3)):
        assert aim(FRAMES, at=at, label="B") == (1, [frame], f"B at {at:g} s")
    assert aim(FRAMES, start=7.0, at=7.2) == (0, [1], "A at 7.2 s")
    for at in (-0.01, 0.51, 3.0):
        with pytest.raises(ConfigError, match=rf"^--at {at:g}: outside of 0 to 0.5 s$"):
            aim(FRAMES, at=at)
    with pytest.raises(ConfigError, match=r"^--label C: "):
        aim(FRAMES, label="C")
    with pytest.raises(ConfigError, match=r"^task 't' has labels \(--label\)$"):
        aim(FRAMES, token="a")


def test_a_token_of_a_text() -> None:
    text = saved("sequence", True, char=("<blank>", " ", "a", "b"))
    rows = [[9, 0, 1, 0], [0, 9, 1, 0], [0, 0, 3, 2], [0, 0, 2, 8], [0, 0, 1, 9]]
    assert aim(rows, text) == (3, [3, 4], "b")  # blank and space say nothing
    assert aim(rows, text, token="a") == (2, [2], "a")
    assert aim(rows, text, token="space") == (1, [1], "space")
    assert aim([[9, 0, 1, 2], [9, 0, 4, 2]], text, token="a") == (2, [1], "a")  # nowhere the first
    assert aim([[9, 0, 1, 2], [9, 0, 0, 1]], text) == (3, [0], "b")
    with pytest.raises(ConfigError, match=r"^--token é: "):
        aim(rows, text, token="é")
    with pytest.raises(ConfigError, match=r"^task 't' has tokens \(--token\)$"):
        aim(rows, text, label="a")


def test_probabilities_of_each_level() -> None:
    row = np.log(np.array([[1.0, 3.0, 2.0, 6.0]], np.float32))
    sigmoid = [[0.5, 0.75, 2 / 3, 6 / 7]]
    assert _probabilities(saved("frame"), row) == pytest.approx(np.array(sigmoid), rel=1e-6)
    two = saved("clip", x=("A", "B"), y=("C", "D"))
    assert _probabilities(two, row) == pytest.approx(np.array([[0.25, 0.75, 0.25, 0.75]]), rel=1e-6)
    other = saved("sequence", x=("A", "B"))  # not as many as the labels
    assert _probabilities(other, row) == pytest.approx(np.array([[1, 3, 2, 6]]) / 12, rel=1e-6)


def test_what_is_said_of_the_stretch() -> None:
    assert _spoken(saved(), FRAMES.astype(np.float32), 3.0, 0.5) == (Segment(3.0, 3.5, "tuned"),)
    assert _spoken(saved(), FRAMES[:1].astype(np.float32), 3.0, 0.5) == ()


class Toy(nn.Module):
    """A convolution, and how loud it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 10, stride=10, bias=False)
        self.conv.weight.data.fill_(0.1)

    def forward(self, samples: Tensor) -> Tensor:
        return torch.relu(self.conv(samples[:, None])).mean((1, 2))


@pytest.mark.parametrize(
    ("delta", "seconds", "most", "cam", "notices"),
    [(0.09, 0.5, None, 50, []), (0.11, 0.5, None, 50, ["miss 11%"]), (-0.2, 0.5, 1.0, 50, ["20%"]),
     (0.0, 0.5, 1.0, None, ["no Grad-CAM: neither encoder nor head has a convolution"])],
)  # fmt: skip
def test_what_is_put_together(
    monkeypatch: pytest.MonkeyPatch, delta: float, seconds: float, most: float | None,
    cam: int | None, notices: list[str],
) -> None:  # fmt: skip
    toy, own = Toy(), saved()
    own.encoder.max_seconds = most
    own.model = toy
    toy.head = nn.Linear(1, 1)
    shares = Shares(np.ones((2, 3)), 0.008, 2.0, 1.0, delta)
    monkeypatch.setattr(attribution, "integrated_gradients", lambda *given: shares)
    found = toy.conv if cam else None
    monkeypatch.setattr(attribution, "last_convolution", lambda *given: found)
    samples = torch.full((round(seconds * RATE),), 0.5)
    monkeypatch.setattr(explain, "_logits", lambda model, x: toy(x)[:, None, None])
    done = explain._explained(
        own, Path("/x/a.wav"), 3.0, samples.numpy(), samples, toy,
        explain._Aim(0, np.array([0]), "A"), FRAMES.astype(np.float32), ("first",),
    )  # fmt: skip
    assert (done.file, done.start, done.rate, done.target) == ("a.wav", 3.0, RATE, "A")
    assert (None if done.cam is None else len(done.cam)) == cam
    assert done.edges == pytest.approx([0, 0.15, 0.25, 0.35, 0.5]) and list(done.names) == [
        "A",
        "B",
    ]
    assert done.notices[0] == "first" and len(done.notices) == 1 + len(notices)
    for line, part in zip(done.notices[1:], notices, strict=True):
        assert part in line
    own.encoder.grid = Cells(RATE, 100, 200)  # whose last frame ends before the sound does
    whole = explain._explained(
        own, Path("a.wav"), 0.0, samples.numpy(), samples, toy,
        explain._Aim(0, np.array([0]), "A"), FRAMES[:1].astype(np.float32), (),
    )  # fmt: skip
    assert whole.edges.tolist() == [0.0, 0.5] and whole.segments == ()


@pytest.mark.parametrize(
    ("seconds", "most", "frames"), [(0.25, 1.0, 5), (2.0, 1.0, 20), (0.01, 1.0, 1)]
)
def test_frames_beyond_a_sound_that_was_filled_up_are_cut(
    monkeypatch: pytest.MonkeyPatch, seconds: float, most: float, frames: int
) -> None:
    own, layer = saved(), nn.Identity()
    own.encoder.max_seconds = most
    shares = Shares(np.ones((2, 3)), 0.008, 2.0, 1.0, 0.0)
    monkeypatch.setattr(attribution, "integrated_gradients", lambda *given: shares)
    monkeypatch.setattr(attribution, "last_convolution", lambda *given: layer)
    monkeypatch.setattr(attribution, "grad_cam", lambda *given: np.arange(20.0))
    monkeypatch.setattr(attribution, "fills_up", lambda *given: True)
    sound = torch.zeros(round(seconds * RATE))
    done = explain._explained(
        own, Path("a"), 0.0, sound.numpy(), sound, lambda x: x.sum(1),
        explain._Aim(0, np.array([0]), "A"), FRAMES.astype(np.float32), (),
    )  # fmt: skip
    assert done.cam is not None and done.cam.tolist() == list(range(frames))


def test_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(explain, "draw", lambda done, *paths: drawn.append(paths))
    shares = Shares(np.array([[0.12345678, 1], [1, 2]]), 0.008, 2.5, 1.5, 0.25)
    values = (np.zeros((1, 2)), ("A", "B"), np.array([0, 0.5]), (Segment(3, 4, "A"),), ("n",))
    done = Explained("a.wav", 3.0, np.zeros(500, np.float32), RATE, "A b", shares, None, *values)
    asked = ExplainOptions(formats=("png", "svg", "png"))
    paths = explain._write(done, saved(), tmp_path / "out", Path("/x/a.wav"), asked)
    base = paths[0].name.removesuffix(".png")
    assert [path.name for path in paths] == [f"{base}.{end}" for end in ("png", "svg", "json")]
    assert base.startswith("a.A") and base.endswith(".3-3.5") and drawn == [tuple(paths[:2])]
    facts = json.loads(paths[2].read_text())
    assert facts.pop("date") and "torch" in facts.pop("versions")
    assert facts == {
        "model": "/m", "task": "t", "encoder": "ear:x", "fingerprint": "f", "file": "/x/a.wav",
        "start": 3.0, "end": 3.5, "target": "A b", "logit": 2.5, "baseline": 1.5, "delta": 0.25,
        "hop": 0.008, "integrated_gradients": [1.1234568, 3.0], "grad_cam": None,
        "segments": [[3, 4, "A"]], "notices": ["n"],
    }  # fmt: skip


def test_a_model_of_one_answer_and_known_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"^--format pdf: png, svg or both$"):
        explain.explain("x", "a", tmp_path, ExplainOptions(formats=("png", "pdf")))
    for several, said in ((False, "compares recordings"), (True, "has several encoders")):
        own = saved()
        own.task.pairs, own.members = not several, (1,) * (1 + several)
        monkeypatch.setattr(explain, "load_saved", lambda *given: own)  # noqa: B023
        with pytest.raises(NotApplicableError, match=f"^R {said}: `bab explain` takes models of"):
            explain.explain("R", "a", tmp_path)


# --- attribution --------------------------------------------------------------------------------


def test_the_shares_of_a_sum_are_the_sound_less_the_noise() -> None:
    """A linear score: shares add up to its difference, and those of columns to their samples'."""
    pytest.importorskip("captum")
    draw = torch.Generator().manual_seed(1)
    sound = torch.zeros(16000)
    sound[8000:8400] = torch.randn(400, generator=draw)
    weights = torch.randn(16000, generator=draw)
    passes: list[int] = []

    def score(samples: Tensor) -> Tensor:
        passes.append(len(samples))
        return samples @ weights

    made = attribution.integrated_gradients(score, sound, 16000)
    assert made.values.shape == (257, 126) and made.hop == 0.008
    assert made.output == pytest.approx(float(sound @ weights), rel=1e-4)
    noise = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    noise *= 0.1 * sound.pow(2).mean().sqrt()
    assert made.baseline == pytest.approx(float(noise @ weights), abs=1e-3)
    whole = made.output - made.baseline
    assert made.values.sum() == pytest.approx(whole, rel=1e-3) and abs(made.delta) < 1e-2
    near = made.values[:, 60:69].sum()  # columns within 32 ms of the burst at .5 s
    local = float(((sound - noise) * weights)[7424:9088].sum())
    assert near == pytest.approx(local, abs=0.2 * abs(whole))
    assert max(passes) == 4 and sum(n == 4 for n in passes) == attribution.PASSES == 16
    silent = attribution.integrated_gradients(lambda x: x @ weights, torch.zeros(16000), 16000)
    faint = torch.randn(16000, generator=torch.Generator().manual_seed(0)) * 1e-6
    assert silent.baseline == pytest.approx(float(faint @ weights), rel=1e-2)  # also under silence


def test_what_no_gradient_reaches() -> None:
    pytest.importorskip("captum")
    with pytest.raises(NotApplicableError, match=r"^no gradient reaches the sound: "):
        attribution.integrated_gradients(lambda x: x.detach().sum(1), torch.ones(1000), RATE)

    def other(x: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        attribution.integrated_gradients(other, torch.ones(1000), RATE)


def test_grad_cam_by_hand() -> None:
    """The mean over frames of which half are loud: a frame's value, times the mean gradient."""
    pytest.importorskip("captum")
    toy = Toy()
    sound = torch.cat([torch.zeros(50), torch.ones(50)])
    cam = attribution.grad_cam(toy, sound, toy.conv)
    assert cam == pytest.approx([0.0] * 5 + [0.05] * 5)
    two = nn.Sequential(nn.Unflatten(1, (1, 10, 10)), nn.Conv2d(1, 1, 1, bias=False))
    two[1].weight.data.fill_(1.0)
    plane = attribution.grad_cam(lambda x: two(x).mean((1, 2, 3)), sound, two[1])
    assert plane == pytest.approx([0.05] * 10)  # ten columns of ten rows, half of them 1


def test_the_last_convolution() -> None:
    front, back, head = nn.Conv1d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.Conv1d(1, 1, 1)
    first = nn.Conv1d(1, 1, 1)

    def encoder(*modules: nn.Module, front: Any = ()) -> Any:
        body = nn.Sequential(*modules)
        body.groups = lambda: {"conv": list(front)} if front else {}  # type: ignore[method-assign]
        return body

    tops = nn.Sequential(nn.Linear(1, 1), head)
    last = attribution.last_convolution
    both = (first, front, nn.ReLU(), back)
    assert last(encoder(*both, front=[*first.parameters(), *front.parameters()]), tops) is front
    assert last(encoder(*both), tops) is back
    assert last(encoder(nn.ReLU()), tops) is head
    assert last(encoder(nn.ReLU()), nn.Linear(1, 1)) is None
    assert last(encoder(nn.ReLU()), nn.Conv2d(1, 1, 1)) is None


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(
        BabError, match=r"^`bab explain` needs captum: pip install 'bab\[explain\]'$"
    ):
        attribution.grad_cam(lambda x: x, torch.ones(9), nn.Identity())


# --- layers -------------------------------------------------------------------------------------


def test_layers_are_written_as_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path / "run", "gender")
    (one,) = layers.layer_weights(run)
    assert one.encoder == "hubert:random-tiny" and sum(one.shares) == pytest.approx(1)
    written = layers.write_layers(run, tmp_path / "out", ("svg", "svg"))
    assert [path.name for path in written] == ["layers.csv", "layers.svg"]
    rows = list(csv.reader(written[0].open()))
    assert rows[0] == ["encoder", "layer", "weight"]
    assert rows[1:] == [[one.encoder, str(i), f"{x:.6f}"] for i, x in enumerate(one.shares)]
    svg = written[1].read_text()
    assert "layer (0: the input embedding)" in svg and "(dashed: all alike)" in svg
    tensors = {"mix.mixes.1.logits": torch.tensor([0.0, 1.0]), "head.logits": torch.ones(2),
               "mix.mixes.0.logits": torch.zeros(4), "mix.gate": torch.ones(1)}  # fmt: skip
    spec = {"resolved": "hubert:a+ast:b (late)", "layers": "mix"}
    monkeypatch.setattr("bab.running.model.load_spec", lambda place: spec)
    monkeypatch.setattr("bab.running.model.load_weights", lambda place, spec: tensors)
    two = layers.layer_weights(run)
    assert [(w.encoder, len(w.shares)) for w in two] == [("hubert:a", 4), ("ast:b", 2)]
    assert two[0].shares == (0.25,) * 4
    for name in list(tensors)[::2]:
        del tensors[name]
    with pytest.raises(
        NotApplicableError, match=r"model mixes no layers \(layers=mix\): layer weig"
    ):
        layers.layer_weights(run)
