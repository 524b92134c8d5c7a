"""RTTM or CSV on standard output, by the model beside this file: python label.py FILE ..."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr


def segments(rows: Any, a: dict[str, Any], seconds: float) -> list[Any]:  # of logits [T, C]
    hop, rate = a["hop"], a["sample_rate"]
    ends = (2 * np.arange(len(rows) - 1) * hop + a["field"]) / (2.0 * rate) + hop / rate / 2
    edges = np.rint(np.r_[0.0, np.minimum(ends, seconds), seconds] * 1000).astype(int)
    chosen, said = a["presets"][a["preset"]]["thresholds"], []
    for name, column in zip(*a["labels"].values(), rows.T.astype(float), strict=True):
        on = 1 / (1 + np.exp(-column)) >= chosen[name]
        turns = edges[np.flatnonzero(np.diff(on, prepend=False, append=False))]
        gaps = turns[1:-1].reshape(-1, 2)
        gaps = gaps[gaps[:, 1] - gaps[:, 0] >= a["fill_gaps"]].ravel()  # shorter ones are closed
        for b, e in np.r_[turns[:1], gaps, turns[-1:]].reshape(-1, 2).tolist():
            said += [(b / 1000, e / 1000, name)] * (e - b >= a["min_segment"])
    return sorted(said)


def classes(row: Any, a: dict[str, Any]) -> dict[str, Any]:  # of logits [C]
    labels, shares, values = dict[str, Any](), dict[str, Any](), row.astype(float)
    for kind, names in a["labels"].items():
        part, values = np.split(values, [len(names)])
        share = np.exp(part - part.max()) / np.exp(part - part.max()).sum()
        labels[kind] = names[int(part.argmax())]
        shares |= {f"{kind}={name}": p for name, p in zip(names, share.tolist(), strict=True)}
    return labels | shares


def logits(x: Any, a: dict[str, Any], run: Any) -> Any:  # of samples [S]: [T, C]; a clip: [1, C]
    clip, hop, window, reached = a["level"] == "clip", a["hop"], a["window"], 0
    x = np.pad(x, (0, max(0, a["field"] - len(x))))
    sums = np.zeros((len(x) // hop + 1, 1 + sum(map(len, a["labels"].values()))))
    last = (len(x) - window) // hop * hop  # the last window is moved back, to end with the audio
    for start in sorted({*range(0, max(1, len(x) - window + 1), a["step"]), max(0, last)}):
        part, first = x[None, start : start + window], start // hop
        frames = (part.shape[1] - a["field"]) // hop + 1
        more = {"first": np.array([max(0, reached - first) if a["once"] else 0])} if clip else {}
        reached = first + frames
        values = np.atleast_2d(run(None, {"samples": part} | more)[0][0])
        at, weight = (0, frames - more["first"][0]) if clip else (first, 1)
        sums[at : at + len(values)] += weight * np.insert(values, 0, 1.0, axis=1)
    return (sums[sums[:, 0] > 0, 1:] / sums[sums[:, 0] > 0, :1]).astype(np.float32)


if __name__ == "__main__":
    import onnxruntime

    a = json.loads((Path(__file__).parent / "bab.json").read_text(encoding="utf-8"))
    model = onnxruntime.InferenceSession(Path(__file__).parent / "model.onnx")
    for number, path in enumerate(map(Path, sys.argv[1:])):
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
        rows = logits(soxr.resample(audio.mean(axis=1), rate, a["sample_rate"]), a, model.run)
        if a["level"] == "frame":
            for begin, end, name in segments(rows, a, len(audio) / rate):
                ends = f"1 {begin:.3f} {end - begin:.3f} <NA> <NA> {name} <NA> <NA>"
                print("SPEAKER", "_".join(path.stem.split()), ends)
        else:
            said = {"id": path.stem} | classes(rows[0], a)
            lines = [said, said.values()][min(number, 1) :]  # the names of the columns once
            csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
