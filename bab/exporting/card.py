"""A model card from a run's record: what was measured, on what, and what it is not good for.

What could tell who was recorded (names of speakers, recordings, folders) stays out of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from torch import nn

from bab import __version__
from bab.core import registry
from bab.core.errors import BabError
from bab.exporting.settings import settings
from bab.exporting.source import Source
from bab.results.detail import detail
from bab.results.notes import groups_of
from bab.results.render import Sheet, amount, markdown

_MANY = 60  # labels that a card lists
# Of subgroups the card shows those that name kinds of voices ("gender"), no persons or days.
_SUBGROUPS = 6  # most values of one
_WHO = ("session", "participant", "speaker", "recording", "child", "group", "date")
_FEW = 20  # groups of test below which an interval says little
_TAGS = {
    "frame": "voice-activity-detection",
    "clip": "audio-classification",
    "pair": "audio-classification",
    "sequence": "automatic-speech-recognition",
    "": "feature-extraction",
}
_KEYS = (
    "encoder", "task", "objective", "head", "mode", "freeze", "layers", "view", "protocol", "mask",
    "audio", "seed", "train",
)  # fmt: skip
_SAMPLE = (
    "**It was trained on the small synthetic sample that ships with bab: it shows that the "
    "software works, and says nothing about real voices.**"
)
_ETHICS = """\
It is meant for research on recordings whose speakers, or their guardians, have agreed to be
recorded and to be analysed in this way. Long recordings of homes hold private talk, and the voices
of children and of people who did not know of the recorder.

It is not meant for watching or identifying persons, for decisions about a child or a family, or
for medical, clinical or safety use. Who uses it on another population, language, recorder or age
has to measure it there first, on recordings annotated by hand."""


@dataclasses.dataclass(frozen=True, slots=True)
class Folder:
    """What a card is told of the folder that it stands in. library: "transformers" or "onnx"; head:
    whether the model has one; usage: code of `language` ("python", "sh"); notices: what the export
    had to say."""

    library: str
    head: bool
    usage: str
    language: str
    notices: Sequence[str] = ()


def card(source: Source, folder: Folder) -> ModelCard:
    """The card of an exported model.

    Raises:
        ValueError: front matter that huggingface_hub refuses.
    """
    parts = [f"# {title(source, folder.head)}", *_first(source, folder)]
    parts += ["## Usage", f"```{folder.language}\n{folder.usage.rstrip()}\n```"]
    parts += ["## Training data", *_material(source), "## Training", *_training(source)]
    parts += ["## Results", *_results(source, folder.head)]
    parts += ["## Limits", _bullets(_limits(source, folder))]
    parts += ["## Intended use and ethics", _ETHICS]
    parts += [
        "## Licence and credits",
        _bullets(_credits(source)),
        "## Citation",
        _citation(source),
    ]
    front = _data(source, folder).to_yaml()
    return ModelCard(f"---\n{front}\n---\n\n" + "\n\n".join(parts) + "\n")


def title(source: Source, head: bool) -> str:
    """What the model is, in a line."""
    began = public(source.began)
    if source.saved is None:
        return f"{began}, pretrained with bab ({source.result['objective']})"
    name = f"{source.saved.spec['task']['name']}, {began}"
    return (
        name if head else f"{began}, the encoder of a model for {source.saved.spec['task']['name']}"
    )


def public(value: Any) -> Any:
    """A value of a configuration without the folders of whoever trained."""
    if isinstance(value, Mapping):
        return {key: public(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [public(inner) for inner in value]
    if isinstance(value, str):
        name, colon, rest = value.partition(":")
        path = rest if colon and len(name) > 1 else value
        if path.startswith(("/", "~", "./", "../", "\\")) or path[1:3] in (":\\", ":/"):
            return value.removesuffix(path) + PurePath(path.replace("\\", "/")).name
    return value


def _data(source: Source, folder: Folder) -> ModelCardData:
    """The front matter."""
    record, saved = source.record, source.saved if folder.head else None
    results = None
    tag = _TAGS[saved.task.level if saved else ""]
    if record is not None and saved and record.primary in record.metrics:
        results = [
            EvalResult(
                task_type=tag,
                dataset_type=record.corpus,
                dataset_name=f"{record.corpus} ({record.split})",
                metric_type=record.primary,
                metric_value=round(record.metrics[record.primary], 4),
            )
        ]
    base = source.began.partition(":")[2].partition("@")[0]
    return ModelCardData(
        license="unknown",
        library_name=folder.library,
        tags=["bab", "audio", *([saved.spec["task"]["name"]] if saved else [])],
        pipeline_tag=tag,
        base_model=base if base.count("/") == 1 and public(base) == base else None,
        metrics=[record.primary] if record is not None and results else None,
        model_name=title(source, folder.head),
        eval_results=results,
    )


def _first(source: Source, folder: Folder) -> Iterator[str]:
    """What it is; what a reader must not overlook."""
    by = f"bab {_version(source)}, run `{source.id}`"
    if source.saved is not None and folder.head:
        task = source.saved.task
        yield f"{(type(task).__doc__ or '').strip().partition(chr(10))[0]} Trained with {by}."
        names = {} if task.pairs else source.saved.labels
        if names:
            yield "Labels: " + "; ".join(f"{k}: {_listed(group)}" for k, group in names.items())
        if task.notice:
            yield f"**{task.notice}**"
    else:
        yield f"A speech encoder: audio in, a vector for each frame out. From {by}."
    if _sample(source):
        yield _SAMPLE
    yield from (f"Note: {line}." for line in folder.notices)


def _listed(names: Sequence[str]) -> str:
    if len(names) > _MANY:
        return f"{len(names)} labels, in the folder's files"
    return ", ".join(f"`{name}`" for name in names)


def _version(source: Source) -> str:
    versions = source.record.versions if source.record else source.result.get("versions", {})
    return str(versions.get("bab", __version__))


def _corpora(source: Source) -> list[str]:
    """The corpora by name; bab's records name no folder of theirs."""
    if source.saved is None:
        return list(source.result["corpora"])
    return source.record.corpus.split("→") if source.record else []  # trained on → tested on


def _sample(source: Source) -> bool:
    """Whether the corpus is the one that ships with bab."""
    corpus = source.config.get("corpus")
    return isinstance(corpus, Mapping) and corpus.get("root", "") is None


def _material(source: Source) -> Iterator[str]:
    record = source.record
    if source.saved is None:
        clips = source.result["clips"]
        names = ", ".join(source.result["corpora"])
        yield (
            f"Corpus: {names} (digest `{source.result['corpus_digest']}`), {clips['train']} clips "
            f"of training and {clips['dev']} of dev. {source.result['audio_hours']:.2f} h of audio "
            "were used in training, repetitions counted."
        )
        return
    if record is None:
        yield "Not known: the model was exported without its record."
        return
    yield f"Corpus: {record.corpus} {record.corpus_version}, digest `{record.corpus_digest}`."
    rows = [
        [name, str(part["clips"]), f"{part['hours']:.2f}"]
        for name, part in record.data.items()
        if name in ("train", "dev", "test", "all") and part
    ]
    if rows:
        yield markdown([Sheet(["split", "clips", "hours"], rows)]).rstrip()
    left = {**record.data.get("skipped", {}), **record.data.get("left_out", {})}
    folds = f", {record.data['folds']} folds" if "folds" in record.data else ""
    lines = [f"Splits: {record.protocol}{folds}."]
    if record.dev:
        lines.append("What was tuned (thresholds, the checkpoint) was chosen on dev.")
    if left:
        lines.append(f"{len(left)} kinds of clips or files were left out as unusable.")
    yield " ".join(lines)


def _training(source: Source) -> Iterator[str]:
    if source.losses is None:
        yield "Losses of training: not known (no steps were taken, or no log was kept of them)."
    else:
        first, last = source.losses
        yield (
            f"Training loss: {first:.4g} at the start, {last:.4g} at the end (means over the first "
            "and the last 5 % of the steps)."
        )
    cost = source.record.cost if source.record else {}
    if {"encoder_parameters", "trained_parameters"} <= cost.keys():
        trained = cost["trained_parameters"]
        how = f"{amount(trained)} were trained" if trained else "the head was solved in closed form"
        yield f"{amount(cost['encoder_parameters'])} parameters in the encoder; {how}."
    kept = {key: source.config[key] for key in _KEYS if key in source.config}
    text = yaml.safe_dump(_set(public(kept)), sort_keys=False, allow_unicode=True, width=100)
    yield f"Hyperparameters:\n\n```yaml\n{text.rstrip()}\n```"


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    """What has a value, of a configuration."""
    inner = {k: _set(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    return {key: value for key, value in inner.items() if value is not None and value != {}}


def _results(source: Source, head: bool) -> Iterator[str]:
    record = source.record
    if source.saved is None:
        dev = source.result.get("dev") or {}
        rows = [[name, f"{value:.4g}"] for name, value in dev.items()]
        yield (
            "Losses on dev, at the checkpoint that was kept:"
            if rows
            else "No dev loss was measured."
        )
        if rows:
            yield markdown([Sheet(["", "value"], rows)]).rstrip()
        return
    if record is None or record.status != "done":
        yield "Not known: the model was exported without a finished record."
        return
    if not head:
        yield "These are of the whole model, of which this is the encoder."
    yield f"On {record.split}." if record.intervals else f"On {record.split}, without intervals."
    kept = {
        name: values
        for name, values in record.subgroups.items()
        if len(values) <= _SUBGROUPS and name not in _WHO
    }
    encoder = public(record.encoder)
    bare = dataclasses.replace(record, groups={}, subgroups=kept, encoder=encoder)
    yield detail(bare).rstrip()


def _limits(source: Source, folder: Folder) -> Iterator[str]:
    record, saved = source.record, source.saved
    if record is not None and record.leakage:
        yield "The splits share speakers, groups or recordings: the figures are too high."
    units, unit = groups_of(record) if record else (0, "")
    if 0 < units < _FEW:
        yield (
            f"Test holds {units} {unit}: so few that the intervals are themselves unsure, and "
            "other voices may give other figures."
        )
    if record is not None and not source.fold and (source.folder / "folds").is_dir():
        yield (
            "The figures are of one model for each fold, on recordings that it had not met. This "
            "model was trained on all of them, and was tested on none."
        )
    if source.fold:
        yield f"This is the model of fold {source.fold}; the figures are of all folds' models."
    if saved is None or not folder.head:
        yield "It gives vectors, no labels: what they are good for has to be measured with a head."
    else:
        yield from _limits_of_head(source, folder)
    if folder.library == "transformers" and _group_norm(source.encoder):
        yield (
            "One recording at a time, or several of the same length: in models with group norm, "
            "transformers lets the padding of a batch change the outputs (bab does not)."
        )
    yield "It was not tried on other corpora, languages, ages or recorders than those named above."


def _limits_of_head(source: Source, folder: Folder) -> Iterator[str]:
    assert source.saved is not None
    saved, grid = source.saved, source.encoder.grid
    about = settings(source, True)
    seconds, step = (about[key] / grid.sample_rate for key in ("window", "step"))
    yield (
        f"It takes {grid.sample_rate} Hz mono, at most {seconds:g} s at once, every {step:g} s. "
        "Other windows give other outputs."
    )
    if saved.view.context:
        yield (
            f"In training an utterance was given with {saved.view.context:g} s of context on each "
            "side, and only its own frames counted. A file alone has no context."
        )
    if saved.task.level == "frame":
        yield (
            f"Thresholds are in `bab.json`, by preset; pauses under {about['fill_gaps']} ms are "
            f"closed and segments under {about['min_segment']} ms dropped, in this order. "
            "Thresholds were chosen for the training corpus's mix of voices."
        )
    if len(saved.labels) > 1:
        yield "Each kind of label has a softmax of its own: the groups stand in `bab.json`."
    if saved.task.level == "sequence" and folder.library == "transformers":
        yield "Text is read greedily; a language model, where the run had one, is left out."
    if saved.task.pairs:
        yield "A cosine is no probability: choose the threshold on recordings like yours."
        yield "Utterances of a few frames (under a third of a second) are an error there."


def _group_norm(encoder: nn.Module) -> bool:
    return any(isinstance(module, nn.GroupNorm) for module in encoder.modules())


def _credits(source: Source) -> Iterator[str]:
    yield (
        "Licence of this model: not stated by whoever exported it. The encoder's weights and the "
        "training data have terms of their own, which hold for what is made of them."
    )
    for name in _corpora(source):
        cls = _component("datasets", name)
        credit = getattr(cls, "source", "") or "not stated"
        licence = (
            getattr(cls, "licence", "") or "not stated in the record: see the corpus's own page"
        )
        if _sample(source):
            credit, licence = "synthetic recordings that ship with bab", "CC0"
        yield f"Data, {name}: {credit}. Licence: {licence}."
    family = source.began.partition(":")[0]
    made = getattr(_component("encoders", family), "source", "") or "not stated"
    yield f"Encoder, {public(source.began)}: {made}. Licence: see the page of its weights."
    if source.saved is not None:
        yield f"Task: {type(source.saved.task).source or 'not stated'}."


def _component(kind: str, name: str) -> Any:
    """A component's class; None where its plugin is gone."""
    try:
        return registry.load(kind, name)
    except BabError:
        return None


def _citation(source: Source) -> str:
    return (
        "Cite the works named under credits (encoder, task, data), and the software:\n\n"
        "```bibtex\n@software{bab,\n"
        "  title = {bab: pretrain, adapt and compare self-supervised audio encoders},\n"
        f"  version = {{{_version(source)}}},\n  note = {{run {source.id}}}\n}}\n```"
    )


def _bullets(lines: Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
