"""Make examples/notebooks/python.ipynb anew: its cells are below, its outputs what they print.

pip install nbclient ipykernel
python scripts/execute_notebook.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

PLACE = Path(__file__).resolve().parents[1] / "examples" / "notebooks" / "python.ipynb"
CELLS = (
    """# bab from Python

Every command has a function of its name whose keyword arguments are the command's options
(`help(bab.run)`). Here all of it runs on the recordings that ship with `bab`: synthetic, and few,
so the figures say that the software works, and nothing about children.""",
    """
import os
import tempfile

import bab

os.chdir(tempfile.mkdtemp())  # runs are kept below the current folder""",
    """A run: features of a frozen encoder, a small head on top, tuned on dev, scored on test. The
same call again finds it done; one that was stopped goes on.""",
    """
done = bab.run(encoder="fbank", task="vtc", steps=60, quiet=True)
done""",
    """`done.record` is all that it says, `done.folder` where it lies.""",
    """
print(f"macro F1 {done.metrics['f1']:.3f}, children's {done.metrics['f1/KCHI']:.3f}")
done.record.task, done.record.corpus, done.record.labels""",
    """Options of components go into a mapping, any other key into `set`. A bench is many runs.""",
    """
bench = bab.bench(
    encoders=["fbank", "hubert:tiny"],
    tasks=["gender"],
    seeds=[0, 1],
    set={"train.steps": 100, "train.batch": 8},
    quiet=True,
)
bench""",
    """All results of a folder as a pandas frame: a line per cell, with its 95 % interval where
there are groups enough for one.""",
    """
frame = bab.table("runs")
frame[["encoder", "label", "metric", "value", "low", "high", "seeds"]].round(3)""",
    """A trained model on a recording: the answer as a value, or as files of the field's
formats.""",
    """
recording = sorted((bab.load("corpus", "rttm").sample / "wav").iterdir())[-1]
model = bab.load(done)
for segment in model(recording).segments[:3]:
    print(f"{segment.start:6.2f} to {segment.end:6.2f} s  {segment.label}")""",
    """
written = bab.predict(done, recording, "predictions", format=["rttm", "eaf"], quiet=True)
sorted(path.name for path in written.out.iterdir() if not path.name.startswith("."))""",
    """An encoder by itself, with all its layers.""",
    """
import torch

encoder = bab.load_encoder("hubert:tiny")
samples = torch.from_numpy(bab.read_audio(recording, 0.0, 2.0, rate=encoder.sample_rate))
states = encoder(bab.Waves(samples[None], torch.tensor([len(samples)])))
encoder.resolved, encoder.sample_rate, len(states.layers), tuple(states.layers[-1].shape)""",
    """A mistake is one message that says what to do.""",
    """
try:
    bab.run(encoder="hubrt", task="vtc")
except bab.BabError as error:
    print(error)""",
)


def joined(outputs: list[Any]) -> list[Any]:
    """Lines of one stream as one output, and frames as text alone."""
    kept: list[Any] = []
    for one in outputs:
        one.get("data", {}).pop("text/html", None)
        if kept and one.output_type == "stream" and kept[-1].get("name") == one.name:
            kept[-1].text += one.text
        else:
            kept.append(one)
    return kept


def main() -> None:
    os.environ["PYTHONWARNINGS"] = "ignore"  # of libraries, about notebooks
    cells = [
        nbformat.v4.new_code_cell(text.strip("\n"), id=f"cell{n}")
        if text.startswith("\n")
        else nbformat.v4.new_markdown_cell(text, id=f"cell{n}")
        for n, text in enumerate(CELLS)
    ]
    book = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(book, timeout=600, kernel_name="python3").execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # times of the day
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    book.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    PLACE.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(PLACE)


if __name__ == "__main__":
    main()
