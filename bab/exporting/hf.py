"""A folder that transformers loads with the right Auto class, and that says what the run says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bab.core.atomic import write_json
from bab.core.errors import BabError, NotApplicableError
from bab.core.interfaces import Encoder
from bab.core.sealed import write_tensors
from bab.exporting.source import Source, said, sound
from bab.exporting.tokens import write_tokenizer
from bab.running.saved import Saved

# transformers' classes end with these; the Auto class that finds them by config.json.
AUTO = {
    "": "AutoModel",
    "ForAudioFrameClassification": "AutoModelForAudioFrameClassification",
    "ForSequenceClassification": "AutoModelForAudioClassification",
    "ForXVector": "AutoModelForAudioXVector",
    "ForCTC": "AutoModelForCTC",
}
_OFF = -1e4  # a layer's logit whose softmax is exactly 0 in float32
_LIMIT = 1e-5  # of the outputs' size: how far transformers may be from the run's own model
_EXTRACTOR = "preprocessor_config.json"


def write(folder: Path, source: Source, encoder_only: bool) -> tuple[str, list[str]]:
    """Write config, weights, feature extractor and tokenizer. Returns the Auto class, and notices.

    Raises:
        BabError: transformers has no place for a part of the model, which is named.
    """
    notices: list[str] = []
    members = len(source.saved.members) if source.saved else 1
    if members > 1:
        raise NotApplicableError(f"a fusion of {members} encoders")
    if type(source.encoder).export is Encoder.export:
        raise NotApplicableError(f"encoder {source.encoder.resolved.partition(':')[0]}")
    source.encoder.export(folder, {} if source.saved else source.encoder.extras())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if source.saved is None or encoder_only:
        ending = ""
    else:
        ending = _with_head(folder, source.saved, config, notices)
    _check(folder, source, ending)
    return AUTO[ending], notices


def _with_head(folder: Path, saved: Saved, config: dict[str, Any], notices: list[str]) -> str:
    """Rewrite an encoder's folder as the task model's. Returns the ending of its class."""
    head: Any = saved.model.head
    if not hasattr(head, "as_transformers"):
        raise NotApplicableError(f"head {saved.spec['head']['name']}")
    ending, keys, tensors = head.as_transformers()
    mixed, weights = _layers(saved, ending, bool(config.get("do_stable_layer_norm")))
    cls = _class(config, ending, notices)
    prefix = f"{config['model_type']}."
    body = load_file(folder / "model.safetensors")
    whole = {prefix + name: tensor for name, tensor in body.items()} | dict(tensors) | weights
    config |= {**keys, **_labels(saved, ending), "architectures": [cls]}
    config["use_weighted_layer_sum"] = mixed
    write_tensors(folder / "model.safetensors", whole, "model", format="pt")
    write_json(folder / "config.json", config)
    if ending == "ForCTC":
        extractor = json.loads((folder / _EXTRACTOR).read_text(encoding="utf-8"))
        write_json(folder / _EXTRACTOR, {**extractor, "processor_class": "Wav2Vec2Processor"})
        notices += write_tokenizer(folder, saved)
    return str(ending)


def holds(saved: Saved) -> bool:
    """Whether transformers has a place for a run's head, as far as head and layers say."""
    head: Any = saved.model.head
    try:
        _layers(saved, head.as_transformers()[0], False)
    except (AttributeError, NotApplicableError):
        return False
    return True


def _layers(saved: Saved, ending: str, stable: bool) -> tuple[bool, dict[str, Tensor]]:
    """Whether layers are summed by weights, and these: softmax logits, as bab's mix has them. One
    layer below the last is a sum in which the others weigh 0. stable: the layers' norms stand
    before them, and one after the last; transformers sums the last state before that norm, bab
    after it."""
    mix, depth = saved.model.mix, saved.encoder.depth
    if hasattr(mix, "logits"):
        if stable:
            raise NotApplicableError(
                "layers mix over an encoder with do_stable_layer_norm, whose last state it takes "
                "before the final norm"
            )
        weights = mix.logits.detach().clone()
    else:
        wanted = depth - 1 if isinstance(mix.layers, str) else mix.layers % depth
        if wanted == depth - 1:
            return False, {}
        weights = torch.full((depth,), _OFF)
        weights[wanted] = 0.0
    if ending == "ForCTC":
        raise NotApplicableError(
            f"layers {mix.layers} under a CTC head, which reads the last layer alone there"
        )
    return True, {"layer_weights": weights}


def _class(config: dict[str, Any], ending: str, notices: list[str]) -> str:
    """The name of transformers' class. HuBERT has no frame or x-vector head there; its network is
    wav2vec 2.0's, which has both, so the folder becomes one of wav2vec 2.0."""
    import transformers

    family = config["architectures"][0].removesuffix("Model")
    if hasattr(transformers, family + ending):
        return str(family + ending)
    same = config.get("feat_proj_layer_norm", True) and not config.get("conv_pos_batch_norm")
    if config["model_type"] != "hubert" or not same:
        raise NotApplicableError(f"{family}{ending}, a class that it doesn't have")
    config["model_type"] = "wav2vec2"
    notices.append(
        f"transformers has no Hubert{ending}: HuBERT's network is wav2vec 2.0's, so the folder is "
        f"a Wav2Vec2{ending} with the same weights and outputs"
    )
    return f"Wav2Vec2{ending}"


def _labels(saved: Saved, ending: str) -> dict[str, Any]:
    """`id2label` and what kind of answer the logits are. Speakers of the training data stay out."""
    if ending not in ("ForAudioFrameClassification", "ForSequenceClassification"):
        return {}
    several = len(saved.labels) > 1
    names = [f"{k}={n}" if several else n for k, group in saved.labels.items() for n in group]
    many = several or ending == "ForAudioFrameClassification"
    kind = "multi_label_classification" if many else "single_label_classification"
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": kind,
    }


def _check(folder: Path, source: Source, ending: str) -> None:
    """Load the folder as others will, and compare. Raises BabError: it says something else."""
    import transformers

    rate = source.encoder.sample_rate
    with quiet():
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
        auto = getattr(transformers, AUTO[ending])
        model, told = auto.from_pretrained(folder, output_loading_info=True)
        wave = sound(1.5, rate)
        given = extractor(wave.numpy(), sampling_rate=rate, return_tensors="pt")
        with torch.no_grad():
            out = model.eval()(**given)
    if told["missing_keys"]:
        raise BabError(f"the exported folder lacks tensors: {sorted(told['missing_keys'])[:3]}")
    own = said(source, wave[None], bool(ending))
    theirs = {"last": out.last_hidden_state} if not ending else {"logits": out.logits}
    if "embeddings" in own:
        theirs["embeddings"] = out.embeddings
    for name, value in theirs.items():
        refuse_different(name, own[name], value, _LIMIT, "transformers")


def refuse_different(name: str, own: Tensor, other: Tensor, limit: float, who: str) -> None:
    """Raises BabError: two outputs differ by more than `limit` times their size (at least 1)."""
    size = max(1.0, float(own.abs().max()))
    apart = float((own - other).abs().max()) if own.shape == other.shape else float("inf")
    if not apart <= limit * size:
        raise BabError(
            f"{who} gives other {name} than the run's model (apart by {apart:.2g}): nothing was "
            "written; please report it with the run's model.json"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its bars and warnings, as it was afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
