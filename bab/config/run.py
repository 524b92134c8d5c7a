"""The keys of a run, their types and defaults: strict pydantic models, each key explained.

`bab.config.resolve` builds a `RunConfig` from recipe, files and command line.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat

from bab.core import names
from bab.core.options import Strict, TrainConfig
from bab.core.types import View


class ComponentConfig(Strict):
    """A head, objective or task: written as its name, or as {name: NAME, OPTION: VALUE}."""

    name: str = Field(min_length=1, description="the component's name (`bab list`)")
    options: dict[str, Any] = Field(
        default={}, description="its options, all of them once resolved"
    )


class EncoderConfig(ComponentConfig):
    """An encoder: written NAME or NAME:WEIGHTS, or {name: NAME, weights: ..., OPTION: VALUE}."""

    weights: str = Field(
        default="", description="named weights, a folder or a hub id; the encoder's own"
    )

    @property
    def spec(self) -> str:
        """As a person types it: `hubert:random-tiny`."""
        return f"{self.name}:{self.weights}" if self.weights else self.name

    @cached_property
    def members(self) -> tuple[EncoderConfig, ...]:
        """The encoders of an ensemble, each with the options under its name; of any other, itself
        alone."""
        named = names.members(self.name)
        if len(named) == 1:
            return (self,)
        return tuple(
            EncoderConfig(name=one.name, weights=one.weights, options=self.options[one.name])
            for one in named
        )

    @property
    def fusion(self) -> str:
        """How an ensemble's members are joined: concat or late; "" of a single encoder."""
        return str(self.options["fusion"]) if len(self.members) > 1 else ""


class CorpusConfig(ComponentConfig):
    """A corpus: written NAME or NAME:ROOT, or {name: NAME, root: ..., OPTION: VALUE}."""

    root: str | None = Field(
        default=None, description="its folder; null = the sample shipped with bab"
    )


class ViewConfig(Strict):
    """What one example is."""

    window: PositiveFloat | None = Field(default=None, description="seconds; null = the whole clip")
    hop: PositiveFloat | None = Field(
        default=None, description="seconds between windows at inference; null = the windows tile"
    )
    crop: bool = Field(
        default=False, description="fine-tune on random windows, not on a fixed raster"
    )

    context: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="seconds of audio added on each side of a clip; its frames alone count",
    )
    train_seconds: PositiveFloat | None = Field(
        default=None, description="cut longer clips to this in training, at a random place"
    )
    train_minimum: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="seconds: clips no longer than this are not trained on"
    )
    pool: Literal["frames", "mean"] = Field(
        default="frames", description="mean: the head gets the mean over a clip's frames"
    )
    tail: Literal["back", "short"] = Field(
        default="back", description="the last window: moved back to fit, or shorter (VTC 2)"
    )

    def view(self) -> View:
        return View(**self.model_dump())


class CacheConfig(Strict):
    """Features of a frozen encoder, kept on disk."""

    dir: str | None = Field(default=None, description="folder; null = the user's cache folder")
    budget_gb: Annotated[float, Field(ge=0)] = Field(
        default=20.0, description="most gigabytes to keep; what is over is recomputed"
    )
    dtype: Literal["auto", "float32", "float16"] = Field(
        default="auto",
        description="how features are kept; auto: float16 where float32 would take more than "
        "1 MB per second of audio, as all layers of a base model do",
    )


class RunConfig(Strict):
    """One run, fully resolved."""

    encoder: EncoderConfig = Field(description="encoder[:weights]")
    task: ComponentConfig = Field(description="what is learned and how it is scored")
    corpus: CorpusConfig = Field(description="corpus[:root]; default: the task's")
    head: ComponentConfig = Field(description="the map from frames to outputs; default: the task's")
    objective: ComponentConfig = Field(description="the loss; default: the task's")
    view: ViewConfig = Field(
        default=ViewConfig(), description="what one example is; default: the task's"
    )
    model: str | None = Field(
        default=None,
        description="begin from this trained model, or evaluate it: a run's folder, or a "
        "published one (`bab list models`)",
    )
    mode: Literal["probe", "finetune", "evaluate"] = Field(
        default="probe",
        description="probe: frozen encoder, cached features; finetune: train it too; evaluate: "
        "train nothing, score `model` as it is",
    )
    tune: Literal["model", "dev"] = Field(
        default="model",
        description="evaluate: thresholds as the model brings them, or chosen anew on dev",
    )
    freeze: Literal["none", "conv", "all"] = Field(
        default="conv",
        description="what stays fixed in finetune mode (none, where the weights are random)",
    )
    layers: Literal["mix", "last"] | NonNegativeInt = Field(
        default="mix",
        description="the encoder's states: softmax-weighted sum, the last, or one by number",
    )
    test_corpus: CorpusConfig | None = Field(
        default=None, description="test on this corpus[:root] instead; null = the same corpus"
    )
    test_names: Literal["same", "distinct"] = Field(
        default="same",
        description="is a group or speaker of the test corpus with a name of the other one the "
        "same person, which is leakage? distinct: no, names meet by chance",
    )
    protocol: Literal["given", "kfold", "leave-one-group-out", "clip-kfold"] = Field(
        default="given",
        description="the corpus's own splits, k folds over groups, a fold for each group, or k "
        "folds clip by clip (leakage, where clips share a group)",
    )
    allow_leakage: bool = Field(
        default=False,
        description="test on speakers, groups or recordings that were trained on; records and "
        "tables are marked",
    )
    folds: Annotated[int, Field(ge=3)] = Field(
        default=6, description="folds of protocols kfold and clip-kfold"
    )
    seed: NonNegativeInt = Field(default=0, description="of weights, order, crops and dropout")
    train: TrainConfig = Field(default=TrainConfig(), description="the optimisation")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="auto: cuda, mps, cpu, the first there is"
    )
    skip_bad: bool = Field(default=False, description="leave out unreadable audio, and count it")
    offline: bool = Field(default=False, description="never ask a hub")
    trust_code: bool = Field(default=False, description="let code from a model's repository run")
    cache: CacheConfig = Field(default=CacheConfig(), description="features of a frozen encoder")
    runs: str = Field(default="runs", min_length=1, description="folder of all runs")
    observers: tuple[str, ...] = Field(
        default=("progress", "jsonl"), description="who watches the run (`bab list observers`)"
    )
    quiet: bool = Field(default=False, description="progress as a few plain lines")

    def identity(self) -> dict[str, Any]:
        """Everything that may change the result: what a run's id is hashed over.

        Left out: where it runs, who watches, where files are kept, how often it is saved, and
        permissions; and in probe mode what only fine-tuning reads.
        """
        whole = self.model_dump(mode="json")
        for key in ("device", "runs", "observers", "quiet", "offline", "trust_code"):
            del whole[key]
        whole["cache"] = {"dtype": self.cache.dtype} if self.mode == "probe" else {}
        for key in ("save_every", "save_minutes", "workers"):
            del whole["train"][key]
        if not self.train.deterministic:  # as all runs were before there was a choice
            del whole["train"]["deterministic"]
        if self.view.tail == "back":  # as all runs had it before there was a choice
            del whole["view"]["tail"]
        del whole["model"]  # its digest counts, wherever it lies
        if self.mode != "evaluate":
            del whole["tune"]
        else:  # what trains
            del whole["train"], whole["seed"], whole["objective"], whole["freeze"]
        if self.mode == "probe":
            del whole["freeze"], whole["train"]["layer_decay"]
        if "kfold" not in self.protocol:
            del whole["folds"]
        if self.test_corpus is None:
            del whole["test_corpus"], whole["test_names"]
        if not self.allow_leakage:
            del whole["allow_leakage"]
        return whole

    @property
    def rounds(self) -> str:
        """The protocol with its number of folds, as records have it: `kfold-6`."""
        return f"{self.protocol}-{self.folds}" if "kfold" in self.protocol else self.protocol

    @property
    def corpus_name(self) -> str:
        """`rttm`, or `rttm→childproject` where another corpus is tested on."""
        return "→".join(c.name for c in (self.corpus, self.test_corpus) if c is not None)
