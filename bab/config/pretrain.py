"""The keys of a pretraining run: as in `bab.core.schema`, strict, each explained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from bab.config.run import ComponentConfig, CorpusConfig, EncoderConfig
from bab.core.options import Strict, TrainConfig


class AudioConfig(Strict):
    """Which stretches of the recordings are trained on."""

    crop: PositiveFloat | None = Field(
        default=8.0,
        description="seconds drawn at random from longer clips; null = clips as they are",
    )
    per_clip: PositiveInt | None = Field(
        default=None,
        description="crops of each clip and epoch; null = as many as would cover it",
    )
    minimum: PositiveFloat = Field(
        default=1.0, description="seconds: shorter clips are left out, and counted"
    )
    rms: Annotated[float, Field(ge=0)] = Field(
        default=0.001, description="crops quieter than this are drawn again; 0 = all are taken"
    )
    retries: NonNegativeInt = Field(
        default=10, description="how often; the last draw is taken as it is"
    )


class MaskConfig(Strict):
    """Which frames are hidden."""

    prob: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.65, description="share of frames hidden, if no two spans overlapped"
    )
    length: PositiveInt = Field(default=10, description="frames of a span")
    minimum: PositiveInt = Field(default=2, description="spans that each example has at least")
    overlap: bool = Field(default=True, description="spans may overlap, as published")


class PretrainTrain(TrainConfig):
    """The optimisation of a pretraining run."""

    steps: PositiveInt = Field(default=50_000, description="optimizer steps")
    seconds: PositiveFloat | None = Field(
        default=None,
        description="audio per optimizer step, over all processes and micro-batches; clips of like "
        "length together; null = `batch` examples",
    )
    micro_seconds: PositiveFloat | None = Field(
        default=None,
        description="most audio of a micro-batch, for the memory of one GPU: `accumulation` is "
        "raised until it fits, whatever the number of processes; null = as `accumulation` says",
    )
    lr: PositiveFloat = Field(default=5e-4, description="peak learning rate")
    eval_every: PositiveInt = Field(default=1000, description="steps between dev losses")
    save_every: PositiveInt = Field(default=1000, description="steps between checkpoints")


class TargetsConfig(Strict):
    """Frame labels (`bab targets`), for objectives that need them."""

    folder: str | None = Field(
        default=None, description="what `bab targets --out` made; null = made before the run"
    )
    encoder: str | None = Field(
        default=None, description="what is clustered then: mfcc, or NAME[:WEIGHTS] of an encoder"
    )
    layer: NonNegativeInt | None = Field(default=None, description="of that encoder")
    clusters: PositiveInt = Field(default=100, description="how many")
    sample_hours: PositiveFloat = Field(default=20.0, description="audio that k-means is fitted on")


class ProbeConfig(Strict):
    """A quick downstream run now and then, so that the loss means something."""

    every: PositiveInt | None = Field(default=None, description="steps between; null = never")
    task: str = Field(default="vtc", description="what is probed")
    corpus: str | None = Field(default=None, description="corpus[:root]; null = the task's")
    sets: tuple[str, ...] = Field(
        default=("train.steps=200",), description="KEY=VALUE as for `bab run --set`"
    )


class PretrainConfig(Strict):
    """One pretraining run, fully resolved."""

    encoder: EncoderConfig = Field(description="encoder[:weights]; `random` weights begin afresh")
    objective: ComponentConfig = Field(
        description="a loss that learns from audio alone (`bab info NAME`), with its options"
    )
    corpus: CorpusConfig = Field(description="corpus[:root] with the audio; labels are not read")
    also: tuple[str, ...] = Field(default=(), description="further corpora, NAME[:ROOT]")
    audio: AudioConfig = Field(default=AudioConfig(), description="which stretches of it")
    mask: MaskConfig = Field(default=MaskConfig(), description="what is hidden")
    targets: TargetsConfig = Field(default=TargetsConfig(), description="frame labels")
    use: Literal["train", "all"] = Field(
        default="train",
        description="of a corpus that names no splits: `train`, what `bab run` would train on "
        "(60 %, by group), so that its test stays unseen; `all`, all but dev_share",
    )
    dev_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="of the groups, for dev, where there is no dev split"
    )
    dev_seconds: PositiveFloat = Field(
        default=600.0, description="most audio of dev that a dev loss is measured on"
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description="the weights exported: the last, or those of the lowest dev loss",
    )
    freeze: Literal["none", "conv"] = Field(default="none", description="what stays fixed")
    export_dtype: Literal["float32", "float16"] = Field(
        default="float32", description="of the exported weights"
    )
    seed: NonNegativeInt = Field(default=0, description="of weights, order, crops, masks, noise")
    train: PretrainTrain = Field(default=PretrainTrain(), description="the optimisation")
    probe: ProbeConfig = Field(default=ProbeConfig(), description="a quick downstream run")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="auto: cuda, mps, cpu, the first there is"
    )
    skip_bad: bool = Field(default=False, description="leave out unreadable audio, and count it")
    offline: bool = Field(default=False, description="never ask a hub")
    trust_code: bool = Field(default=False, description="let code from a model's repository run")
    runs: str = Field(default="runs", min_length=1, description="folder of all runs")
    observers: tuple[str, ...] = Field(
        default=("progress", "jsonl"), description="who watches the run (`bab list observers`)"
    )
    quiet: bool = Field(default=False, description="progress as a few plain lines")

    def identity(self) -> dict[str, Any]:
        """What a run's id is hashed over: all that may change the weights."""
        whole = self.model_dump(mode="json")
        for key in ("device", "runs", "observers", "quiet", "offline", "trust_code", "probe"):
            del whole[key]
        for key in ("save_every", "save_minutes", "workers"):
            del whole["train"][key]
        for key in ("micro_seconds", "deterministic"):  # as all runs were before there was a choice
            if not whole["train"][key]:
                del whole["train"][key]
        del whole["targets"]
        del whole["corpus"]["root"], whole["also"]
        whole["hear"] = whole.pop("use")  # as it was called in ids from the first
        return whole
