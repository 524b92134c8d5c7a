"""Writing the files of made-up corpora."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import soundfile

from sampling.voices import Audio

BLOCK = 4096  # frames a write: libvorbis overflows its stack on one huge write


def write_audio(path: Path, sound: Audio, rate: int, subtype: str = "PCM_16") -> None:
    """Write f64[samples, channels] in blocks, in the format of the name.

    Ogg Vorbis at a quality of about 30 kbit/s for 16 kHz mono, Opus and MP3 small.
    `subtype` is for wav and flac.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".ogg":
        level = {"compression_level": 0.75, "subtype": "VORBIS"}
    elif path.suffix == ".opus":
        level = {"compression_level": 0.97, "subtype": "OPUS", "format": "OGG"}
    elif path.suffix == ".mp3":
        # A constant bit rate: a variable one is rounded differently by each processor.
        level = {"compression_level": 0.95, "bitrate_mode": "CONSTANT"}
    else:
        level = {"subtype": subtype}
    with soundfile.SoundFile(path, "w", rate, sound.shape[1], **level) as file:
        for start in range(0, len(sound), BLOCK):
            file.write(sound[start : start + BLOCK])


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Lines to a file, ended alike on every system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def write_csv(path: Path, header: str, rows: Iterable[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)
