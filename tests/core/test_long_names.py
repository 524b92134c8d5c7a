"""Names that no file system takes: cut by bytes, with a hash, and told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from bab.core.names import file_name, fitted
from bab.core.types import Prediction, Segment
from bab.data.convert import Conversion, convert
from bab.kit.rttms import write_rttms
from bab.predicting.recordings import recordings
from bab.starting.folders import place

HINDI = "\u0918\u0930" * 40 + "\u0918"  # 245 bytes with its ending
LONG = ["a" * 251, "a" * 250 + "b", HINDI, HINDI + "\u0930"]


@pytest.mark.parametrize("name", LONG)
def test_a_long_name_is_cut_by_bytes(name: str) -> None:
    cut = fitted(name)
    assert len(cut.encode()) <= 200 and cut == fitted(name)
    assert name.startswith(cut[:-9]) and cut.encode().decode() == cut
    assert fitted(name[:50]) == name[:50]
    assert len({fitted(one) for one in LONG}) == len(LONG)


def test_predictions_of_long_and_like_names_are_all_written(tmp_path: Path) -> None:
    ids = [*LONG, "a/b", "a:b", "A_b"]
    write_rttms([Prediction(one, segments=(Segment(0, 1, "FEM"),)) for one in ids], tmp_path)
    said = [path.read_text().split()[1] for path in tmp_path.glob("*.rttm")]
    assert len(said) == len(ids)
    assert len({path.name.casefold() for path in tmp_path.glob("*.rttm")}) == len(ids)


def test_a_runs_folder_and_a_converted_file_fit(tmp_path: Path) -> None:
    runs = place(str(tmp_path), "vtc", f"rttm-{LONG[0]}", f"hubert-{LONG[1]}", "0123456789ab")
    runs.mkdir(parents=True)
    assert file_name(LONG[0]).endswith(fitted(LONG[0])[-8:])
    source = tmp_path / f"{LONG[0]}.csv"
    source.write_text("uid,start_time_s,duration_s,label\nx,0,1,FEM\n")
    done = convert(source, tmp_path / "out", Conversion(target="audacity"), lambda *_: None)
    assert [path.exists() for path in done.written] == [True]


def test_recordings_are_called_by_names_that_fit(tmp_path: Path) -> None:
    for name in LONG[:3]:
        (tmp_path / f"{name[:240] if name.isascii() else name}.wav").touch()
    listed, _ = recordings([tmp_path])
    assert all(len(one.name.encode()) <= 210 for one in listed) and len(listed) == 2
