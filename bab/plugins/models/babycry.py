"""babycry: positive or distressed? CLAP alone, or with AST and wav2vec 2.0, and its linear head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bab import ConfigError, ModelParts, ModelReader, View, WeightsError, read_json, read_tensors

CLASSES = ("distress", "positive")
NOTICE = (
    "babycry is a weak research baseline, not a medical, safety or clinical device: its answer for "
    "a single clip is unreliable and must never decide about the care of a child"
)
WINDOW, HOP = 2.0, 1.0  # seconds


class BabyCry(ModelReader):
    """babycry:DIR, a folder that `bab run --task valence` left: the classifier of
    owlgebra-ai/babycry, trained again.

    Its protocol: each encoder reads the clip at its own rate, in windows of 2 s every 1 s; their
    mean is a vector per clip, and a logistic regression says positive or distress, at .5. The
    default is CLAP alone; ast+wav2vec2+clap is its ensemble. `bab.Predictor("babycry:DIR")` is its
    `predict`: a file, or floats with their sampling rate.

    The page's own weights aren't read: their layout is not documented, and its repository's code
    isn't run. `recipes/babycry-valence.yaml` makes a folder; the name adds the page's notice, and
    refuses a model of another protocol. Research only.
    """

    where = "DIR"
    source = "owlgebra-ai/babycry (Hugging Face hub)"

    def read(self, where: str, *, offline: bool = False, trust_code: bool = False) -> ModelParts:
        """See `ModelReader.read`."""
        if not where:
            raise ConfigError(
                "babycry needs a folder: make one with `bab run recipes/babycry-valence.yaml "
                "--corpus babycry:ROOT` and name it, babycry:RUN"
            )
        folder = Path(where).expanduser().resolve()
        folder = folder / "model" if (folder / "model").is_dir() else folder
        if not (folder / "model.json").is_file():
            raise WeightsError(f"{folder} holds no model.json: name a run of task valence")
        spec = read_json(folder / "model.json")
        _refuse_other(folder, spec)
        encoder = spec["encoder"]
        return ModelParts(
            task="valence",
            labels={"valence": tuple(spec["labels"]["valence"])},
            encoder=f"{encoder['name']}:{encoder['weights']}"
            if encoder.get("weights")
            else encoder["name"],
            encoder_options=encoder["options"],
            head=spec["head"]["name"],
            head_options=spec["head"]["options"],
            tensors=read_tensors(folder / "model.safetensors"),
            layers=spec["layers"],
            view=View(window=WINDOW, hop=HOP, pool="mean"),
            pool=bool(spec["pool"]),
            notices=(NOTICE,),
        )


def _refuse_other(folder: Path, spec: Mapping[str, Any]) -> None:
    """Raises WeightsError: a model that isn't made as babycry's are."""
    try:
        task, view = spec["task"]["name"], spec["view"]
        window, hop, pool = view["window"], view["hop"], view["pool"]
        labels = tuple(spec["labels"].get("valence", ()))
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{folder / 'model.json'} lacks {error}") from error
    if task != "valence" or labels != CLASSES:
        raise WeightsError(f"{folder} is a model of task '{task}', not of valence")
    if (window, hop, pool) != (WINDOW, HOP, "mean"):
        raise WeightsError(
            f"{folder} was made with windows of {window} s every {hop} s (pool {pool}); babycry's "
            f"are of {WINDOW:g} s every {HOP:g} s, averaged"
        )
