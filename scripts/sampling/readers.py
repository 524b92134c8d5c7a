"""Made-up people who read sentences: one pool of utterances for the layouts of read speech."""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from functools import cache

import numpy as np

from sampling.voices import RATE, Audio, Voice, say, trim

ENGLISH = (
    "the lake is quiet in the morning",
    "my sister paints a yellow door",
    "we left the bread on the table",
    "a small dog runs behind the bus",
    "nobody heard the clock strike nine",
    "put the wet shoes near the stove",
    "her letter came before the snow",
    "seven boats wait under the bridge",
)
CATALAN = (
    "La col·lecció de l'avi és molt antiga.",
    "Avui el cel és blau i fa sol.",
    "Els nens juguen a la plaça del poble.",
    "L'àvia cuina arròs amb bolets.",
    "El metge no és a l'hospital.",
    "Aquesta cançó és força bonica.",
    "Demà anirem a l'estació amb en Pau.",
    "El gos il·lès dorm sota la cadira.",
)
ACCENTS = ("balear", "central", "nord-occidental", "septentrional", "valencià")
STRESS = {0x2C8: None, 0x2CC: None}  # marks of primary and secondary stress, removed
# How a made-up reader of each accent is made to sound: espeak-ng has one Catalan voice, so letters
# are respelt (unstressed vowels, v) before it reads. A caricature, so that there is something to
# learn; what is written in the tables keeps its spelling.
RESPELT = {
    "balear": (("el ", "es "), ("la ", "sa "), ("a ", "e ")),
    "central": (("o", "u"), ("v", "b")),
    "nord-occidental": (("e ", "é "), ("a ", "è ")),
    "septentrional": (("o", "u"), ("r ", "rr "), ("ll", "i")),
    "valencià": (("v", "f"), ("x", "tx")),
}


@dataclass(frozen=True)
class Reader:
    """Someone who reads: gender "male" or "female", age in years."""

    name: str
    gender: str
    age: int
    voice: Voice
    accent: str = ""


def reader(name: str, gender: str, age: int, language: str, accent: str = "") -> Reader:
    """Somebody with a voice drawn from the name. Children have shorter vocal tracts."""
    draw = random.Random(f"reader {name}")
    male, child = gender == "male", age < 13
    voice = Voice(
        name,
        "OCH" if child else "MAL" if male else "FEM",
        language=language,
        variant=("m" if male else "f") + str(draw.randint(1, 7 if male else 5)),
        pitch=draw.randint(25, 45) if male else draw.randint(50, 65),
        speed=draw.randint(150, 185),
        scale=draw.uniform(1.28, 1.45) if child else 1.0,
    )
    return Reader(name, gender, age, voice, accent)


@cache
def read_aloud(who: Reader, text: str) -> Audio:
    """f64[samples] at RATE: the text as this reader says it, at a peak of 0.5."""
    spoken = text
    for old, new in RESPELT.get(who.accent, ()):
        spoken = spoken.replace(old, new)
    sound = trim(say(who.voice, spoken, who.voice.pitch))
    return np.asarray(0.5 * sound / np.abs(sound).max())


def joined(pieces: list[Audio], pause: float = 0.25) -> tuple[Audio, list[tuple[float, float]]]:
    """Utterances in a row with pauses between them, and each one's start and end in seconds."""
    silence = np.zeros(int(pause * RATE))
    parts, spans, at = [silence], [], silence.size
    for piece in pieces:
        spans.append((at / RATE, (at + piece.size) / RATE))
        parts += [piece, silence]
        at += piece.size + silence.size
    return np.concatenate(parts), spans


@cache
def phones(text: str, language: str) -> tuple[str, ...]:
    """The phones of each word as espeak-ng reads it alone, in IPA, between spaces; no stress."""
    return tuple(_phones(word, language) for word in text.split())


def _phones(word: str, language: str) -> str:
    command = ["espeak-ng", "-q", "-v", language, "--ipa", "--sep= ", word]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return " ".join(said.translate(STRESS).split())
