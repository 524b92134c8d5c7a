"""The code that a model card prints. Each is a whole program; the tests run it as printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LOAD = """\
import soundfile
import soxr
import torch
from transformers import {feeder}, {auto}

NAME = "{name}"{where}
{variable} = {feeder}.from_pretrained(NAME)
model = {auto}.from_pretrained(NAME).eval()


def read(path):  # mono, at the rate that the model was trained at
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(audio.mean(axis=1), rate, {sample_rate})

"""
_WINDOWS = """
audio, logits = read("recording.wav"), []
for start in range(0, max(1, len(audio) - {field}), {step}):  # in windows, as it was trained
    part = audio[start : start + {window}]
    inputs = extractor(part, sampling_rate={sample_rate}, return_tensors="pt")
    with torch.no_grad():
        logits.append(model(**inputs).logits[0])
"""
_FRAMES = """
# Of preset {preset}, chosen on dev.
THRESHOLDS = {thresholds}
shares = torch.cat(logits).sigmoid()
for number, label in model.config.id2label.items():
    seconds = (shares[:, number] >= THRESHOLDS[label]).sum().item() * {hop} / {sample_rate}
    print(f"{{label}}: {{seconds:.1f}} s")
"""
_CLIP = """
mean = torch.stack(logits).mean(dim=0)
first = 0
for kind, count in {groups}.items():
    for number, share in enumerate(mean[first : first + count].softmax(dim=0).tolist(), first):
        print(f"{{kind}}: {{model.config.id2label[number]}} {{share:.3f}}")
    first += count
"""
_PAIR = """
vectors = []
for path in ("first.wav", "second.wav"):
    part = extractor(read(path), sampling_rate={sample_rate}, return_tensors="pt")
    with torch.no_grad():
        vectors.append(model(**part).embeddings[0])
print("cosine", torch.cosine_similarity(*vectors, dim=0).item())  # higher: more alike
"""
_TEXT = """
part = processor(read("recording.wav"), sampling_rate={sample_rate}, return_tensors="pt")
with torch.no_grad():
    ids = model(**part).logits.argmax(dim=-1)
print(processor.batch_decode(ids)[0])
"""
_STATES = """
part = extractor(read("recording.wav"), sampling_rate={sample_rate}, return_tensors="pt")
with torch.no_grad():
    states = model(**part).last_hidden_state  # [1, frames, dimensions], {hop} samples apart
print(tuple(states.shape))
"""
_GRAPH = """\
import onnxruntime
import soundfile
import soxr

session = onnxruntime.InferenceSession("model.onnx")
audio, rate = soundfile.read("recording.wav", dtype="float32", always_2d=True)
samples = soxr.resample(audio.mean(axis=1), rate, {sample_rate})[None]  # [batch, samples]
{call}
"""


def of_transformers(auto: str, about: Mapping[str, Any], name: str) -> str:
    """A program for a folder of transformers. name: owner/name on the hub, or "" = a folder."""
    text = auto == "AutoModelForCTC"
    facts = {
        **about,
        "auto": auto,
        "name": name or ".",
        "where": "" if name else "  # this folder",
        "feeder": "AutoProcessor" if text else "AutoFeatureExtractor",
        "variable": "processor" if text else "extractor",
    }
    if about.get("level") == "frame":
        tuned = about["presets"][about["preset"]]["thresholds"]
        facts["thresholds"] = {key: round(value, 4) for key, value in tuned.items()}
    if about.get("level") == "clip":
        facts["groups"] = {kind: len(names) for kind, names in about["labels"].items()}
    parts = {
        "AutoModelForAudioFrameClassification": _WINDOWS + _FRAMES,
        "AutoModelForAudioClassification": _WINDOWS + _CLIP,
        "AutoModelForAudioXVector": _PAIR,
        "AutoModelForCTC": _TEXT,
    }
    return (_LOAD + parts.get(auto, _STATES)).format(**facts)


def of_script(level: str) -> str:
    """Commands for a folder with label.py."""
    target = "recording.rttm" if level == "frame" else "labels.csv"
    return f"pip install -r requirements.txt\npython label.py recording.wav > {target}\n"


def of_graph(about: Mapping[str, Any], head: bool) -> str:
    """A program for a graph: of an encoder, or with a head whose logits are decoded elsewhere."""
    feed, first = '"samples": samples', '"first": np.zeros(1, np.int64)'
    call = f"""(states,) = session.run(["last"], {{{feed}}})  # "layers": all layers
print(states.shape)  # (1, frames, dimensions), {about["hop"]} samples apart"""
    if about.get("level") == "pair":
        call = f"""(vectors,) = session.run(None, {{{feed}}})
print(vectors.shape)  # (1, dimensions); two recordings are compared by the cosine"""
    elif head:
        more = f", {first}" if about["level"] == "clip" else ""
        call = f"""(logits,) = session.run(None, {{{feed}{more}}})
print(logits.shape)"""
    lead = "import numpy as np\n" if first in call else ""
    return lead + _GRAPH.format(**about, call=call)
