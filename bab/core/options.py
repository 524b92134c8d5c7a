"""Options as pydantic models: of every component, and of the optimisation."""

from __future__ import annotations

from abc import ABCMeta
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt


class Options(BaseModel):
    """Base of every component's options: strict and frozen; `Field(description=)` explains each."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Contract(ABCMeta):
    """`help` of a contract shows it, and not the thousand lines of `nn.Module` below it."""

    def __dir__(cls) -> list[str]:
        known = super().__dir__()  # what derives from a contract keeps all of its names
        return [n for n in known if not cls.__module__.startswith("bab.core") or n in vars(cls)]


class Component(metaclass=Contract):
    """What every component declares about itself, for `bab info`."""

    Options: ClassVar[type[Options]] = Options
    source: ClassVar[str] = ""  # the paper or code that it follows


Fraction = Annotated[float, Field(ge=0, lt=1)]


class Strict(BaseModel):
    """Unknown keys and wrong types are refused; values don't change once built."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TrainConfig(Strict):
    """The optimisation: AdamW on the sum of a step's terms, divided once by their counts."""

    steps: PositiveInt = Field(default=500, description="optimizer steps")
    batch: PositiveInt = Field(
        default=16, description="examples per optimizer step, over all processes and micro-batches"
    )
    accumulation: PositiveInt = Field(
        default=1, description="micro-batches that a step is cut into"
    )
    lr: PositiveFloat = Field(default=1e-3, description="peak learning rate")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=0.01, description="AdamW's weight decay"
    )
    betas: tuple[Fraction, Fraction] = Field(default=(0.9, 0.999), description="AdamW's betas")
    eps: PositiveFloat = Field(default=1e-8, description="AdamW's epsilon")
    clip: PositiveFloat | None = Field(
        default=1.0, description="largest gradient norm; null = no clipping"
    )
    schedule: Literal["constant", "linear", "cosine", "tri-stage"] = Field(
        default="constant",
        description="learning rate after the warm-up; linear and cosine end at 0; tri-stage holds "
        "it for `hold` steps, then decays exponentially to 1 %",
    )
    warmup: NonNegativeInt = Field(default=0, description="steps of linear warm-up")
    hold: NonNegativeInt = Field(default=0, description="tri-stage: steps at the peak")
    eval_every: PositiveInt = Field(default=100, description="steps between evaluations on dev")
    save_every: PositiveInt = Field(default=100, description="steps between checkpoints")
    save_minutes: PositiveFloat = Field(
        default=10.0, description="minutes of training after which one is due in any case"
    )
    patience: PositiveInt | None = Field(
        default=None,
        description="stop after so many evaluations without a better one; null = never",
    )
    workers: PositiveInt = Field(
        default=1, description="threads that read batches ahead; the batches are the same"
    )
    precision: Literal["auto", "fp32", "tf32", "fp16", "bf16"] = Field(
        default="auto",
        description="arithmetic; auto: bf16 on a GPU that has it, else fp32; refused where the "
        "device only gets slower",
    )
    deterministic: bool = Field(
        default=False, description="on a GPU, the same bits each time, at the cost of speed"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="fine-tuning: learning rate of each layer over that of the layer above",
    )
