"""What ChildProject says of a small set of annotations: tests/results/summary_truth.json.

    python scripts/summary_truth.py [--check]         make the file again, or compare with it
    python scripts/summary_truth.py --lena FILE.csv   bab's LENA turns beside LENA's own

Needs ChildProject==0.4.6, in an environment of its own (it is not needed to use or test bab).
FILE.csv is a converted `.its` of ChildProject, e.g. tests/data/lena_its.csv of its repository.
The annotations are synthetic. Imports nothing of bab, except for --lena.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

TRUTH = Path(__file__).resolve().parent.parent / "tests" / "results" / "summary_truth.json"
SPEAKERS = ("CHI", "OCH", "MAL", "FEM")
HOUR = 3_600_000
Case = dict[str, Any]


def cases() -> list[Case]:
    """Recordings: name, seconds, start on the clock or None, segments (start, duration, label)."""
    return [
        {
            # Overlaps, ties, nesting, gaps of 0.999, 1.000 and 1.001 s, segments over the hours of
            # the recording (3600 s) and of the clock (2670 s), rounding, label SPEECH.
            "name": "borders.wav", "seconds": 7300.0, "start": "08:15:30",
            "segments": [
                [0.0, 0.5, "KCHI"], [1.499, 0.5, "FEM"], [2.999, 0.4, "KCHI"], [4.4, 0.2, "MAL"],
                [4.4, 0.2, "KCHI"], [4.4, 0.2, "FEM"], [4.45, 0.05, "OCH"], [4.6, 0.1, "KCHI"],
                [10.0, 30.0, "FEM"], [12.0, 1.0, "KCHI"], [20.0, 1.0, "KCHI"], [41.2, 1.0, "KCHI"],
                [50.0005, 1.0, "KCHI"], [51.9995, 1.0, "MAL"], [53.5, 1.0, "SPEECH"],
                [54.2, 0.3, "KCHI"], [2669.0, 2.5, "KCHI"], [2670.2, 1.0, "FEM"],
                [2671.9, 1.0, "OCH"], [3598.5, 1.5, "FEM"], [3600.0, 1.0, "KCHI"],
                [3601.9, 0.0002, "MAL"], [6269.5, 40.0, "OCH"], [6270.0, 1.0, "KCHI"],
                [7199.0, 5.0, "KCHI"], [7199.5, 1.0, "FEM"], [7299.5, 3.0, "FEM"],
                [7301.0, 1.0, "KCHI"],
            ],
        },
        {"name": "nobody.wav", "seconds": 4000.0, "start": "23:30:00",
         "segments": [[4100.0, 1.0, "KCHI"]]},
        {"name": "adults.wav", "seconds": 1800.5, "start": None,
         "segments": [[5.0, 2.0, "FEM"], [7.5, 1.0, "MAL"], [9.0, 1.25, "FEM"]]},
        {"name": "days.wav", "seconds": 53.5 * 3600, "start": "22:40:00",
         "segments": _talk(random.Random(1), 53.5 * 3600, 150, cross=True)},
        {"name": "dense.wav", "seconds": 2.2 * 3600, "start": "00:00:00",
         "segments": _talk(random.Random(2), 1200, 300, cross=False)},
        {"name": "hours.wav", "seconds": 7200.0, "start": "09:00:00",
         "segments": _talk(random.Random(3), 7200, 60, cross=True)},
    ]  # fmt: skip


def _talk(draw: random.Random, seconds: float, count: int, cross: bool) -> list[list[Any]]:
    """Bursts of speech, many within a second of each other; some over the border of an hour."""
    found, now = [], 0.0
    for _ in range(count):
        now += draw.choice([0.2, 0.7, 0.999, 1.0, 1.3, 4.0]) + draw.choice([0, 0, seconds / count])
        if now >= seconds:
            break
        length = round(draw.uniform(0.05, 3.0), 3)
        found.append([round(now, 3), length, draw.choice(["KCHI", "KCHI", "OCH", "MAL", "FEM"])])
        now += draw.choice([0.0, length / 2, length, length])
    for hour in range(1, int(seconds // 3600) if cross else 0, 3):
        found.append([hour * 3600 - 1.0, 2.0, draw.choice(["KCHI", "FEM"])])
        found.append([hour * 3600 - 0.5, 1.0, draw.choice(["KCHI", "MAL"])])
    return found


def project(folder: Path, recordings: list[Case]) -> Any:
    """A ChildProject data set with these recordings (no audio) and their RTTM, imported."""
    import pandas as pd
    from ChildProject.annotations import AnnotationManager
    from ChildProject.projects import ChildProject

    for name in ("metadata", "recordings/raw", "annotations/vtc/raw", "extra"):
        (folder / name).mkdir(parents=True)
    pd.DataFrame(
        [{"experiment": "x", "child_id": "1", "child_dob": "2020-01-01", "child_sex": "f"}]
    ).to_csv(folder / "metadata" / "children.csv", index=False)
    pd.DataFrame(
        [
            {
                "experiment": "x", "child_id": "1", "date_iso": "2021-01-01",
                "start_time": case["start"] or "NA", "recording_device_type": "usb",
                "recording_filename": case["name"], "duration": round(case["seconds"] * 1000),
            }
            for case in recordings
        ]
    ).to_csv(folder / "metadata" / "recordings.csv", index=False)  # fmt: skip
    for case in recordings:
        text = "".join(
            f"SPEAKER {case['name']} 1 {start!r} {length!r} <NA> <NA> {label} <NA> <NA>\n"
            for start, length, label in case["segments"]
        )
        (folder / "annotations" / "vtc" / "raw" / f"{case['name']}.rttm").write_text(text)
    corpus = ChildProject(folder)
    corpus.read()
    manager = AnnotationManager(corpus)
    manager.import_annotations(
        pd.DataFrame(
            [
                {
                    "set": "vtc", "raw_filename": f"{case['name']}.rttm", "time_seek": 0,
                    "recording_filename": case["name"], "range_onset": 0,
                    "range_offset": round(case["seconds"] * 1000), "format": "vtc_rttm",
                }
                for case in recordings
            ]
        )
    )  # fmt: skip
    return corpus


def compute(recordings: list[Case]) -> list[Case]:
    """ChildProject's metrics of each recording, of its hours, and of the hours of the day.

    Times in ms, as it gives them; None for its NaN. Hours without any recording are left out.
    """
    import pandas as pd
    from ChildProject.pipelines.metrics import Metrics

    def metrics() -> pd.DataFrame:
        each = [
            {"callable": name, "set": "vtc", "speaker": speaker}
            for name in ("voc_speaker", "voc_dur_speaker", "avg_voc_dur_speaker")
            for speaker in SPEAKERS
        ]
        return pd.DataFrame([*each, {"callable": "simple_CTC", "set": "vtc", "speaker": None}])

    hours = pd.DataFrame(
        [
            {"recording_filename": case["name"], "segment_onset": onset,
             "segment_offset": min(onset + HOUR, round(case["seconds"] * 1000))}
            for case in recordings
            for onset in range(0, round(case["seconds"] * 1000), HOUR)
        ]
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        corpus = project(Path(folder), recordings)
        tables = {
            "recording": Metrics(corpus, metrics()).extract(),
            "hour": Metrics(corpus, metrics(), by="segments", segments=hours).extract(),
            "clock": Metrics(corpus, metrics(), period="1h").extract(),
        }
    return [
        _row(scope, line) for scope, table in tables.items() for line in table.to_dict("records")
        if line["duration_vtc"]
    ]  # fmt: skip


def _row(scope: str, line: dict[str, Any]) -> Case:
    """One line of ChildProject's table as plain numbers."""
    hour = {
        "recording": lambda: None,
        "hour": lambda: int(line["segment_onset"]) // HOUR,
        "clock": lambda: int(line["period_start"][:2]),
    }[scope]()
    row = {
        "recording": line["recording_filename"], "scope": scope, "hour": hour,
        "duration": int(line["duration_vtc"]), "simple_CTC": int(line["simple_CTC"]),
    }  # fmt: skip
    for name in (s.lower() for s in SPEAKERS):
        mean = line[f"avg_voc_dur_{name}"]
        row[f"voc_{name}"] = int(line[f"voc_{name}"])
        row[f"voc_dur_{name}"] = int(line[f"voc_dur_{name}"])
        row[f"avg_voc_dur_{name}"] = None if mean is None or mean != mean else float(mean)
    return row


def lena(path: Path) -> int:
    """Compare `lena_turns` with the turns that LENA marked itself (TIFR, TIMR); 1 if they differ.

    Speech is what LENA gave a place in a conversation, faint children (CHF) with words included.
    """
    import pandas as pd

    from bab.results.vocalisations import Voc, lena_turns

    voices = {"CHN": "KCHI", "CHF": "KCHI", "FAN": "FEM", "MAN": "MAL", "CXN": "OCH"}
    table = pd.read_csv(path).sort_values("segment_onset")
    table = table[table.lena_conv_turn_type.notna()]
    ours = lena_turns(
        [
            Voc(int(on), int(off), voices.get(who, who))
            for on, off, who in zip(
                table.segment_onset, table.segment_offset, table.lena_speaker, strict=True
            )
        ]
    )
    marked = table[table.lena_conv_turn_type.isin(["TIFR", "TIMR"])].segment_onset.tolist()
    print(
        f"LENA {len(marked)} turns, bab {len(ours)}, at the same place {len({*marked} & {*ours})}"
    )
    return 0 if marked == ours else 1


def main() -> int:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--lena", type=Path)
    options = parser.parse_args()
    if options.lena:
        return lena(options.lena)
    import ChildProject

    recordings = cases()
    truth = {
        "made_with": f"ChildProject {ChildProject.__version__}",
        "recordings": recordings,
        "rows": compute(recordings),
    }
    if options.check:
        same = json.loads(TRUTH.read_text()) == json.loads(json.dumps(truth))
        print("equal" if same else f"{TRUTH} differs")
        return 0 if same else 1
    lines = [f'"made_with": {json.dumps(truth["made_with"])}']
    for key in ("recordings", "rows"):
        lines.append(f'"{key}": [\n' + ",\n".join(json.dumps(item) for item in truth[key]) + "\n]")
    TRUTH.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
