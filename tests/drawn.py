"""What a picture holds, in words: where its parts stand, and how they look.

Layout can't be right or wrong by itself; somebody looks at it. tests/results/pictures.txt is what
was looked at: `python tests/drawn.py` writes it again, after a change that was looked at as well.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from said import said

from bab.core.types import Clip, Segment
from bab.explaining import errors, pictures
from bab.explaining.attribution import Shares
from bab.results.timeline import draw_timeline

FILE = Path(__file__).parent / "results" / "pictures.txt"


def numbers(values: Any) -> str:
    return " ".join(f"{value + 0.0:.4g}" for value in np.ravel(np.asarray(values, float)))


def held(figure: Any) -> Iterator[str]:
    """A line for each thing in a figure."""
    from matplotlib.colors import to_hex

    yield f"figure {numbers(figure.get_size_inches())}"
    for text in figure.texts:
        yield f"text {_text(text)}"
    for panel in figure.axes:
        spec = panel.get_subplotspec()
        at = numbers(panel.get_position().bounds) if spec is None else "in a grid"
        yield f"panel {at} x {numbers(panel.get_xlim())} y {numbers(panel.get_ylim())}"
        for axis in (panel.xaxis, panel.yaxis):
            chosen = type(axis.get_major_locator()).__name__ == "FixedLocator"  # not by matplotlib
            ticks = axis.get_ticklocs() if chosen else []
            shown = [label.get_text() for label in axis.get_ticklabels()] if chosen else []
            length = axis.get_tick_params().get("length", "")
            yield f"  axis {axis.get_label_text()!r} {numbers(ticks)} {shown} {length}".rstrip()
        if panel.xaxis.get_tick_params().get("labelbottom") is False:
            yield "  no numbers below"
        title = panel.title if panel.get_title() else panel._left_title
        yield f"  title {title.get_text()!r} {title.get_fontsize():g}"
        visible = [name for name, spine in panel.spines.items() if spine.get_visible()]
        yield f"  spines {visible}"
        for text in panel.texts:
            yield f"  text {_text(text)}"
        for line in panel.lines:
            points = numbers(_few(np.stack(line.get_data())))
            look = f"{line.get_color()} {line.get_linewidth():g} {line.get_linestyle()}"
            yield f"  line {look} {line.zorder:g}: {points}"
        for patch in panel.patches:
            within = patch.get_transform() - panel.transData
            points = within.transform_path(patch.get_path()).vertices
            yield f"  {_patch(patch)} {patch.zorder:g}: {numbers(_few(points))}"
        for mesh in panel.collections:
            grid = np.asarray(mesh.get_coordinates())
            values = np.asarray(mesh.get_array(), float)
            limits = (
                "" if values.ndim == 3 else f" {numbers(mesh.get_clim())} {mesh.get_cmap().name}"
            )
            corners = numbers([*grid[0, 0], *grid[0, 1], *grid[1, 0], *grid[-1, -1]])
            yield f"  mesh {values.shape}{limits}: {corners}; {numbers(_few(values))}"
            alpha = mesh.get_alpha()
            if alpha is not None:
                yield f"    alpha {numbers(_few(alpha))}"
    for legend in [*figure.legends, *(p.get_legend() for p in figure.axes if p.get_legend())]:
        box = legend.get_bbox_to_anchor().transformed(figure.transFigure.inverted())
        where = numbers(box.bounds) if legend in figure.legends else ""
        style = (legend.get_frame_on(), legend._ncols, legend.prop.get_size(), legend._loc)
        yield f"legend {where} {style}: {[t.get_text() for t in legend.get_texts()]}"
        for patch in legend.get_patches():
            yield f"  {_patch(patch)} {to_hex(patch.get_edgecolor())}"


def _text(text: Any) -> str:
    style = (text.get_fontsize(), text.get_color(), text.get_weight(), text.get_ha(), text.get_va())
    style = (*style, text.get_clip_on())
    return f"{text.get_text()!r} {numbers(text.get_position())} {style}"


def _patch(patch: Any) -> str:
    from matplotlib.colors import to_hex

    look = (patch.get_hatch(), patch.get_linewidth(), patch.get_snap())
    return f"{type(patch).__name__} {to_hex(patch.get_facecolor())} {look}"


def _few(values: Any) -> Any:
    """All of a few numbers; of many, some, and their mean."""
    flat = np.ravel(np.asarray(values, float))
    if len(flat) <= 60:
        return flat
    return np.array([*flat[:: len(flat) // 20], flat.mean(), flat.std()])


def timelines(folder: Path) -> None:
    """A few minutes; hours of the clock; hours without a clock; days; nobody."""
    spans = [(1, 9.5, "KCHI"), (9, 30, "FEM"), (40, 41, "OCH"), (300.5, 402.25, "MAL")]
    few = [Segment(a, b, voice) for a, b, voice in spans]
    many = [Segment(s.start + 1800 * i, s.end + 1800 * i, s.label) for i in range(4) for s in few]
    all_day = [
        Segment(s.start + 3600 * i, s.end + 3600 * i, s.label) for i in range(13) for s in few
    ]
    few.append(Segment(595.0, 910.5, "OCH"))  # over the borders of three bins
    days = [Segment(s.start + 9000 * i, s.end + 9000 * i, s.label) for i in range(14) for s in few]
    out = folder / "a.png"
    draw_timeline(said("few", 599.5, few), out)
    draw_timeline(said("x" * 100, 45.0, few[:3], time(23, 59, 30)), out)
    draw_timeline(said("many", 7000.0, many, datetime(2024, 2, 28, 22, 30)), out)
    draw_timeline(
        said("hours", 13 * 3600.0, all_day), out, voices=("FEM", "OCH", "MAL", "KCHI", "DOG", "CAT")
    )
    draw_timeline(said("days", 36 * 3600.0, days, datetime(2024, 2, 28, 22, 30)), out)
    draw_timeline(said("no clock", 50 * 3600.0, days), out)
    draw_timeline(said("nobody", 3600.0, []), out)


def explanations(folder: Path) -> None:
    """A stretch of frames with a Grad-CAM; a clip of one answer."""
    draw = np.random.default_rng(0)
    rate, steps = 8000, 20
    sound = draw.normal(0, 0.1, 4000).astype(np.float32)
    values = draw.normal(0, 0.01, (129, steps))
    shares = Shares(values, 0.025, 1.0, 0.5, 0.01)
    probabilities = np.linspace(0.0, 0.9, 40).reshape(10, 4)
    names = ("KCHI", "<blank>", "FEM", "dog")
    segments = [Segment(2.6, 2.8, "KCHI"), Segment(1.0, 2.0, "out"), Segment(2.7, 3.5, "dog")]
    cam = np.linspace(0.0, 2.0, 7)
    frames = pictures.Explained(
        "a.wav", 2.5, sound, rate, "FEM at 2.6 s", shares, cam, probabilities, names,
        np.linspace(0, 0.5, 11), segments,
    )  # fmt: skip
    pictures.draw(frames, folder / "a.png")
    whole = pictures.Explained(
        "b.wav", 0.0, sound, rate, "KCHI", shares, None, probabilities[5:6, :], names,
        np.array([0.0, 0.5]), [],
    )  # fmt: skip
    pictures.draw(whole, folder / "b.svg")


def mistakes(folder: Path, path: Path) -> None:
    """Of who speaks when, and of a text."""
    spoken = (Segment(0.2, 0.4, "FEM"), Segment(0.3, 1.4, "KCHI"), Segment(9, 10, "FEM"))
    clip = Clip("home", str(path), 0.0, 2.0, "g", segments=spoken)
    heard = (Segment(0.5, 1.5, "MAL"), Segment(0.1, 0.35, "FEM"))
    frames = errors.Wrong(clip, 0.1, 1.6, 0.75, "wrong seconds", "", "", heard)
    text = errors.Wrong(clip, 0.0, 2.0, 2.0, "errors", "a b c", "a c")
    for one in (frames, text):
        errors._draw(one, [folder / "a.png"])


def lines(folder: Path, patch: Any) -> list[str]:
    """Of all pictures here; folder: an empty one."""
    import soundfile
    from matplotlib.figure import Figure

    told: list[str] = []

    def saved(figure: Any, path: Any, **more: Any) -> None:
        told.append(f"{more['format']} {more['dpi']} {more['metadata']}")
        told.extend(held(figure))
        Path(path).touch()

    patch.setattr(Figure, "savefig", saved)
    sound = folder / "sound.wav"
    soundfile.write(sound, np.random.default_rng(1).normal(0, 0.1, 32000), 16000)
    timelines(folder)
    explanations(folder)
    mistakes(folder, sound)
    return told


def differences(one: Iterable[str], other: Iterable[str]) -> list[str]:
    return [f"{a} | {b}" for a, b in zip(one, other, strict=False) if a != b][:5]


if __name__ == "__main__":
    with TemporaryDirectory() as place, pytest.MonkeyPatch.context() as monkeypatch:
        made = lines(Path(place), monkeypatch)
    FILE.write_text("\n".join(made) + "\n", encoding="utf-8")
    sys.exit(0)
