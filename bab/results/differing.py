"""The settings in which runs differ, as a table's rows tell them apart."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bab.core.record import Record
from bab.results.notes import drawn, plugins

_Known = dict[tuple[str, int, tuple[str, ...]], dict[str, str]]  # by key, part, keys left out

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
    known: _Known = {}
    for members in together.values():
        flat = {r.id: _flat(r.config, drawn(r.config), known) | plugins(r) for r in members}
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


def _flat(config: Mapping[str, Any], but: Sequence[str], known: _Known) -> dict[str, str]:
    """A configuration, flat, without the keys `but`. known: parts that were met before, which
    records share."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if not isinstance(value, Mapping):
            flat.update(_flatten({key: value}, but))
        elif key not in _IRRELEVANT:
            place = (key, id(value), tuple(but))
            if place not in known:
                known[place] = dict(_flatten(value, but, f"{key}."))
            flat.update(known[place])
    return flat


def _flatten(
    values: Mapping[str, Any], but: Sequence[str] = (), prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """`train.lr` -> "0.001", for all keys that may change a result. but: further ones left out."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if path in _IRRELEVANT or path in but:
            continue
        if isinstance(value, Mapping):
            yield from _flatten(value, but, f"{path}.")
        else:
            yield path, value if isinstance(value, str) else json.dumps(value)
