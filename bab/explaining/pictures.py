"""Pictures of explanations: over the log-mel spectrogram, axes in seconds and hertz.

Grey for the sound, Okabe and Ito's colours for what speaks for and against, viridis for Grad-CAM:
all of them tell apart for people of any colour vision. Needs matplotlib, but no display.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bab.core.atomic import atomic_path
from bab.core.errors import BabError
from bab.core.types import Segment
from bab.explaining.attribution import FFT, HOP, Shares
from bab.results.timeline import COLOURS

# Okabe and Ito (2008): vermillion and blue; then the others.
FOR, AGAINST = "#D55E00", "#0072B2"
_OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MELS = 64
_WIDTH, _DPI = 10.0, 150  # inches
_MOST = 6  # classes drawn


@dataclass(frozen=True, slots=True)
class Explained:
    """A stretch of a recording, and what a model's answer to it depends on.

    start: seconds in the file; sound: f32[S] at `rate`; cam: f64[T], equal steps from beginning to
    end; probabilities: f64[T, C] of `names`, between `edges` (seconds of the stretch).
    """

    file: str
    start: float
    sound: NDArray[np.float32]
    rate: int
    target: str
    shares: Shares
    cam: NDArray[np.float64] | None
    probabilities: NDArray[np.float64]
    names: Sequence[str]
    edges: NDArray[np.float64]
    segments: Sequence[Segment]
    notices: Sequence[str] = ()


@contextmanager
def figure(width: float, height: float, *paths: Path) -> Iterator[Any]:
    """An empty figure, which is written to each path afterwards (.png, .svg).

    Raises:
        BabError: matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise BabError("pictures need matplotlib: pip install 'bab[explain]'") from None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        own: Any = {"svg.hashsalt": "bab", "svg.fonttype": "none", "text.parse_math": False}
        matplotlib.rcParams.update(own)
        empty = Figure(figsize=(width, height), layout="constrained")
        yield empty
        for path in paths:
            form = path.suffix[1:]
            metadata = {"Date": None} if form == "svg" else {"Software": None}
            with atomic_path(path) as temporary:
                empty.savefig(temporary, format=form, dpi=_DPI, metadata=metadata)


def draw(done: Explained, *paths: Path) -> None:
    """The spectrogram, integrated gradients and Grad-CAM over it, and what the model says below."""
    rows = 3 + (done.cam is not None)
    with figure(_WIDTH, 2.1 * rows + 0.4, *paths) as page:
        heights = [2.0] * (rows - 1) + [1.4]
        panels = page.subplots(rows, 1, gridspec_kw={"height_ratios": heights}, squeeze=False)[:, 0]
        for panel in panels[:-1]:
            panel.sharex(panels[-1])
            panel.tick_params(labelbottom=False)
        cells = _cells(done)
        spectrogram(panels[0], done.sound, done.rate, done.start, "cividis")
        panels[0].set_title("log-mel spectrogram", loc="left", fontsize=10)
        spectrogram(panels[1], done.sound, done.rate, done.start, "Greys")
        _shares(panels[1], done, cells)
        if done.cam is not None:
            spectrogram(panels[2], done.sound, done.rate, done.start, "Greys")
            _cam(page, panels[2], done)
        _answer(panels[-1], done)
        panels[-1].set_xlabel("time in the recording (s)")
        panels[-1].set_xlim(done.start, done.start + len(done.sound) / done.rate)
        page.suptitle(f"{done.file}: what {done.target} depends on", fontsize=12)


def spectrogram(
    panel: Any, sound: NDArray[np.float32], rate: int, start: float, colours: str
) -> None:
    """The log-mel spectrogram of a sound, 70 dB from the loudest cell down; in grey it stays pale,
    so that what is drawn over it can be seen."""
    power = _stft(sound, rate)
    bank, edges = mel_bank(power.shape[0], rate)
    mel = 10 * np.log10(bank @ power + 1e-12)
    times = start + (np.arange(mel.shape[1] + 1) - 0.5) * HOP
    top = float(mel.max())
    most = top + 90 if colours == "Greys" else top
    panel.pcolormesh(times, edges, mel, cmap=colours, vmin=top - 70, vmax=most, rasterized=True)
    hertz(panel, rate)


def hertz(panel: Any, rate: int) -> None:
    """An axis in hertz, spaced as the mel scale is."""
    panel.set_yscale("function", functions=(_mel, _hertz))
    ticks = (250, 500, 1000, 2000, 4000, 8000, 16000)
    panel.set_yticks([tick for tick in ticks if tick <= rate / 2])
    panel.minorticks_off()
    panel.set_ylim(0, rate / 2)
    panel.set_ylabel("frequency (Hz)")


def mel_bank(bins: int, rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """f64[M, bins]: each bin of a linear spectrum in the one mel band that it lies in, or bands as
    narrow as a bin where they would be empty; and f64[M + 1], the bands' borders in hertz."""
    borders = _hertz(np.linspace(0, _mel(np.array(rate / 2)), _MELS + 1))
    centres = np.linspace(0, rate / 2, bins)
    band = np.clip(np.searchsorted(borders, centres, side="right") - 1, 0, _MELS - 1)
    used = np.unique(band)
    bank = (band[None] == used[:, None]).astype(np.float64)
    return bank, np.append(borders[used], rate / 2)


def _shares(panel: Any, done: Explained, cells: NDArray[np.float64]) -> None:
    """What speaks for the target in one colour, what speaks against it in another."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    _, edges = mel_bank(done.shares.values.shape[0], done.rate)
    most = float(np.quantile(np.abs(cells), 0.995)) or 1.0
    rgba = np.zeros((*cells.shape, 4))
    rgba[cells > 0, :3], rgba[cells <= 0, :3] = to_rgb(FOR), to_rgb(AGAINST)
    rgba[..., 3] = np.clip(np.abs(cells) / most, 0, 1) ** 0.7 * 0.9
    times = done.start + (np.arange(cells.shape[1] + 1) - 0.5) * done.shares.hop
    panel.pcolormesh(times, edges, rgba, rasterized=True)
    told = f"integrated gradients: {done.shares.values.sum():+.2f} from a baseline of faint noise"
    panel.set_title(told, loc="left", fontsize=10)
    keys = [Patch(color=FOR, label=f"for {done.target}"), Patch(color=AGAINST, label="against")]
    panel.legend(handles=keys, loc="upper right", fontsize=8, framealpha=0.9)


def _cells(done: Explained) -> NDArray[np.float64]:
    """Shares by mel band and time, smoothed over three columns (24 ms) so that they can be seen."""
    bank, _ = mel_bank(done.shares.values.shape[0], done.rate)
    banded = bank @ done.shares.values
    padded = np.pad(banded, ((0, 0), (1, 1)))
    smooth: NDArray[np.float64] = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    return smooth


def _cam(page: Any, panel: Any, done: Explained) -> None:
    assert done.cam is not None
    end = done.start + len(done.sound) / done.rate
    times = np.linspace(done.start, end, len(done.cam) + 1)
    share = done.cam / (done.cam.max() or 1.0)
    shown = panel.pcolormesh(
        times, [0, done.rate / 2], share[None], cmap="viridis", vmin=0, vmax=1,
        alpha=(0.15 + 0.6 * share)[None], rasterized=True,
    )  # fmt: skip
    beside = panel.inset_axes((1.01, 0.0, 0.012, 1.0))
    page.colorbar(shown, cax=beside, label="share of the most")
    panel.set_title("Grad-CAM of the last convolution", loc="left", fontsize=10)


def _answer(panel: Any, done: Explained) -> None:
    """Probabilities in time with what is said, or one bar for each class of a clip."""
    end = done.start + len(done.sound) / done.rate
    named = done.target.partition(" at ")[0]
    columns = [i for i, name in enumerate(done.names) if name != "<blank>"]
    columns.sort(key=lambda i: (done.names[i] != named, -done.probabilities[:, i].max()))
    for rank, i in enumerate(columns[:_MOST]):
        name = done.names[i]
        colour = COLOURS.get(name, (FOR, *_OTHERS)[rank])
        values = np.append(done.probabilities[:, i], done.probabilities[-1, i])
        width = 2.0 if name == named else 1.0
        times = done.start + done.edges
        panel.step(times, values, where="post", color=colour, lw=width, label=name)
    panel.set_ylim(0, 1.3 if done.segments else 1.05)
    panel.set_yticks([0, 0.5, 1])
    panel.set_ylabel("probability")
    whole = " of the whole stretch" if len(done.probabilities) == 1 else ""
    panel.set_title(f"what the model says{whole}", loc="left", fontsize=10)
    panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    for number, one in enumerate(done.segments):
        if one.end > done.start and one.start < end:
            # Words follow each other without a gap: two greys keep them apart.
            colour = COLOURS.get(one.label, ("#000000", "#8A8A8A")[number % 2])
            panel.plot([one.start, one.end], [1.1, 1.1], color=colour, lw=4, solid_capstyle="butt")
            middle = (max(one.start, done.start) + min(one.end, end)) / 2
            panel.text(middle, 1.16, one.label, ha="center", va="bottom", fontsize=8, clip_on=True)


def _stft(sound: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """f64[F, T]: power, column t centred at t * HOP."""
    size, hop = round(FFT * rate), round(HOP * rate)
    padded = np.pad(sound.astype(np.float64), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(size + 1)[:-1]).T) ** 2


def _mel(f: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hertz -> mel: 2595 log10(1 + f / 700) (O'Shaughnessy 1987)."""
    return np.asarray(2595 * np.log10(1 + np.maximum(f, 0) / 700))


def _hertz(m: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(700 * (10 ** (np.asarray(m) / 2595) - 1))
