"""What an encoder was pretrained on: the digests of the audio files, beside its weights.

A run compares them with the files that it tests on. They are of whole files, byte for byte: of a
file that was cut, converted or prepared into shards nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bab.core.atomic import write_json
from bab.core.weights import WeightsError, read_json

HEARD = "heard.json"
_DIGEST = re.compile(r"[0-9a-f]{32}")


def write_heard(folder: Path, digests: Iterable[str]) -> None:
    """Write the list into an encoder's folder, atomically. digests: as `content_id` gives them."""
    listed = sorted(set(digests))
    write_json(folder / HEARD, {"format": 1, "digest": "blake2b-128 of a file", "files": listed})


def heard_by(resolved: str) -> frozenset[str]:
    """The digests of the files that an encoder was pretrained on; none where it doesn't say.

    resolved: its `resolved`, NAME:FOLDER of one on this machine.

    Raises:
        WeightsError: naming the list, where it is damaged.
    """
    path = Path(resolved.partition(":")[2]) / HEARD
    if not path.is_absolute() or not path.is_file():
        return frozenset()
    listed = read_json(path).get("files")
    if not isinstance(listed, list) or not all(_DIGEST.fullmatch(str(one)) for one in listed):
        raise WeightsError(
            f"{path}: is no list of digests, of what the encoder heard: export it again, or remove "
            "the file (nothing is then known of what it heard)"
        )
    return frozenset(map(str, listed))
