"""The four voices of a family's recording, and what can be set of how they are found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

import bab
from bab import did_you_mean

VOICES = ("KCHI", "OCH", "MAL", "FEM")


class VoiceTypeOptions(bab.Options):
    """What can be set under `task`."""

    classes: tuple[str, ...] = Field(VOICES, description="voices to find, of KCHI OCH MAL FEM")
    fill_gaps: float = Field(
        0.1, ge=0.0, description="seconds: shorter gaps within a voice are closed (VTC 2: .1)"
    )
    min_segment: float = Field(
        0.1, ge=0.0, description="seconds: shorter segments are dropped (VTC 2: .1)"
    )
    recall_floor: float = Field(
        0.5,
        gt=0.0,
        le=1.0,
        description="recall that the preset high-precision must reach on dev; where no threshold "
        "as high as that of the best F1 does, it keeps that one, and says so",
    )

    convention: Literal["bab", "segma"] = Field(
        "bab",
        description="segma: also the preset and metric of the published script (docs/protocols.md)",
    )

    @field_validator("classes")
    @classmethod
    def _known(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        """The head's order is always that of VOICES."""
        for name in classes:
            if name not in VOICES:
                raise ValueError(f"no voice is called {name!r}: {did_you_mean(name, VOICES)}")
        if not classes:
            raise ValueError(f"at least one voice of {', '.join(VOICES)} is needed")
        return tuple(name for name in VOICES if name in classes)
