"""`bab data check` stops where a run would, and lists all that is wrong."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bab.cli import main
from bab.core.types import Clip, Segment
from bab.data.lines import doubled
from bab.kit.faults import Faults

SAMPLES = Path(__file__).parents[2] / "bab/plugins/datasets/samples"


def milliseconds(root: Path) -> None:
    for path in root.rglob("*.rttm"):
        rows = [line.split() for line in path.read_text().splitlines()]
        times = [[str(float(value) * 1000) for value in row[3:5]] for row in rows]
        lines = [[*row[:3], *both, *row[5:]] for row, both in zip(rows, times, strict=True)]
        path.write_text("".join(" ".join(line) + "\n" for line in lines))


def silent(root: Path) -> None:
    name = (root / "train.txt").read_text().split()[0]
    (root / "train.txt").write_text(f"{name}\n")
    (root / "rttm" / f"{name}.rttm").write_text("")


def beyond(root: Path) -> None:
    name = (root / "train.txt").read_text().split()[0]
    (root / "uem" / f"{name}.uem").write_text(f"{name} 1 100000 200000\n")


def seconds(root: Path) -> None:
    for path in root.glob("annotations/*/converted/*.csv"):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            for key in ("segment_onset", "segment_offset"):
                row[key] = str(float(row[key]) / 1000)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize(
    ("kind", "spoil", "told"),
    [
        ("rttm", milliseconds, "Times are seconds, not milliseconds"),
        ("rttm", silent, "no training recording has a segment of KCHI"),
        ("rttm", beyond, "its UEM covers none of the file"),
        ("childproject", seconds, "are milliseconds"),
    ],
)
def test_the_check_stops_where_a_run_stops(
    kind: str,
    spoil: Callable[[Path], None],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "corpus"
    shutil.copytree(SAMPLES / kind, root)
    assert main(["data", "check", f"{kind}:{root}"]) == 0
    spoil(root)
    capsys.readouterr()
    assert main(["data", "check", f"{kind}:{root}"]) == 1
    out = capsys.readouterr().out
    assert told in out and out.rstrip().endswith("a run would stop")
    asked = ["--encoder", "fbank", "--task", "vtc", "--corpus", f"{kind}:{root}"]
    assert main(["run", *asked]) == 2
    assert told in capsys.readouterr().err


def test_every_malformed_line_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "corpus"
    shutil.copytree(SAMPLES / "rttm", root)
    for path in sorted(root.rglob("*.rttm")):
        rows = path.read_text().splitlines()
        row = rows[3].split()
        rows[1], rows[3] = "garbage", " ".join([*row[:3], "abc", *row[4:]])
        path.write_text("\n".join(rows) + "\n")
    count = len((root / "train.txt").read_text().splitlines())
    with (root / "train.txt").open("a") as file:
        file.write("nosuch\nnosuch2\n")
    (root / "x.uem").write_text("bad line\nhome01 1 5 3\n")
    wanted = [f"home{i:02}.rttm:{line}: " for i in range(1, 11) for line in (2, 4)]
    wanted += ["x.uem:1: ", "x.uem:2: ", f"train.txt:{count + 1}: ", f"train.txt:{count + 2}: "]
    assert main(["data", "check", f"rttm:{root}"]) == 1
    out = capsys.readouterr().out
    assert [one for one in wanted if one not in out] == [] and "24 errors" in out
    asked = ["--encoder", "fbank", "--task", "vtc", "--corpus", f"rttm:{root}"]
    assert main(["run", *asked]) == 2
    assert "23 more of the corpus's mistakes: `bab data check` lists" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_every_malformed_row_of_a_manifest_is_listed(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["path,start,end", "a.wav,0,1", "a.wav,1,x", "a.wav,1,2,3", "a.wav,4,3", "a.wav,0,1"]
    lines = {3: "end is 'x'", 4: "4 cells", 5: "the end, 3 s", 6: "'a_0.000-1.000' stands twice"}
    if suffix == "jsonl":
        bad = ['{"path"', '{"path": {"y": 1}}', "[1]"]
        rows = ['{"path": "a.wav", "start": 0, "end": 1}', *bad, '{"path": ""}']
        lines = {2: "not JSON", 3: "'path' must be text", 4: "not a JSON object", 5: "the path"}
    text = "\n".join(rows).replace(",", "\t") if suffix == "tsv" else "\n".join(rows)
    path = tmp_path / f"manifest.{suffix}"
    path.write_text(text + "\n")
    assert main(["data", "check", f"manifest:{path}"]) == 1
    out = capsys.readouterr().out
    missing = [n for n, told in lines.items() if f"{path}:{n}: {told}" not in out]
    assert missing == [] and "4 errors" in out


def test_faults_of_a_long_table_are_counted() -> None:
    faults = Faults()
    for number in range(1500):
        faults.say(Path("x.rttm"), number, "wrong")
    with pytest.raises(Exception, match=r"x.rttm:0: wrong\n1499 more") as raised:
        faults.refuse()
    notes = raised.value.__notes__
    assert len(notes) == 1001 and "and 500 more" in notes[-1]


def test_a_voice_beside_itself_is_a_warning() -> None:
    spans = ((0.0, 2.0, "FEM"), (1.5, 3.0, "FEM"), (0.5, 0.6, "KCHI"), (2.9, 4.0, "FEM"))
    touching = ((4.0, 5.0, "FEM"), (4.999, 6.0, "FEM"))
    segments = tuple(Segment(*one) for one in (*spans, *touching))
    clip = Clip("a", "/x/a.wav", 0.0, 6.0, "a", segments=segments)
    [problem] = doubled([clip])
    assert not problem.fatal and "2 overlaps of 'FEM'" in problem.message
    assert "0.000 to 2.000 s and 1.500 to 3.000 s" in problem.message


def test_the_task_that_is_asked_for_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "manifest", "--task", "gender"]) == 0
    assert main(["data", "check", "manifest", "--task", "vtc"]) == 1
    assert "vtc needs segments, which this corpus doesn't provide" in capsys.readouterr().out
    asked = ["--task", "classify", "--set", "task.labels=[nosuch]"]
    assert main(["data", "check", "manifest", *asked]) == 1
    assert "nosuch" in capsys.readouterr().out
