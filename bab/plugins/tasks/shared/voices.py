"""The four voices of a family's recording, and what can be set of how they are found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from bab import did_you_mean
from bab.kit import FrameOptions

VOICES = ("KCHI", "OCH", "MAL", "FEM")


class VoiceTypeOptions(FrameOptions):
    """What can be set under `task`."""

    classes: tuple[str, ...] = Field(VOICES, description="voices to find, of KCHI OCH MAL FEM")
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
