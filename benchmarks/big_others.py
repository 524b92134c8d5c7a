"""What other corpora of millions of clips, or segments, cost to list and to split.

    python benchmarks/big_others.py [--only rttm] [--million 1]

rttm: recordings of an hour (silence, no space on disk) with 1,000 segments each; childproject: the
same in its CSV files; kaldi: utterances of recordings, with text and speakers; commonvoice: a file
for each clip, `use=validated`. As `big_corpus.py`, in a process of its own for each; that of
`check` is what `bab run` asks of the lists. Audio isn't read, but for headers.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from big_corpus import timed

RATE, LASTS, EACH = 8000, 3600, 1000  # Hz and seconds of a recording; segments or clips in it
CHILD = ("CHI", "OCH", "MAL", "FEM")
VOICES = ("KCHI", "OCH", "MAL", "FEM")


def silence(path: Path) -> None:
    """An hour of 8-bit WAV, of which only the header takes space."""
    size = RATE * LASTS
    form = struct.pack("<IHHIIHH", 16, 1, 1, RATE, RATE, 1, 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + form)
        file.write(b"data" + struct.pack("<I", size))
        file.truncate(44 + size)


def rttm(root: Path, count: int) -> None:
    (root / "rttm").mkdir()
    for home in range(count // EACH):
        name = f"home{home:05d}"
        silence(root / "wav" / f"{name}.wav")
        with (root / "rttm" / f"{name}.rttm").open("w") as file:
            file.writelines(
                f"SPEAKER {name} 1 {i * 3.5:.3f} {1 + i % 7 * 0.3:.3f} <NA> <NA> {VOICES[i % 4]}"
                " <NA> <NA>\n"
                for i in range(EACH)
            )


def childproject(root: Path, count: int) -> None:
    for folder in ("metadata", "recordings/raw", "annotations/vtc/converted"):
        (root / folder).mkdir(parents=True)
    heads = {
        "children": "experiment,child_id,child_dob",
        "recordings": "experiment,child_id,date_iso,start_time,recording_device_type,"
        "recording_filename",
        "annotations": "set,recording_filename,time_seek,range_onset,range_offset,raw_filename,"
        "format,annotation_filename",
    }
    lines: dict[str, list[str]] = {name: [head] for name, head in heads.items()}
    for home in range(count // EACH):
        audio, table = f"rec{home:05d}.wav", f"rec{home:05d}.csv"
        silence(root / "recordings" / "raw" / audio)
        lines["children"].append(f"big,c{home},2020-01-01")
        lines["recordings"].append(f"big,c{home},2021-01-01,08:00:00,usb,{audio}")
        lines["annotations"].append(f"vtc,{audio},0,0,{LASTS * 1000},x,vtc_rttm,{table}")
        with (root / "annotations" / "vtc" / "converted" / table).open("w") as file:
            file.write("segment_onset,segment_offset,speaker_type,raw_filename\n")
            file.writelines(
                f"{i * 3500},{i * 3500 + 1000 + i % 7 * 300},{CHILD[i % 4]},x\n"
                for i in range(EACH)
            )
    for name, rows in lines.items():
        (root / "metadata" / f"{name}.csv").write_text("\n".join(rows) + "\n")


def kaldi(root: Path, count: int) -> None:
    for split, share in (("train", 0.8), ("dev", 0.1), ("test", 0.1)):
        folder = root / split
        folder.mkdir()
        tables = {n: (folder / n).open("w") for n in ("wav.scp", "segments", "utt2spk", "text")}
        for home in range(int(share * count / EACH)):
            name = f"{split}{home:05d}"
            tables["wav.scp"].write(f"{name} {folder}/{name}.wav\n")
            silence(folder / f"{name}.wav")
            for i in range(EACH):
                key = f"{name}-{i:05d}"
                tables["segments"].write(f"{key} {name} {i * 3.5:.2f} {i * 3.5 + 3:.2f}\n")
                tables["utt2spk"].write(f"{key} {name}\n")
                tables["text"].write(f"{key} said a thing or two {i}\n")
        for table in tables.values():
            table.close()


def commonvoice(root: Path, count: int) -> None:
    """As a test has it: Catalan's release is of this size."""
    head = "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender"
    with (root / "validated.tsv").open("w") as table:
        table.write("\t".join([*head.split(), "accents", "variant", "locale", "segment"]) + "\n")
        table.writelines(
            f"{i % 4000:0128}\tcommon_voice_ca_{i}.mp3\t{i:064}\tLa col·lecció de l'avi és antiga, "
            "diu la veïna.\t\t2\t0\ttwenties\tmale_masculine\tcentral\t\tca\t\n"
            for i in range(count)
        )
    with (root / "clip_durations.tsv").open("w") as table:
        table.write("clip\tduration[ms]\n")
        table.writelines(f"common_voice_ca_{i}.mp3\t{1500 + i % 7000}\n" for i in range(count))


MAKERS: dict[str, Callable[[Path, int], None]] = {
    "rttm": rttm, "childproject": childproject, "kaldi": kaldi, "commonvoice": commonvoice
}  # fmt: skip
SETS = {"commonvoice": ["corpus.use=validated"]}


def measure(name: str, root: Path) -> None:
    with timed(f"{name}: imports"):
        from bab.checking.clips import checked_clips, refuse_same_ids
        from bab.config.corpora import open_corpus
        from bab.config.resolve import corpus_config
        from bab.data.splits import check_disjoint
    with timed(f"{name}: list"):
        corpus = open_corpus(corpus_config(f"{name}:{root}", SETS.get(name, [])))
    with timed(f"{name}: split"):
        parts = {split: corpus.clips(split) for split in corpus.splits()}
    with timed(f"{name}: check"):
        checked = {split: checked_clips(corpus, clips) for split, clips in parts.items()}
        refuse_same_ids(corpus, checked)
        check_disjoint(checked)
    clips = sum(map(len, checked.values()))
    segments = sum(len(c.segments) for part in checked.values() for c in part)
    print(f"{name}: {clips} clips, {segments} segments")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(MAKERS))
    parser.add_argument("--million", type=float, default=1.0, help="clips or segments")
    parser.add_argument("--measure", choices=tuple(MAKERS), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.path)
        return
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| | CPU s | wall s | peak GB |\n|---|--:|--:|--:|", flush=True)
    for name in [args.only] if args.only else MAKERS:
        with tempfile.TemporaryDirectory() as folder:
            MAKERS[name](Path(folder), int(args.million * 1e6))
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "BAB_CACHE": f"{folder}/.cache"}
            command = [sys.executable, __file__, "--measure", name, "--path", folder]
            subprocess.run(command, check=True, env=environment)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
