"""The settings in which runs differ, as a table's rows tell them apart; and briefly, for people,
whose screens are narrow."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from bab.core.record import Record
from bab.results.notes import drawn, plugins

_OFF = ("=none", "=null", "=false", "=0", "=0.0", "=")  # values of what isn't used
_SHOWN = 3  # settings of a row, unless it takes more to tell it from another
# Settings that never tell two rows apart: the seed, which is averaged over; where a run happened
# and who watched it; what the record holds by its real name (encoder, corpus).
_IRRELEVANT = (
    "seed", "device", "runs", "observers", "quiet", "offline", "trust_code", "cache", "bootstrap",
    "train.save_every", "train.save_minutes", "encoder.weights", "corpus.root", "test_corpus.root",
)  # fmt: skip


def settings_of(records: Sequence[Record], columns: Mapping[str, int]) -> dict[str, str]:
    """Record id -> the settings in which runs of its row and column differ, seed apart."""
    together: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for r in records:
        together[r.encoder, r.mode, r.head, columns[r.id]].append(r)
    texts: dict[str, str] = {}
    known: dict[tuple[str, int], dict[str, str]] = {}
    for members in together.values():
        ours = _differing([r.config for r in members])
        flat = {r.id: _flat(r.config, ours, known) | plugins(r) for r in members}
        keys = dict.fromkeys(key for one in flat.values() for key in one)
        odd = [k for k in keys if len({one.get(k, "none") for one in flat.values()}) > 1]
        # Two sets of weights under one name (a folder that changed) are two rows. A run that
        # failed before its encoder was loaded has no fingerprint and stands with either.
        # Untrained ones are drawn anew for each seed.
        fixed = [r for r in members if r.encoder_fingerprint and not drawn(r.config)]
        weights = {r.encoder_fingerprint for r in fixed}
        for r in members:
            told = [f"{k}={flat[r.id].get(k, 'none')}" for k in odd]
            if len(weights) > 1:
                told.append(f"weights={r.encoder_fingerprint[:8] or 'unknown'}")
            texts[r.id] = ", ".join(told)
    return texts


def apart_from_encoders(texts: Mapping[str, str], records: Sequence[Record]) -> dict[str, str]:
    """Record id -> its settings, less the encoder's own, by every key that `settings_of` names of
    any of the records: runs of two encoders that were trained alike have one text."""
    named = {key for text in texts.values() for key in re.findall(r"(?:^|, )([\w.]+)=", text)}
    keys = sorted(key for key in named if key != "weights" and not key.startswith("encoder."))
    flat = {r.id: dict(_flatten(r.config)) | plugins(r) for r in records}
    return {
        name: ", ".join(f"{key}={one.get(key, 'none')}" for key in keys)
        for name, one in flat.items()
    }


def _differing(configs: Sequence[Mapping[str, Any]]) -> set[str]:
    """The parts of configurations that may differ: those that aren't one and the same object, which
    records read together share where they are equal; and untrained encoders'."""
    first = configs[0]
    odd = {
        key
        for one in configs
        for key, value in one.items()
        if key not in first or not (value is first[key] or _alike(value, first[key]))
    }
    odd |= {key for key in first if any(key not in one for one in configs)}
    return odd | ({"encoder"} if any(drawn(one) for one in configs) else set())


def _alike(one: Any, other: Any) -> bool:
    plain = (str, bool, int, type(None))
    return type(one) is type(other) and isinstance(one, plain) and bool(one == other)


def _flat(
    config: Mapping[str, Any], ours: Container[str], known: dict[tuple[str, int], dict[str, str]]
) -> dict[str, str]:
    """A configuration, flat. ours: the parts that matter; known: parts that were met before, which
    records share."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if key not in ours:
            continue
        if not isinstance(value, Mapping):
            flat.update(_flatten({key: value}))
        elif key not in _IRRELEVANT:
            if (key, id(value)) not in known:
                known[key, id(value)] = dict(_flatten(value, f"{key}."))
            flat.update(known[key, id(value)])
    for key in drawn(config) if flat else ():
        flat.pop(key, None)
    return flat


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """`train.lr` -> "0.001", for all keys that may change a result."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if path in _IRRELEVANT:
            continue
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{path}.")
        else:
            yield path, value if isinstance(value, str) else json.dumps(value)


def brief(settings: Sequence[str]) -> list[str]:
    """Each row's settings ("head.rnn=bilstm, train.lr=0.002") in a few words: what is on before
    what is off, a component's options before numbers of the optimisation, the others counted."""
    rows = [_short(re.split(r", (?=[\w.]+=)", text) if text else [], settings) for text in settings]
    told = []
    for i, words in enumerate(rows):
        others = [set(w) for j, w in enumerate(rows) if j != i]
        count = _SHOWN
        while count < len(words) and any(set(words[:count]) <= other for other in others):
            count += 1
        left = max(0, len(words) - count)
        told.append(", ".join(words[:count]) + (f", +{left}" if left else ""))
    return told


def _short(parts: Sequence[str], settings: Sequence[str]) -> list[str]:
    """A row's settings, those first that say most, each key by its last word where that is one."""
    keys = set(re.findall(r"([\w.]+)=", ", ".join(settings)))
    tails = Counter(key.rpartition(".")[2] for key in keys)
    words = []
    for one in sorted(parts, key=lambda p: (p.endswith(_OFF), p.startswith(("train.", "view.")))):
        key, _, value = one.partition("=")
        tail = key.rpartition(".")[2]
        words.append(f"{tail if tails[tail] == 1 else key}={value}")
    return words
