"""Make the small corpora that ship with bab: `bab/plugins/datasets/samples/`.

    python scripts/make_samples.py [--out FOLDER] [--seed N] [--only NAME ...]

Needs espeak-ng on the path. All sound is synthetic. The same seed gives the same labels, byte for
byte, and the same sound as far as the codecs repeat themselves, with the same espeak-ng.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import soxr
from sampling.cries import make_donateacry, make_esc50, make_recanvo
from sampling.files import write_audio, write_csv, write_text
from sampling.homes import Turn, converse, render
from sampling.reading import (
    make_commonvoice,
    make_kaldi,
    make_librispeech,
    make_manifest,
    make_voxceleb,
)
from sampling.voices import RATE, Audio, Voice, cast

SAMPLES = Path(__file__).resolve().parent.parent / "bab" / "plugins" / "datasets" / "samples"


@dataclass(frozen=True)
class Home:
    """A recording to make: who lives there, and how it is written."""

    name: str
    split: str
    kinds: tuple[str, ...] = ("KCHI", "OCH", "MAL", "FEM")
    seconds: float = 60.0
    form: str = "ogg"
    rate: int = RATE
    channels: int = 1


HOMES = (
    Home("home01", "train"),
    Home("home02", "train", ("KCHI", "OCH", "MAL", "FEM", "FEM")),
    Home("home03", "train", ("KCHI", "OCH", "OCH", "MAL", "FEM")),
    Home("home04", "train", rate=44100, channels=2),
    Home("home05", "train", seconds=40.0, form="flac"),
    Home("home06", "train", seconds=30.0, form="wav", rate=8000),
    Home("home07", "dev"),
    Home("home08", "dev", ("KCHI", "OCH", "MAL", "MAL", "FEM")),
    Home("home09", "test"),
    Home("home10", "test", ("KCHI", "OCH", "OCH", "MAL", "FEM")),
)

CHILDREN = (  # child_id, sex, date of birth, language
    ("C01", "f", "2021-03-04", "spa"),
    ("C02", "m", "2021-07-19", "swh"),
    ("C03", "f", "2020-11-30", "fin"),
)

DAYS = (  # child's folder, with or without a date of birth; date; start; format; seconds
    ("AMIT120323", "20240611", "1718085600", "WAV", 8.0),
    ("DIYA", "20240702", "1719900000", "opus", 24.0),
    ("DIYA", "20240703", "1719986400", "opus", 20.0),
    ("KABI051123", "20240815", "1723701600", "opus", 24.0),
    ("TARA", "20240901", "1725170400", "opus", 24.0),
)


def people(home: str, kinds: Iterable[str], draw: random.Random) -> list[Voice]:
    """One voice for each of `kinds`, named like home01-FEM2."""
    voices: list[Voice] = []
    for kind in kinds:
        number = 1 + sum(voice.kind == kind for voice in voices)
        voices.append(cast(f"{home}-{kind}{number}", kind, draw))
    return voices


def record(home: Home, seed: int) -> tuple[list[Voice], list[Turn], Audio]:
    """Who is in a home, what they say, and what the recorder hears (f64[samples, channels])."""
    draw = random.Random(f"{seed} {home.name}")
    voices = people(home.name, home.kinds, draw)
    turns = converse(voices, home.seconds, draw)
    sound = render(turns, home.seconds, home.channels, draw)
    if home.rate != RATE:
        sound = np.asarray(soxr.resample(sound, RATE, home.rate))
    return voices, turns, np.clip(sound, -0.99, 0.99)


def rttm_line(uri: str, turn: Turn) -> str:
    start, length = turn.start / 1000, turn.length / 1000
    return f"SPEAKER {uri} 1 {start:.3f} {length:.3f} <NA> <NA> {turn.voice.kind} <NA> <NA>"


def make_rttm(root: Path, seed: int) -> None:
    """The corpus of layout `rttm`: wav/ rttm/ uem/ and split lists, as pyannote and segma use."""
    owners = []
    for home in HOMES:
        voices, turns, sound = record(home, seed)
        turns = sorted(turns, key=lambda turn: (turn.start, turn.voice.name))
        write_audio(root / "wav" / f"{home.name}.{home.form}", sound, home.rate)
        write_text(root / "rttm" / f"{home.name}.rttm", [rttm_line(home.name, t) for t in turns])
        write_text(root / "uem" / f"{home.name}.uem", [f"{home.name} 1 0.000 {home.seconds:.3f}"])
        owners += [f"{home.name}\t{voice.name}" for voice in voices]
    write_text(root / "groups.tsv", ["recording\tvoice", *owners])
    for split in ("train", "dev", "test"):
        write_text(root / f"{split}.txt", [home.name for home in HOMES if home.split == split])


def make_childproject(root: Path, seed: int) -> None:
    """The corpus of layout `childproject`: three children, four recordings, one annotation set."""
    homes = [
        Home(f"rec{i + 1}", "", ("KCHI", "OCH", "MAL", "FEM"), seconds=20.0)
        for i in range(len(CHILDREN) + 1)
    ]
    annotated = []
    for home in homes:
        _, turns, sound = record(home, seed)
        write_audio(root / "recordings" / "raw" / f"{home.name}.ogg", sound, home.rate)
        annotated.append(write_annotation(root, home, turns))
    owners = [CHILDREN[min(i, len(CHILDREN) - 1)][0] for i in range(len(homes))]
    write_csv(
        root / "metadata" / "recordings.csv",
        "experiment,child_id,date_iso,start_time,recording_device_type,recording_filename,duration",
        [
            ["sample", child, "2022-05-01", "09:00", "unknown", f"{home.name}.ogg", 20000]
            for child, home in zip(owners, homes, strict=True)
        ],
    )
    write_csv(
        root / "metadata" / "children.csv",
        "experiment,child_id,child_sex,child_dob,language",
        [["sample", child, sex, born, language] for child, sex, born, language in CHILDREN],
    )
    write_csv(
        root / "metadata" / "annotations.csv",
        "set,recording_filename,time_seek,range_onset,range_offset,raw_filename,format,"
        "annotation_filename",
        annotated,
    )


def write_annotation(root: Path, home: Home, turns: list[Turn]) -> list[object]:
    """One converted annotation file, in ms; returns its row of annotations.csv."""
    name = f"{home.name}_0_20000.csv"
    spoken_to = cycle(("T", "A", "C"))  # the key child, an adult, another child
    rows = [
        [
            f"{home.name}.csv",
            turn.start,
            turn.start + turn.length,
            "CHI" if turn.voice.kind == "KCHI" else turn.voice.kind,
            turn.voice.name,
            "NA" if turn.voice.kind == "KCHI" else next(spoken_to),
        ]
        for turn in sorted(turns, key=lambda turn: (turn.start, turn.voice.name))
    ]
    write_csv(
        root / "annotations" / "truth" / "converted" / name,
        "raw_filename,segment_onset,segment_offset,speaker_type,speaker_id,addressee",
        rows,
    )
    return ["truth", f"{home.name}.ogg", 0, 0, 20000, f"{home.name}.csv", "csv", name]


def make_hindibabynet(root: Path, seed: int) -> None:
    """The corpus of layout `hindibabynet`: four children, one recorded twice; no annotation."""
    for child, date, epoch, form, seconds in DAYS:
        home = Home(f"{child} {date}", "", seconds=seconds, rate=8000 if form == "WAV" else RATE)
        _, _, sound = record(home, seed)
        path = root / "RawAudioData" / child / date / f"{epoch}.{form}"
        write_audio(path, sound, home.rate, "PCM_U8")


def replace_folder(new: Path, old: Path) -> None:
    """Put a finished folder in the place of an old one."""
    if old.exists():
        shutil.rmtree(old)
    new.replace(old)


MAKERS: dict[str, Callable[[Path, int], None]] = {
    "rttm": make_rttm,
    "childproject": make_childproject,
    "hindibabynet": make_hindibabynet,
    "recanvo": make_recanvo,
    "donateacry": make_donateacry,
    "esc50": make_esc50,
    "kaldi": make_kaldi,
    "manifest": make_manifest,
    "librispeech": make_librispeech,
    "voxceleb": make_voxceleb,
    "commonvoice": make_commonvoice,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=SAMPLES, help="where a folder for each goes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=MAKERS, nargs="+", default=list(MAKERS))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        fresh = args.out / f".{name}.part"
        shutil.rmtree(fresh, ignore_errors=True)
        MAKERS[name](fresh, args.seed)
        replace_folder(fresh, args.out / name)


if __name__ == "__main__":
    main()
