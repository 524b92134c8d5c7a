"""Spectrograms and what lies over them: bands, axes and colours, on panels that only take notes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal

from bab.core.errors import BabError
from bab.core.types import Segment
from bab.explaining import layers, pictures
from bab.explaining.attribution import Shares
from bab.explaining.pictures import AGAINST, FOR, Explained, hertz, mel_bank, spectrogram


class Panel:
    """Keeps what is asked of it."""

    def __init__(self) -> None:
        self.asked: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def called(*given: Any, **named: Any) -> Panel:
            self.asked.setdefault(name, []).append((given, named))
            return self

        return called


@pytest.mark.parametrize(
    ("rate", "ticks"),
    [(16000, [250, 500, 1000, 2000, 4000, 8000]), (15999, [250, 500, 1000, 2000, 4000]),
     (48000, [250, 500, 1000, 2000, 4000, 8000, 16000]), (1000, [250, 500]), (400, [])],
)  # fmt: skip
def test_an_axis_in_hertz(rate: int, ticks: list[int]) -> None:
    panel = Panel()
    hertz(panel, rate)
    assert panel.asked["set_yticks"] == [((ticks,), {})]
    assert panel.asked["set_ylim"] == [((0, rate / 2), {})]
    assert (
        panel.asked["set_ylabel"] == [(("frequency (Hz)",), {})] and "minorticks_off" in panel.asked
    )
    ((name,), named) = panel.asked["set_yscale"][0]
    there, back = named["functions"]
    assert name == "function" and there(np.array([700.0])) == pytest.approx(2595 * np.log10(2))
    f = np.array([0.0, 100.0, 4000.0])
    assert back(there(f)) == pytest.approx(f) and there(np.array([-5.0])) == 0.0


@pytest.mark.parametrize(("bins", "rate"), [(257, 16000), (129, 8000), (9, 16000)])
def test_bands_of_bins(bins: int, rate: int) -> None:
    bank, edges = mel_bank(bins, rate)
    assert bank.sum(0).tolist() == [1.0] * bins and (bank.sum(1) > 0).all()  # each bin in one band
    assert len(edges) == len(bank) + 1 and edges[0] == 0 and edges[-1] == rate / 2
    assert (np.diff(edges) > 0).all()
    centres = np.linspace(0, rate / 2, bins)
    for band, (low, high) in zip(bank, pairwise(edges), strict=True):
        own = centres[band > 0]
        assert (own >= low - 1e-9).all() and (own <= high + 1e-9).all()
    # 64 bands as wide on the mel scale, where all of them hold a bin.
    steps = np.diff(2595 * np.log10(1 + edges / 700))
    whole = 2595 * np.log10(1 + rate / 2 / 700) / 64
    assert steps == pytest.approx(np.round(steps / whole) * whole, rel=1e-6)
    assert len(bank) <= 64 and (bins < 100 or len(bank) > 40)


@pytest.mark.parametrize(("colours", "above"), [("cividis", 0), ("Greys", 90)])
def test_a_spectrogram(colours: str, above: float) -> None:
    """Against scipy's, frame for frame: power of Hann windows of 32 ms every 8 ms."""
    rate = 8000
    sound = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    panel = Panel()
    spectrogram(panel, sound, rate, 3.0, colours)
    ((times, edges, mel), named) = panel.asked["pcolormesh"][0]
    window = scipy.signal.get_window("hann", 256)
    padded = np.pad(sound.astype(float), 128)
    power = np.stack([np.abs(np.fft.rfft(padded[i : i + 256] * window)) ** 2
                      for i in range(0, len(padded) - 255, 64)], axis=1)  # fmt: skip
    bank, borders = mel_bank(129, rate)
    assert mel == pytest.approx(10 * np.log10(bank @ power + 1e-12)) and edges == pytest.approx(
        borders
    )
    columns = mel.shape[1]
    assert times == pytest.approx(3.0 + (np.arange(columns + 1) - 0.5) * 0.008)
    assert named["cmap"] == colours and named["rasterized"] is True
    assert (named["vmin"], named["vmax"]) == (mel.max() - 70, mel.max() + above)


def test_silence_is_one_colour() -> None:
    panel = Panel()
    spectrogram(panel, np.zeros(800, np.float32), 8000, 0.0, "cividis")
    ((_, _, mel), named) = panel.asked["pcolormesh"][0]
    assert (mel == -120).all() and (named["vmin"], named["vmax"]) == (-190, -120)


def explained(**more: Any) -> Explained:
    values = np.zeros((129, 5))
    values[10, 1:4] = 3.0
    values[60, 2] = -6.0
    plain = {
        "file": "a.wav", "start": 2.0, "sound": np.zeros(800, np.float32), "rate": 8000,
        "target": "B at 3 s", "shares": Shares(values, 0.008, 1.0, 0.5, 0.0), "cam": None,
        "probabilities": np.array([[0.1, 0.9, 0.5], [0.2, 0.3, 0.6]]),
        "names": ("A", "B", "<blank>"),
        "edges": np.array([0.0, 0.04, 0.1]), "segments": (),
    }  # fmt: skip
    return Explained(**{**plain, **more})


def test_shares_in_two_colours() -> None:
    from matplotlib.colors import to_rgb

    done, panel = explained(), Panel()
    cells = pictures._cells(done)
    bank, edges = mel_bank(129, 8000)
    banded = bank @ done.shares.values
    whole = np.pad(banded, ((0, 0), (1, 1)))
    expected = np.stack([whole[:, i : i + 3].mean(1) for i in range(5)], axis=1)
    assert cells == pytest.approx(expected)
    pictures._shares(panel, done, cells)
    ((times, borders, rgba), named) = panel.asked["pcolormesh"][0]
    assert named == {"rasterized": True}  # thousands of cells would be as many paths in an SVG
    assert times == pytest.approx(2.0 + (np.arange(6) - 0.5) * 0.008) and borders == pytest.approx(
        edges
    )
    most = np.quantile(np.abs(cells), 0.995)
    for place in np.ndindex(cells.shape):
        colour = to_rgb(FOR if cells[place] > 0 else AGAINST)
        assert tuple(rgba[place][:3]) == pytest.approx(colour)
        assert rgba[place][3] == pytest.approx(0.9 * min(1, abs(cells[place]) / most) ** 0.7)
    title = "integrated gradients: +3.00 from a baseline of faint noise"
    assert panel.asked["set_title"] == [((title,), {"loc": "left", "fontsize": 10})]
    assert panel.asked["legend"][0][1]["loc"] == "upper right"
    labels = [patch.get_label() for patch in panel.asked["legend"][0][1]["handles"]]
    assert labels == ["for B at 3 s", "against"]
    flat = explained(shares=Shares(np.zeros((129, 5)), 0.008, 1, 1, 0))
    other = Panel()
    pictures._shares(other, flat, pictures._cells(flat))
    assert not other.asked["pcolormesh"][0][0][2][..., 3].any()


def test_a_map_of_what_was_looked_at() -> None:
    panel, page = Panel(), Panel()
    pictures._cam(page, panel, explained(cam=np.array([0.0, 2.0, 4.0])))
    ((times, edges, share), named) = panel.asked["pcolormesh"][0]
    assert times == pytest.approx([2.0, 2 + 0.1 / 3, 2 + 0.2 / 3, 2.1]) and edges == [0, 4000.0]
    assert share.tolist() == [[0.0, 0.5, 1.0]] and (named["vmin"], named["vmax"]) == (0, 1)
    assert named["alpha"] == pytest.approx(np.array([[0.15, 0.45, 0.75]]))
    assert (named["cmap"], named["rasterized"]) == ("viridis", True)
    assert page.asked["colorbar"][0][1]["label"] == "share of the most"
    silent = Panel()
    pictures._cam(page, silent, explained(cam=np.zeros(2)))
    assert silent.asked["pcolormesh"][0][0][2].tolist() == [[0.0, 0.0]]


def test_what_the_model_says_in_time() -> None:
    panel = Panel()
    pictures._answer(panel, explained())
    (one, two) = panel.asked["step"]
    assert [n["label"] for _, n in (one, two)] == [
        "B",
        "A",
    ]  # what was asked for, then the likeliest
    assert one[0][0].tolist() == pytest.approx([2.0, 2.04, 2.1])
    assert one[0][1].tolist() == [0.9, 0.3, 0.3] and two[0][1].tolist() == [0.1, 0.2, 0.2]
    assert (one[1]["lw"], two[1]["lw"], one[1]["color"]) == (2.0, 1.0, FOR)
    assert panel.asked["set_ylim"][0][0] == (0, 1.05)
    assert panel.asked["set_title"][0][0] == ("what the model says",)
    many = explained(
        names=tuple("ABCDEFGH"), probabilities=np.linspace(0.1, 0.8, 8)[None], target="C",
        edges=np.array([0, 0.1]), segments=(Segment(1.0, 2.0, "x"), Segment(1.5, 2.05, "KCHI"),
                                            Segment(2.05, 9.0, "y"), Segment(2.1, 3.0, "z")),
    )  # fmt: skip
    panel = Panel()
    pictures._answer(panel, many)
    assert [n["label"] for _, n in panel.asked["step"]] == ["C", "H", "G", "F", "E", "D"]
    assert panel.asked["set_ylim"][0][0] == (0, 1.3)
    assert panel.asked["set_title"][0][0] == ("what the model says of the whole stretch",)
    shown = [(g[0], g[1], n["color"]) for g, n in panel.asked["plot"]]
    assert shown == [([1.5, 2.05], [1.1, 1.1], pictures.COLOURS["KCHI"]),
                     ([2.05, 9.0], [1.1, 1.1], "#000000")]  # fmt: skip
    texts = [(g[0], g[2]) for g, _ in panel.asked["text"]]
    assert texts == [(pytest.approx(2.025), "KCHI"), (pytest.approx(2.075), "y")]


def test_pictures_need_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BabError) as caught, pictures.figure(1.0, 1.0, tmp_path / "a.png"):
        pass
    assert str(caught.value) == "pictures need matplotlib: pip install 'bab[explain]'"
    assert list(tmp_path.iterdir()) == []


def test_bars_of_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [layers.Weights("ear", (0.2, 0.5, 0.2, 0.1)), layers.Weights("other", (0.5, 0.5))]
    monkeypatch.setattr(layers, "layer_weights", lambda folder: weights)
    panels, asked = [Panel(), Panel()], []

    class Page:
        def subplots(self, *given: Any, **named: Any) -> Any:
            asked.append((given, named))
            rows = np.empty((2, 1), dtype=object)
            rows[:, 0] = panels
            return rows

    @contextmanager
    def figure(*given: Any) -> Any:
        asked.append(given)
        yield Page()

    monkeypatch.setattr(layers, "figure", figure)
    layers.write_layers("R", tmp_path, ("png",))
    assert asked == [(7.0, 2.6 * 2 + 0.3, tmp_path / "layers.png"), ((2, 1), {"squeeze": False})]
    one, two = panels
    assert one.asked["bar"] == [
        ((range(4), (0.2, 0.5, 0.2, 0.1)), {"color": [AGAINST, FOR, AGAINST, AGAINST]})
    ]
    assert two.asked["bar"][0][1]["color"] == [FOR, FOR]
    assert one.asked["axhline"][0][0] == (0.25,) and two.asked["axhline"][0][0] == (0.5,)
    assert one.asked["set_ylim"][0][0] == (0, pytest.approx(0.55))
    assert one.asked["set_xticks"][0][0] == (range(4),)
    title = (("ear (dashed: all alike)",), {"loc": "left", "fontsize": 10})
    assert one.asked["set_title"] == [title]
    assert one.asked["axhline"] == [((0.25,), {"color": "black", "lw": 0.8, "ls": "--"})]
    assert one.asked["set_xlabel"][0][0] == ("layer (0: the input embedding)",)
    assert one.asked["set_ylabel"][0][0] == ("weight",)
