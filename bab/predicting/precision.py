"""Which precision `auto` means, for a model and a machine."""

from __future__ import annotations

from bab.core.device import refuse_precision
from bab.core.errors import ConfigError, did_you_mean

# What has been shown on a CPU with bf16 units: no voice's F1 moved by more than .0004, on 18 scenes
# of 10 min (docs/predict.md). Encoder and task; what isn't here stays in single precision.
_SHOWN = {("hubert:tiny", "vtc")}
CHOICES = ("auto", "fp32", "bf16", "fp16")


def chosen(asked: str, device: str, encoder: str, task: str, before: str = "") -> str:
    """The precision that is meant.

    Args:
        asked: one of `CHOICES`; auto: half precision where the device computes in it and scores
            have been shown to stay within .002.
        encoder, task: as the model's record names them.
        before: in which this model has begun the folder, on this device; "" = not yet.

    Raises:
        ConfigError: none of them, or one that is only slower here.
    """
    if asked not in CHOICES:
        raise ConfigError(f"precision '{asked}': {did_you_mean(asked, CHOICES)}")
    if asked != "auto":
        refuse_precision(device, asked)
        return asked
    shown = device == "cpu" and (encoder, task) in _SHOWN
    wanted = before or ("bf16" if shown else "fp32")
    try:
        refuse_precision(device, wanted)
    except ConfigError:
        return "fp32"
    return wanted
