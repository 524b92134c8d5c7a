"""What is said of intervals and marks, beside the figures that they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bab.core import names
from bab.core.record import Record
from bab.results import jackknife
from bab.results.render import number

SHOWN = 5  # names in one line; the rest is counted
OLD = (
    "an earlier bab's record: its intervals, by bootstrap, are too narrow and stand in no table, "
    "nor is it marked; means over classes count one that was predicted and never occurs; the same "
    "`bab run` makes it anew"
)
ONE_SEED = (
    "one seed: trained models are compared, not encoders (`bab bench --seeds 0,1,2` tells them "
    "apart)"
)


HEARD_MARK = "‡"
HEARD = (
    f"{HEARD_MARK} the encoder was pretrained on test audio, without its labels (what an encoder's "
    "folder says that it was pretrained on); encoders that weren't may be worse for that alone"
)


def heard(record: Record) -> bool:
    """Whether the encoder was pretrained on a file of the test split."""
    return bool(record.data.get("heard", {}).get("test"))


def unseen(record: Record) -> str:
    """Whether nobody can see that splits share a voice; "" where speakers or groups are known."""
    return {
        "made": "split clip by clip, no speaker or group is known: leakage can't be seen",
        "given": "given splits, no speaker or group is known: leakage can't be seen",
    }.get(str(record.data.get("unseen", "")), "")


def old(record: Record) -> bool:
    """Whether an earlier bab wrote it, which kept a bootstrap's resamples."""
    return record.format == 1


def newest(records: Sequence[Record]) -> list[Record]:
    """Without an earlier bab's records of seeds that this one has run too."""
    seeds = {r.seed for r in records if not old(r)}
    return [r for r in records if not old(r) or r.seed not in seeds]


def groups_of(record: Record) -> tuple[int, str]:
    """How many groups were tested, and what each one is: (7, "recordings")."""
    unit = str(record.jackknife.get("unit", "group"))
    unit = {"child": "children", "family": "families"}.get(unit, f"{unit}s")
    return len(record.jackknife.get("groups", ())), unit


def scored_one(record: Record) -> str:
    """What each name in `record.groups` is: what was left out at a time, or a recording of it."""
    unit, held = str(record.jackknife.get("unit", "group")), record.jackknife.get("groups")
    return unit if not held or record.groups.keys() <= set(held) else "recording"


def made(record: Record) -> str:
    """How a record's intervals came about and what they are worth; "" of one without groups."""
    if old(record):
        return OLD if record.intervals else ""
    count, units = groups_of(record)
    if not count:
        return ""
    if count < jackknife.TOO_FEW:
        said = {"recordings": "recording", "children": "child", "families": "family"}
        one = said.get(units, units.removesuffix("s"))
        return (
            f"{count} {units if count > 1 else one}: no intervals, {jackknife.TOO_FEW} are needed"
        )
    like = f"G* = {record.jackknife.get('effective', 0):.1f}"
    text = f"95 % intervals by leaving out one of {count} {units} at a time ({like})"
    rough = count < jackknife.SMOOTH
    return text + (f": rough, as they are below {jackknife.SMOOTH}" if rough else "")


def rare(record: Record) -> str:
    """Classes that hardly any group holds; "" where there are none."""
    held = record.jackknife.get("rare", {})
    count, units = groups_of(record)
    if not held or count < jackknife.TOO_FEW:
        return ""
    names = [f"{name} ({some} of {count})" for name, some in sorted(held.items())]
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (
        f"in fewer than 3 {units}: {', '.join(names[:SHOWN])}{rest}; scores of these, and means "
        "over classes, vary more than intervals say"
    )


def column_notes(label: str, cells: Mapping[str, Sequence[Record]], why: str) -> Iterator[str]:
    """What a reader of a table must know of one column. cells: what is done, by the row's name;
    why: there are no marks, or not of all."""
    records = [r for members in cells.values() for r in members]
    said = [text for r in records for text in (made(r), rare(r), unseen(r)) if text]
    if any(len(members) == 1 for members in cells.values()) and sum(map(bool, cells.values())) > 1:
        said.append(ONE_SEED)
    yield from dict.fromkeys(f"{label}: {text}" for text in [*said, *filter(None, [why])])
    for name, members in cells.items():
        if scores := _by_group(members):
            yield f"{label}, {name}: {scores}"


def _by_group(members: Sequence[Record]) -> str:
    """The scores of a few groups, the mean over seeds: too few for a table to say more."""
    few = [r for r in members if 0 < groups_of(r)[0] < jackknife.MARKED]
    if not few:
        return ""
    unit = few[0].units.get(few[0].primary, "")
    names = sorted(set.intersection(*(set(r.groups) for r in few)))
    known = [n for n in names if all(few[0].primary in r.groups[n] for r in few)]
    if not known or len(known) > 2 * SHOWN:
        return ""
    means = [sum(r.groups[n][r.primary] for r in few) / len(few) for n in known]
    return ", ".join(f"{n} {number(x, unit)}" for n, x in zip(known, means, strict=True))


def drawn(config: Mapping[str, Any]) -> list[str]:
    """Where a run's own seed drew an untrained encoder's weights: the keys that hold it again."""
    encoder, seed = config.get("encoder"), config.get("seed")
    if not isinstance(encoder, Mapping):
        return []
    options, weights = encoder.get("options") or {}, str(encoder.get("weights") or "")
    keys = {"seed": options.get("seed")} if weights.startswith("random") else {}
    for one in names.members(str(encoder.get("name", ""))):
        own = options.get(one.name)
        if isinstance(own, Mapping) and one.weights.startswith("random"):
            keys[f"{one.name}.seed"] = own.get("seed")
    return [
        f"encoder.options.{key}"
        for key, value in keys.items()
        if seed is not None and value == seed
    ]


def plugins(record: Record) -> dict[str, str]:
    """Distribution, version and class of the run's components that don't come with bab."""
    return {name: text for name, text in record.versions.items() if name.endswith(" plugin")}
