"""The samples of read speech, each in its corpus's own layout: kaldi, manifest, librispeech,
voxceleb, commonvoice."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

from sampling.files import write_audio, write_csv, write_text
from sampling.readers import (
    ACCENTS,
    CATALAN,
    ENGLISH,
    Reader,
    joined,
    phones,
    read_aloud,
    reader,
)
from sampling.voices import RATE

SPLITS = ("train", "dev", "test")
# Everyone who reads English: two of each in train, one man and one woman, one of them a child, in
# dev and in test. voxceleb takes the grown-ups, and two more.
PEOPLE = (
    ("train", "r01", "female", 34),
    ("train", "r02", "male", 51),
    ("train", "r03", "female", 8),
    ("train", "r04", "male", 9),
    ("dev", "r05", "male", 27),
    ("dev", "r06", "female", 7),
    ("test", "r07", "female", 45),
    ("test", "r08", "male", 10),
)


def english(split: str) -> list[Reader]:
    return [reader(name, sex, age, "en") for part, name, sex, age in PEOPLE if part == split]


def chosen(who: Reader, texts: tuple[str, ...], count: int) -> list[str]:
    """The sentences that a reader reads."""
    return random.Random(f"texts {who.name}").sample(texts, count)


def make_kaldi(root: Path, seed: int) -> None:
    """A recording for each reader, three sentences in it, cut by `segments`."""
    for split in SPLITS:
        tables: dict[str, list[str]] = {
            name: []
            for name in (
                *("wav.scp", "segments", "utt2spk", "spk2utt", "text", "text-phone"),
                *("spk2gender", "spk2age"),
            )
        }
        for who in english(split):
            add_reader(tables, who, root)
        for name, rows in tables.items():
            write_text(root / split / name, rows)


def add_reader(tables: dict[str, list[str]], who: Reader, root: Path) -> None:
    """One reader's audio file and rows."""
    texts = chosen(who, ENGLISH, 3)
    sound, spans = joined([read_aloud(who, text) for text in texts])
    write_audio(root / "audio" / f"{who.name}.opus", sound[:, None], RATE)
    utterances = [f"{who.name}-{number}" for number in range(1, len(texts) + 1)]
    tables["wav.scp"].append(f"{who.name} audio/{who.name}.opus")
    tables["spk2gender"].append(f"{who.name} {who.gender[0]}")
    tables["spk2age"].append(f"{who.name} {who.age}")
    tables["spk2utt"].append(f"{who.name} {' '.join(utterances)}")
    for name, text, (start, end) in zip(utterances, texts, spans, strict=True):
        tables["segments"].append(f"{name} {who.name} {start:.3f} {end:.3f}")
        tables["utt2spk"].append(f"{name} {who.name}")
        tables["text"].append(f"{name} {text.upper()}")
        for number, said in enumerate(phones(text, "en")):
            tables["text-phone"].append(f"{name}.{number}\t{marked(said)}")


def marked(said: str) -> str:
    """Phones with their position in the word, as Kaldi's lexicons have them."""
    parts = said.split()
    if len(parts) == 1:
        return f"{parts[0]}_S"
    middle = [f"{phone}_I" for phone in parts[1:-1]]
    return " ".join([f"{parts[0]}_B", *middle, f"{parts[-1]}_E"])


def make_manifest(root: Path, seed: int) -> None:
    """The recordings of the kaldi sample, listed in one table: is this a child or an adult?"""
    rows: list[list[object]] = []
    for split in SPLITS:
        for who in english(split):
            texts = chosen(who, ENGLISH, 3)
            _, spans = joined([read_aloud(who, text) for text in texts])
            kind = "child" if who.age < 13 else "adult"
            for text, (start, end) in zip(texts, spans, strict=True):
                path = f"../kaldi/audio/{who.name}.opus"
                times = (f"{start:.3f}", f"{end:.3f}")
                rows.append([path, *times, split, who.name, text, kind, who.gender])
    header = "path,start,end,split,speaker,text,age_group,gender"
    write_csv(root / "manifest.csv", header, rows)


def make_librispeech(root: Path, seed: int) -> None:
    """Two chapters for each reader, a sentence in each; 8 bits, to be small."""
    about = ["; ID | SEX | SUBSET | MINUTES | NAME"]
    for split in SPLITS:
        for who in english(split):
            number = 100 + int(who.name[1:])
            about.append(f"{number} | {who.gender[0].upper()} | {split}-clean | 0.1 | Made Up")
            for chapter, text in enumerate(chosen(who, ENGLISH, 2), 1000 + 10 * number):
                folder = root / f"{split}-clean" / str(number) / str(chapter)
                name = f"{number}-{chapter}"
                write_audio(
                    folder / f"{name}-0000.flac", read_aloud(who, text)[:, None], RATE, "PCM_S8"
                )
                write_text(folder / f"{name}.trans.txt", [f"{name}-0000 {text.upper()}"])
    write_text(root / "SPEAKERS.TXT", about)


def make_voxceleb(root: Path, seed: int) -> None:
    """Ten readers of two videos each; four are in the trials."""
    about = ["VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet"]
    files: dict[str, list[str]] = {}
    for number in range(10):
        sex = ("female", "male")[number % 2]
        who = reader(f"v{number:02}", sex, 40, "en")
        name = f"id1{number:04}"
        about.append(
            f"{name}\tMade_Up_{number}\t{sex[0]}\tNowhere\t{'test' if number > 5 else 'dev'}"
        )
        texts = chosen(who, ENGLISH, 4)
        for video in (1, 2):
            pair = [read_aloud(who, text) for text in texts[2 * video - 2 : 2 * video]]
            file = f"{name}/video{video:06}/00001"
            sound = joined(pair, 0.1)[0][: int(2.4 * RATE), None]  # above two seconds
            write_audio(root / "wav" / f"{file}.opus", sound, RATE)
            files.setdefault(name, []).append(f"{file}.wav")
    tested = list(files)[6:]
    trials = [f"1 {files[name][0]} {files[name][1]}" for name in tested]
    for one, two in combinations(tested, 2):
        trials.append(f"0 {files[one][0]} {files[two][1]}")
    write_text(root / "veri_test.txt", trials)
    write_text(root / "vox1_meta.csv", about)


def make_commonvoice(root: Path, seed: int) -> None:
    """Four Catalan readers of each accent: two in train, one in dev, one in test."""
    header = (
        "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender"
        "\taccents\tvariant\tlocale\tsegment"
    )
    tables: dict[str, list[str]] = {name: [header] for name in (*SPLITS, "validated")}
    durations = ["clip\tduration[ms]"]
    for number in range(4 * len(ACCENTS)):
        accent, turn = ACCENTS[number % len(ACCENTS)], number // len(ACCENTS)
        split = ("train", "train", "dev", "test")[turn]
        sex = ("female", "male")[(number + turn) % 2]
        who = reader(f"c{number:02}", sex, 30, "ca", accent)
        for clip, text in enumerate(chosen(who, CATALAN, 2), 40000000 + 2 * number):
            name = f"common_voice_ca_{clip}.mp3"
            sound = read_aloud(who, text)
            write_audio(root / "clips" / name, sound[:, None], RATE)
            durations.append(f"{name}\t{1000 * sound.size // RATE}")
            row = [f"{number:02}" * 64, name, f"{clip:064x}", text, "", "2", "0", "thirties"]
            row += [
                "female_feminine" if sex == "female" else "male_masculine",
                accent,
                "",
                "ca",
                "",
            ]
            for table in (split, "validated"):
                tables[table].append("\t".join(row))
    for name, rows in tables.items():
        write_text(root / f"{name}.tsv", rows)
    write_text(root / "clip_durations.tsv", durations)
