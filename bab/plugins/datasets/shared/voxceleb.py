"""VoxCeleb on disk: SPEAKER/VIDEO/UTTERANCE wherever they lie, and the tables of speakers."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path

from bab import CorpusError
from bab.kit import AUDIO_SUFFIXES, Faults, gender, lines

TOPS = ("wav", "aac", ".")
AAC = (".m4a", ".aac")
IDEN = {"1": "train", "2": "dev", "3": "test"}


def clip_id(name: str) -> str:
    """ "wav/id10270/x6uYqmx31kE/00001.wav" -> "id10270/x6uYqmx31kE/00001"."""
    return "/".join(name.rsplit(".", 1)[0].split("/")[-3:])


def find_files(root: Path, notices: list[str]) -> dict[str, tuple[str, str]]:
    """Clip's id -> (absolute path, "dev", "test" or ""), sorted. A list that says .wav is content
    with the same file as .flac, .ogg, .opus or .mp3.

    Raises:
        CorpusError: nothing found, a clip that is there twice, or AAC only (VoxCeleb2 as it
            comes), which libsndfile doesn't read.
    """
    files: dict[str, tuple[str, str]] = {}
    aac: dict[str, str] = {}
    for part in ("", "dev", "test"):
        tops = [root / part / top for top in TOPS if (root / part / top).is_dir()]
        for speaker in sorted(p for top in tops for p in top.iterdir() if _is_speaker(p)):
            for path in _files(speaker):
                name = clip_id(path)
                if path.endswith(AAC):
                    aac[name] = path
                elif (
                    path.endswith(AUDIO_SUFFIXES)
                    and files.setdefault(name, (path, part))[0] != path
                ):
                    raise CorpusError(f"{files[name][0]} and {path}: one utterance. Keep one.")
    unread = [path for name, path in aac.items() if name not in files]
    if unread:
        message = (
            f"{unread[0]}: AAC can't be read. Convert it to wav or flac beside the m4a files: "
            "ffmpeg -i 00001.m4a -ac 1 -ar 16000 00001.flac for each."
        )
        if not files:
            raise CorpusError(message)
        notices.append(f"{len(unread)} files were left out. {message}")
    if not files:
        raise CorpusError(
            f"{root}: no audio at wav/SPEAKER/VIDEO/UTTERANCE.wav, nor under dev/ or test/."
        )
    return files


def _is_speaker(path: Path) -> bool:
    return path.name.startswith("id") and path.name[2:].isdigit() and path.is_dir()


def _files(speaker: Path) -> list[str]:
    """Files at SPEAKER/VIDEO/, sorted."""
    paths: list[str] = []
    for video in os.scandir(speaker):
        if video.is_dir():
            paths += [entry.path for entry in os.scandir(video.path)]
    return sorted(paths)


def read_meta(root: Path) -> dict[str, tuple[str, str]]:
    """Speaker -> (gender, nationality), from vox1_meta.csv and vox2_meta.csv where they are.

    vox1_meta.csv is separated by tabs, vox2_meta.csv by commas with spaces.
    """
    about: dict[str, tuple[str, str]] = {}
    for name in ("vox1_meta.csv", "vox2_meta.csv"):
        path = root / name
        header: list[str] = []
        for number, line in lines(path) if path.is_file() else ():
            cells = [cell.strip() for cell in line.replace("\t", ",").split(",")]
            if not header:
                header = [cell.lower() for cell in cells]
                if "gender" not in header:
                    raise CorpusError(f"{path}:{number}: no column 'Gender': {line.strip()!r}")
                continue
            row = dict(zip(header, cells, strict=False))
            if cells[0]:
                about[cells[0]] = (gender(row.get("gender", "")), row.get("nationality", ""))
    return about


def read_splits(path: Path, known: Container[str]) -> dict[str, str]:
    """Clip's id -> split, from iden_split.txt. known: the clips that are there.

    Raises:
        CorpusError: lines that say nothing, or clips that aren't there.
    """
    where: dict[str, str] = {}
    faults = Faults()
    for number, line in lines(path):
        fields = line.split()
        if len(fields) != 2 or fields[0] not in IDEN:
            faults.say(path, number, f"not '1|2|3 FILE': {line.strip()!r}")
        elif (name := clip_id(fields[1])) not in known:
            faults.say(path, number, f"no audio for '{fields[1]}'.")
        else:
            where[name] = IDEN[fields[0]]
    faults.refuse()
    return where
