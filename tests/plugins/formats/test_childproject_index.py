"""Format `childproject` in a data set: its index names what is written, as ChildProject has it."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

import bab
from bab import Annotation, Mark
from bab.plugins.datasets.childproject import ChildProject
from bab.predicting.maker import PredictOptions
from bab.predicting.predict import predict


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A data set of four recordings of 20 s, with one set of annotations."""
    assert ChildProject.sample is not None
    return Path(shutil.copytree(ChildProject.sample, tmp_path / "project"))


def index(project: Path) -> list[dict[str, str]]:
    with (project / "metadata" / "annotations.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def written(project: Path, name: str, set: str = "vtc", **known: object) -> list[str]:
    form = bab.open_format("childproject")
    path = project / "annotations" / set / "converted" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    form.write([Annotation(name, (Mark(0.5, 1.5, "KCHI"),), **known)], path)  # type: ignore[arg-type]
    return form.notices


def test_what_predict_writes_into_a_data_set_validates(model: Path, project: Path) -> None:
    out = project / "annotations" / "vtc" / "converted"
    raw = project / "recordings" / "raw"
    for named, sets in ((f"childproject:{project}", ["corpus.set=truth"]), (raw, [])):
        asked = PredictOptions(formats=["childproject"], corpus=sets)
        done = predict(model, [named], out, asked)  # nothing is entered twice
        assert not done.left and not [line for line in done.notices if "index" in line]
    mine = [row for row in index(project) if row["set"] == "vtc"]
    assert [(row["recording_filename"], row["range_offset"]) for row in mine] == [
        (f"rec{n}.ogg", "20000") for n in (1, 2, 3, 4)
    ]
    assert len(index(project)) == 8
    python = os.environ.get("BAB_CHILDPROJECT", sys.executable)
    if "BAB_CHILDPROJECT" not in os.environ and find_spec("ChildProject") is None:
        pytest.skip("ChildProject isn't here; BAB_CHILDPROJECT=PYTHON names one that has it")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = "from ChildProject.cmdline import main; main()"
    command = [python, "-c", run, "validate", str(project), "--annotations", "vtc"]
    said = subprocess.run(command, capture_output=True, text=True, env=env)
    assert said.returncode == 0 and "successfully" in said.stdout + said.stderr, said


def test_a_row_is_renewed_and_other_rows_stay(project: Path) -> None:
    before = index(project)
    assert not written(
        project, "rec1", duration=19.0, media=str(project / "recordings/raw/rec1.ogg")
    )
    assert not written(project, "rec1", duration=12.5)
    assert not written(project, "rec2", "lena/deep")  # as long as recordings.csv says
    rows = index(project)
    assert [{key: row[key] for key in before[0]} for row in rows[:4]] == before
    assert [(r["set"], r["range_offset"], r["annotation_filename"]) for r in rows[4:]] == [
        ("vtc", "12500", "rec1.csv"),
        ("lena/deep", "20000", "rec2.csv"),
    ]


def test_what_would_not_validate_is_said_and_not_entered(project: Path) -> None:
    assert any("no recording of that name" in line for line in written(project, "nobody"))
    assert any("another of the same" in line for line in written(project, "rec1", "truth"))
    assert len(index(project)) == 4
    form = bab.open_format("childproject", {"index": False})
    form.write([Annotation("rec1")], project / "annotations" / "vtc" / "converted" / "rec1.csv")
    assert len(index(project)) == 4 and not form.notices


def test_several_at_once_lose_no_row(project: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: written(project, f"rec{n}"), (1, 2, 3, 4)))
    assert len(index(project)) == 8
