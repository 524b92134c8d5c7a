"""What is written of a recording's rows: seconds, means, shares, tables, notices, to the digit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import parquet
from scipy.special import expit, softmax

from bab.core.annotations import Format, Mark
from bab.core.grid import Grid
from bab.core.types import Output, Prediction, Segment
from bab.predicting import outputs
from bab.predicting.kept import Results
from bab.predicting.outputs import Done, annotation_of, decoded, heard, noticed
from bab.predicting.recordings import Recording
from bab.running.saved import Saved

GRID = Grid(1000, 100, 200)  # a frame each .1 s, of .2 s


class Stretched:
    """Rows in the stretches that are given."""

    def __init__(self, *parts: Any) -> None:
        self.parts = [np.array(part) for part in parts]

    @property
    def done(self) -> int:
        return sum(map(len, self.parts))

    def read(self) -> Iterator[NDArray[Any]]:
        yield from self.parts


def saved(labels: dict[str, tuple[str, ...]] | None = None, **task: Any) -> Saved:
    """A model of frames, unless task says otherwise."""
    kind = {"one_target": False, "pairs": False, "whole_clips": False} | task
    encoder = SimpleNamespace(grid=GRID, sample_rate=1000)
    known = labels or {"voice": ("KCHI", "FEM")}
    return cast(Saved, SimpleNamespace(task=SimpleNamespace(**kind), encoder=encoder, labels=known))


def whole(**task: Any) -> Saved:
    """A model of whole clips, with two kinds of label."""
    labels = {"gender": ("f", "m"), "age": ("a", "b", "c")}
    return saved(labels, **({"one_target": True, "whole_clips": True} | task))


def row(begin: float, samples: float, weight: float, *values: float) -> list[float]:
    return [begin, samples, weight, *values]


@pytest.mark.parametrize(
    ("frames", "told", "seconds"),
    [
        (10, 1.1, 1.1),  # ten frames are 9 x 100 + 200 samples
        (10, 1.2, 1.2),  # half a frame's worth of audio has none of its own
        (10, 1.29, 1.29),
        (10, 1.301, 1.1),
        (10, 0.91, 0.91),
        (10, 0.89, 1.1),
        (10, 20.0, 1.1),
    ],
)
def test_seconds_are_the_headers_unless_the_frames_say_otherwise(
    frames: int, told: float, seconds: float
) -> None:
    rows = Stretched(np.zeros((frames - 3, 2)), np.zeros((3, 2)))
    assert heard(saved(), rows, told) == seconds


def test_seconds_of_windows_are_where_the_furthest_ends() -> None:
    rows = Stretched([row(0, 900, 9, 1)], [row(500, 1234, 9, 1), row(1000, 500, 9, 1)])
    rows.parts[1] = rows.parts[1][::-1]
    assert heard(whole(), rows, 9.0) == 1.734
    assert heard(whole(), rows, 1.6) == 1.6


def test_a_clip_task_hears_the_mean_of_its_windows_each_by_its_frames() -> None:
    seen: list[Output] = []

    def decode(output: Output, grid: Grid, labels: Any, tuned: Any) -> Prediction:
        seen.append(output)
        assert (grid, labels, tuned) == (GRID, {"k": ("a", "b")}, {"t": 1})
        return Prediction(output.clip.id)

    model = saved({"k": ("a", "b")}, one_target=True, whole_clips=True, decode=decode)
    rows = Stretched([row(0, 400, 3, 1.0, 8.0)], [row(400, 100, 1, 5.0, -4.0)])
    recording = Recording("x/y", "/z.wav", 2.0, 3.0)
    assert decoded(model, recording, rows, 0.5, {"t": 1}) == Prediction("x/y")
    (output,) = seen
    assert output.values.tolist() == [2.0, 5.0] and output.values.dtype == np.float32
    clip = output.clip
    assert (clip.id, clip.path, clip.start, clip.end) == ("x/y", "/z.wav", 2.0, 2.5)


class Cutting:
    """Cuts after each row of zeros; says of a piece where it begins and what it holds."""

    def __init__(self, texts: bool = False) -> None:
        self.texts, self.pieces = texts, list[tuple[int, list[float]]]()
        self.one_target, self.pairs, self.whole_clips = False, False, False

    def cut(self, output: Output, *_: object) -> int:
        zeros = np.flatnonzero(output.values[:, 0] == 0)
        return int(zeros[-1]) + 1 if len(zeros) else 0

    def decode(self, output: Output, *_: object) -> Prediction:
        values = output.values[:, 0].tolist()
        self.pieces.append((output.first, values))
        length = sum(values) / 10
        part = (Segment(output.first, output.first + length, "a"),)
        text = "".join(f"{v:g}" for v in values if v) if self.texts else None
        return Prediction("part", segments=part, text=text)


@pytest.mark.parametrize("texts", [False, True])
def test_what_is_cut_off_is_decoded_and_the_rest_waits_for_more(texts: bool) -> None:
    task = Cutting(texts)
    model = cast(Saved, SimpleNamespace(task=task, encoder=SimpleNamespace(grid=GRID), labels={}))
    rows = Stretched([[1.0], [0.0], [2.0]], [[3.0], [4.0]], [[0.0]], [[0.0], [5.0]])
    said = decoded(model, Recording("home", "/h.wav"), rows, 0.8, {})
    # A piece that ends with its last row may go on: it is not cut there.
    assert task.pieces == [(0, [1.0, 0.0]), (2, [2.0, 3.0, 4.0, 0.0, 0.0]), (7, [5.0])]
    assert said.id == "home" and said.text == ("1 234 5" if texts else None)
    assert [(s.start, s.end) for s in said.segments] == [(0, 0.1), (2, 2.9), (7, 7.5)]


def test_pieces_without_a_word_leave_no_blanks_in_a_text() -> None:
    model = cast(
        Saved, SimpleNamespace(task=Cutting(True), encoder=SimpleNamespace(grid=GRID), labels={})
    )
    for rows, text in (
        (([[0.0], [0.0], [2.0]], [[0.0], [3.0]]), "2 3"),
        (([[0.0], [0.0]], [[0.0]]), ""),
    ):
        said = decoded(model, Recording("home", "/h.wav"), Stretched(*rows), 0.8, {})
        assert said.text == text


@pytest.mark.parametrize(
    ("length", "stays"), [(0.0, False), (0.0004, False), (0.0006, True), (0.001, True)]
)
def test_no_segment_is_left_that_would_be_written_without_a_length(
    length: float, stays: bool
) -> None:
    class Short(Cutting):
        def decode(self, output: Output, *_: object) -> Prediction:
            return Prediction("p", (Segment(1.0, 1.0 + length, "a"),), labels={"k": "v"}, text="t")

    model = cast(
        Saved, SimpleNamespace(task=Short(), encoder=SimpleNamespace(grid=GRID), labels={})
    )
    said = decoded(model, Recording("home", "/h.wav"), Stretched([[1.0]]), 0.8, {})
    assert bool(said.segments) is stays
    assert (said.id, said.labels, said.text) == ("home", {"k": "v"}, "t")  # one piece: as it is
    none = decoded(model, Recording("home", "/h.wav"), Stretched(), 0.8, {})
    assert none == Prediction("home")


def test_nobody_speaks_for_over_half_a_minute() -> None:
    def said(*ends: float) -> list[str]:
        parts = tuple(Segment(100.0, 100.0 + end, f"V{n}") for n, end in enumerate(ends))
        return list(noticed(Prediction("home", parts)))

    assert said(30.0, 3.0) == [] and said() == []
    rest = "nobody speaks so long without a pause; listen whether it is noise, a hum or music"
    assert said(30.5) == [f"home: 1 segment over 30 s, the longest V0 for 30 s at 100 s: {rest}"]
    assert said(31.0, 45.0, 9.0, 40.0) == [
        f"home: 3 segments over 30 s, the longest V1 for 45 s at 100 s: {rest}"
    ]


def done(**changes: Any) -> Done:
    prediction = Prediction("a/home", (Segment(0.5, 1.5, "KCHI"), Segment(1.0, 2.0, "FEM")))
    values: dict[str, Any] = {"key": "k", "made_by": "m", "name": "a/home", "path": "/in/home.wav"}
    values |= {"digest": "d", "seconds": 9.5, "prediction": prediction}
    return Done(**(values | changes))


def test_a_result_as_an_annotation_has_its_whole_name_and_when_it_began() -> None:
    whole = annotation_of(done(began="2024-05-06T07:08:09"))
    assert (whole.uri, whole.duration, whole.media) == ("a/home", 9.5, "/in/home.wav")
    assert whole.marks == (Mark(0.5, 1.5, "KCHI"), Mark(1.0, 2.0, "FEM"))
    assert whole.began == datetime(2024, 5, 6, 7, 8, 9)
    named = annotation_of(done(name="a/2023-01-02_03-04-05"))
    assert named.began == datetime(2023, 1, 2, 3, 4, 5)
    assert annotation_of(done()).began is None


class Kept(Format):
    """Keeps what it is asked to write."""

    suffixes = (".txt", ".other")

    def __init__(self, *notices: str) -> None:
        super().__init__(None)
        self.written: list[tuple[Any, Path]] = []
        self.lost = notices

    def write(self, annotations: Sequence[Any], path: Path) -> None:
        (one,) = annotations
        self.written.append((one, path))
        self.notices += self.lost
        path.write_text(one.uri)


def test_formats_get_what_they_have_a_place_for(tmp_path: Path) -> None:
    class Times(Kept):
        keeps = frozenset({"duration"})
        beside = frozenset({"began"})

    class Media(Kept):
        keeps = frozenset({"media"})

    plain, times, media = Kept("no room"), Times(), Media("no room", "none")
    result = done(began="2024-05-06T07:08:09")
    forms: dict[str, Format] = {"plain": plain, "times": times, "media": media}
    paths, lost = outputs.write_annotations(result, forms, tmp_path)
    assert paths == [tmp_path / "a/home.txt"] * 3 and lost == {"no room", "none"}
    assert not plain.notices and not media.notices
    (one, _), (two, _), (three, _) = plain.written[0], times.written[0], media.written[0]
    assert (one.uri, one.duration, one.began, one.media) == ("home", None, None, "")
    assert (two.duration, two.began, two.media) == (9.5, datetime(2024, 5, 6, 7, 8, 9), "")
    assert (three.duration, three.began, three.media) == (None, None, "/in/home.wav")
    assert one.marks == two.marks == annotation_of(result).marks


def test_a_format_that_was_written_and_is_there_isnt_written_again(tmp_path: Path) -> None:
    form = Kept()
    before = done(written=("plain",))
    assert len(outputs.write_annotations(before, {"plain": form}, tmp_path)[0]) == 1  # it was gone
    assert outputs.write_annotations(before, {"plain": form}, tmp_path) == ([], set())
    assert len(outputs.write_annotations(done(), {"plain": form}, tmp_path)[0]) == 1
    assert len(form.written) == 2
    outputs.write_annotations(done(name="b/c/home"), {"plain": form}, tmp_path)
    assert (tmp_path / "b/c/home.txt").read_text() == "home"  # folders are made as they are needed


def test_only_files_that_no_prediction_wrote_are_foreign(tmp_path: Path) -> None:
    results = Results(tmp_path, Done)
    forms: dict[str, Format] = {"plain": Kept()}
    outputs.refuse_foreign(results, ["home", "other"], forms, tmp_path)
    (tmp_path / "home.txt").write_text("mine")
    told = (
        f"{tmp_path / 'home.txt'} is there, and no prediction in {tmp_path} has written it: name "
        "another --out, so that nobody's annotations are replaced"
    )
    with pytest.raises(outputs.BabError) as error:
        outputs.refuse_foreign(results, ["other", "home"], forms, tmp_path)
    assert str(error.value) == told
    outputs.refuse_foreign(results, ["home"], {}, tmp_path)
    results.begin("key", Recording("home", "/x.wav"), "d")  # stopped between file and record
    outputs.refuse_foreign(Results(tmp_path, Done), ["home"], forms, tmp_path)
    results.end("key")
    place = results.place("home")
    place.parent.mkdir(parents=True)
    place.write_text("damaged")  # it was ours once
    outputs.refuse_foreign(Results(tmp_path, Done), ["home"], forms, tmp_path)


def test_probabilities_of_frames_tile_the_recording(tmp_path: Path) -> None:
    logits = np.linspace(-3, 4, 12).reshape(6, 2).astype(np.float32)
    rows = Stretched(logits[:2], logits[2:5], logits[5:])
    target = outputs.probabilities_path(tmp_path / "new", "a/home", "npy")
    assert target == tmp_path / "new/a/home.probabilities.npy"
    outputs.write_probabilities(saved(), rows, target, 0.73)
    table = np.load(target)
    # The cells' borders: half a hop behind each centre (.1, .2, ...), and the ends.
    edges = [0.0, 0.15, 0.25, 0.35, 0.45, 0.55, 0.73]
    np.testing.assert_allclose(table[:, 0], edges[:-1], atol=1e-12)
    np.testing.assert_allclose(table[:, 1], edges[1:], atol=1e-12)
    np.testing.assert_allclose(table[:, 2:], expit(logits), atol=1e-7)
    assert table.dtype == np.float64
    other = outputs.probabilities_path(tmp_path, "home", "parquet")
    outputs.write_probabilities(saved(), rows, other, 0.73)
    read = parquet.read_table(other)
    assert read.column_names == ["start", "end", "KCHI", "FEM"]
    assert [str(field.type) for field in read.schema] == ["double", "double", "float", "float"]
    assert np.array_equal(np.stack([c.to_numpy() for c in read.columns], 1), table)


def test_probabilities_of_windows_are_softmaxes_of_each_kind(tmp_path: Path) -> None:
    values = np.array([[1000.0, 998.0, 1, 2, 3], [0.0, 1.0, -1, -1, 5]])
    rows = Stretched(
        [row(0, 400, 3, *values[0])],
        [row(250, 400, 3, *values[1])],
    )
    path = tmp_path / "home.probabilities.npy"
    outputs.write_probabilities(whole(), rows, path, 9.0)
    table = np.load(path)
    assert table[:, :2].tolist() == [[0.0, 0.4], [0.25, 0.65]]
    np.testing.assert_allclose(table[:, 2:4], softmax(values[:, :2], axis=1), atol=1e-7)
    np.testing.assert_allclose(table[:, 4:], softmax(values[:, 2:], axis=1), atol=1e-7)
    written = tmp_path / "new/home.windows.csv"
    outputs.write_windows(whole(), rows, written)
    assert written.read_text().splitlines() == [
        "start,end,gender=f,gender=m,age=a,age=b,age=c",
        "0.000,0.400,0.8808,0.1192,0.0900,0.2447,0.6652",
        "0.250,0.650,0.2689,0.7311,0.0025,0.0025,0.9951",
    ]


def test_embeddings_are_written_as_they_are_and_have_no_class_names(tmp_path: Path) -> None:
    rows = Stretched([row(0, 400, 3, 5.0, -6.0, 7.5)])
    model = saved({"speaker": ("a", "b")}, one_target=True, pairs=True, whole_clips=True)
    path = tmp_path / "home.probabilities.parquet"
    outputs.write_probabilities(model, rows, path, 0.4)
    read = parquet.read_table(path).to_pydict()
    assert read == {"start": [0.0], "end": [0.4], "value0": [5.0], "value1": [-6.0],
                    "value2": [7.5]}  # fmt: skip


def test_a_result_read_again_is_the_same() -> None:
    from dataclasses import asdict

    vector = Prediction("a", (Segment(0, 1, "x"),), {"k": "v"}, {"k=v": 0.5}, "t", (0.5, 1.5))
    result = done(
        prediction=vector, notices=("n",), written=("rttm",), began="07:08", files={"f": "d"},
        start=0.5, end=None,
    )  # fmt: skip
    assert Done.of_json(asdict(result)) == result
