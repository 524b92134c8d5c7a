"""Where a run's files are, and what is there already."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from bab.config.run import RunConfig
from bab.core.names import short
from bab.core.record import Record
from bab.core.registry import origin
from bab.results.record import RECORD, load
from bab.running.parts import Parts
from bab.starting.folders import LOCK, place


def run_id(config: RunConfig, parts: Parts, digest: str) -> str:
    """12 hex digits: a hash of all that the result depends on. Where the corpus lies is left out:
    its digest stands for what is in it."""
    identity = config.identity()
    for section in ("corpus", "test_corpus"):
        identity.get(section, {}).pop("root", None)
    facts = [identity, parts.encoder.fingerprint, parts.task.version, parts.corpus.version, digest]
    facts += [[section, whose] for section, whose in plugins(parts).items()]
    if parts.start is not None:
        facts += [parts.start.digest, parts.start.labels, parts.start.tuned]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=6).hexdigest()


def plugins(parts: Parts) -> dict[str, str]:
    """The strangers' components of a run: section -> distribution, version and class."""
    corpora = getattr(parts.corpus, "corpora", (parts.corpus,))
    named = {
        "encoder": parts.members,
        "task": (parts.task,),
        "corpus": corpora,
        "head": (parts.head,),
        "objective": (parts.objective,),
    }
    each = {key: " + ".join(filter(None, map(origin, value))) for key, value in named.items()}
    return {key: whose for key, whose in each.items() if whose}


def run_folder(config: RunConfig, parts: Parts, identifier: str) -> Path:
    """runs/<task>/<corpus>/<encoder>/<id>."""
    corpus = "-to-".join(
        f"{c.name}-{'sample' if c.root is None else Path(c.root).expanduser().name}"
        for c in (config.corpus, config.test_corpus)
        if c is not None
    )
    called = short(parts.called, parts.encoder.fingerprint)
    return place(config.runs, config.task.name, corpus, called, identifier)


def finished(folder: Path) -> Record | None:
    """The record of a run that is done."""
    if not (folder / RECORD).exists():
        return None
    record = load(folder / RECORD)
    return record if record.status == "done" else None


def clear(folder: Path) -> None:
    """Throw a run's files away; the record goes first, so that no half of it looks finished."""
    (folder / RECORD).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name == LOCK:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
