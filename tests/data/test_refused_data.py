"""Annotations that a format can't hold, audio that no batch can: what is said, and what passes."""

from __future__ import annotations

from dataclasses import replace
from datetime import time
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bab.core.annotations import Annotation, Mark
from bab.core.errors import BabError, ConfigError
from bab.core.types import Clip, Window
from bab.data import vad
from bab.data.annotations import fit_annotations, open_format
from bab.data.batches import WaveSource
from bab.data.convert import Conversion, convert, read_any, summed

DAY = Annotation("day", (Mark(0.0, 1.0, "KCHI"),))


def fit(name: str, *annotations: Annotation) -> tuple[list[Annotation], list[str]]:
    form = open_format(name)
    return fit_annotations(form, annotations, Path("out.x")), form.notices


def refused(name: str, *annotations: Annotation) -> str:
    with pytest.raises(BabError) as caught:
        fit(name, *annotations)
    return str(caught.value)


def test_what_a_format_can_t_hold_at_all() -> None:
    assert (
        refused("its", DAY) == "out.x: its is read only: write another format (`bab list formats`)"
    )
    said = "out.x: textgrid holds one recording a file, not 2: write a file each"
    assert refused("textgrid", DAY, DAY) == said
    assert refused("textgrid") == said.replace("2", "0")
    assert len(fit("rttm", DAY, DAY)[0]) == 2 and len(fit("textgrid", DAY)[0]) == 1


@pytest.mark.parametrize("span", [(-0.1, 1.0), (1.0, 0.5), (0.0, float("inf")), (float("nan"), 1)])
def test_no_stretch_of_time(span: tuple[float, float]) -> None:
    told = f"out.x: 'a' has a mark from {span[0]} to {span[1]} s: no stretch of time"
    assert refused("rttm", Annotation("a", (Mark(*span, "FEM"),))) == told
    assert refused("rttm", Annotation("a", scored=(span,))) == told


def test_times_are_whole_milliseconds_and_what_is_shorter_is_counted() -> None:
    marks = (Mark(0.0, 0.0004, "FEM"), Mark(0.0, 0.0006, "FEM"), Mark(1.00049, 2.00051, "MAL"))
    (one,), notices = fit("rttm", Annotation("a", (*marks, Mark(3.0, 3.0, "FEM"))))
    assert [(m.start, m.end) for m in one.marks] == [(0.0, 0.001), (1.0, 2.001)]
    assert notices == ["2 marks shorter than half a millisecond were left out"]
    assert fit("rttm", Annotation("a", marks[1:]))[1] == []


def test_what_is_lost_is_counted() -> None:
    marks = (
        Mark(0, 1, "FEM", speaker="FEM", text="a"),
        Mark(1, 2, "FEM", speaker="FA1", text="b", values={"addressee": "CDS"}),
        Mark(2, 3, "FEM", speaker="", values={"vcm": "C"}),
        Mark(3, 4, "FEM", values={}),
    )
    one = Annotation("a", marks, 4.0, time(9, 30), "x\\y/a.wav", ((0.0, 2.0),))
    told = [
        "the length of a recording: 1",
        "the time of day at which a recording begins: 1",
        "which stretches were annotated: 1",
        "who speaks, beside the label: 1",
        "the text of a mark: 2",
        "further facts of a mark: 2",
    ]
    assert fit("rttm", one)[1] == [f"rttm can't hold {what} left out" for what in told]
    named = fit("rttm", replace(one, media="b.wav"))[1]  # the audio is called as another recording
    assert named[2] == "rttm can't hold the audio file's name: 1 left out" and len(named) == 7
    assert fit("rttm", DAY)[1] == []


def test_silero_is_asked_for_where_it_isn_t(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(
        BabError, match=r"--vad silero needs silero-vad: pip install 'bab\[prepare\]'"
    ):
        vad.require("silero")
    vad.require("energy")
    monkeypatch.setattr(util, "find_spec", lambda name: object())
    vad.require("silero")


def test_a_clip_of_several_windows_is_no_wave(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.linspace(-0.5, 0.5, 800), 8000, "FLOAT")
    clip = Clip("a", str(path), 0.0, 0.1, "g")
    windows = [Window(clip), Window(clip.within(0.05, 0.1, ()), keep=(1, 3))]

    class Item:
        def __init__(self, *windows: Window) -> None:
            self.clip, self.windows = clip, windows

    source: Any = WaveSource(8000)
    with pytest.raises(ConfigError, match=r"clip 'a' \(0\.1 s\) is longer than the encoder takes"):
        source.inputs([Item(windows[0]), Item(*windows)])
    waves = source.inputs([Item(windows[0]), Item(windows[1])])
    assert waves.lengths.tolist() == [800, 400] and waves.samples.shape == (2, 800)
    assert waves.samples[1, 400:].abs().max() == 0
    assert np.allclose(waves.samples[1, :400], np.linspace(-0.5, 0.5, 800)[400:], atol=1e-6)
    assert waves.keep[1].tolist() == [1, 3] and waves.keep[0][0] == 0 and waves.keep[0][1] > 10**9
    assert source.inputs([Item(windows[0])]).keep is None


RTTM = "SPEAKER {} 1 0 1.5 <NA> <NA> KCHI <NA> <NA>\n"


def converted(given: Path, out: Path, target: str = "", source: str = "") -> tuple[list[str], ...]:
    asked = Conversion(target=target, source=source)
    done = convert(given, out, asked, lambda *told: None)
    return [str(p.relative_to(out.parent)) for p in done.written], done.failed


def test_where_converted_files_would_fall_on_each_other(tmp_path: Path) -> None:
    both = tmp_path / "both.rttm"
    both.write_text(RTTM.format("a") + RTTM.format("b"))
    written, failed = converted(both, tmp_path / "one.TextGrid")
    assert not written and failed[0].startswith(f"{both}: holds 2 recordings, and one.TextGrid can")
    written, failed = converted(both, tmp_path / "many", "textgrid")
    assert written == ["many/a.TextGrid", "many/b.TextGrid"] and not failed
    written, failed = converted(both, both, "rttm")
    assert failed == [f"{both}: would be written over itself: name another place"]
    both.write_text(RTTM.format("a/1") + RTTM.format("a_1"))
    written, failed = converted(both, tmp_path / "more", "textgrid")
    assert failed == [f"{both}: names of its recordings can't be told apart as files"]
    with pytest.raises(BabError, match=r"^--to its: this format is read only\. "):
        converted(both, tmp_path / "x", "its")
    with pytest.raises(BabError, match=r"there is no such file or folder$"):
        converted(tmp_path / "none", tmp_path / "x", "rttm")


def test_a_file_of_no_or_another_format(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text(RTTM.format("a"))
    with pytest.raises(BabError, match=r"no format has the suffix '\.xyz': say which with --from"):
        read_any(path)
    assert read_any(path, "rttm")[0][0].uri == "a"
    notices = [(Path(f"{n}.rttm"), f"{i} marks of 10") for i, n in enumerate("abc", 2)]
    assert summed([*notices, (Path("d.rttm"), "no number")]) == [
        "3 files: 9 marks of 10",
        "d.rttm: no number",
    ]
    assert summed(notices[:1]) == ["a.rttm: 2 marks of 10"]
