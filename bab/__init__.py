"""bab: pretrain, adapt and compare self-supervised audio encoders. Nothing heavy is imported here.

`bab.run(...)`, `bab.load(...)`, `bab.table(...)`, the contracts, and all else that a plugin
needs, are loaded on first use. docs/plugins.md says what each name is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bab.api.bench import Bench as Bench
    from bab.api.bench import bench as bench
    from bab.api.models import embed as embed
    from bab.api.models import explain as explain
    from bab.api.models import load as load
    from bab.api.models import load_encoder as load_encoder
    from bab.api.models import predict as predict
    from bab.api.runs import Pretrained as Pretrained
    from bab.api.runs import Run as Run
    from bab.api.runs import evaluate as evaluate
    from bab.api.runs import pretrain as pretrain
    from bab.api.runs import run as run
    from bab.api.table import table as table
    from bab.audio.reading import SUFFIXES as AUDIO_SUFFIXES
    from bab.audio.reading import duration as audio_duration
    from bab.audio.reading import info as audio_info
    from bab.audio.reading import read as read_audio
    from bab.checking.contracts import contract_fault as contract_fault
    from bab.config.plugins import read_plugin as read_plugin
    from bab.config.plugins import use_plugin as use_plugin
    from bab.core.annotations import Annotation as Annotation
    from bab.core.annotations import Format as Format
    from bab.core.annotations import Mark as Mark
    from bab.core.atomic import atomic_folder as atomic_folder
    from bab.core.atomic import atomic_path as atomic_path
    from bab.core.atomic import write_bytes as write_bytes
    from bab.core.atomic import write_json as write_json
    from bab.core.atomic import write_text as write_text
    from bab.core.caches import cache_root as cache_root
    from bab.core.errors import AudioError as AudioError
    from bab.core.errors import BabError as BabError
    from bab.core.errors import ConfigError as ConfigError
    from bab.core.errors import CorpusError as CorpusError
    from bab.core.errors import DivergedError as DivergedError
    from bab.core.errors import LeakageError as LeakageError
    from bab.core.errors import NotApplicableError as NotApplicableError
    from bab.core.errors import PluginError as PluginError
    from bab.core.errors import did_you_mean as did_you_mean
    from bab.core.grid import Grid as Grid
    from bab.core.interfaces import Corpus as Corpus
    from bab.core.interfaces import Encoder as Encoder
    from bab.core.interfaces import Head as Head
    from bab.core.interfaces import Objective as Objective
    from bab.core.interfaces import Scorer as Scorer
    from bab.core.interfaces import Task as Task
    from bab.core.launchers import Launcher as Launcher
    from bab.core.launchers import Standing as Standing
    from bab.core.launchers import Work as Work
    from bab.core.names import fitted as fitted
    from bab.core.observers import hookimpl as hookimpl
    from bab.core.options import Options as Options
    from bab.core.record import Record as Record
    from bab.core.record import RunInfo as RunInfo
    from bab.core.sealed import write_tensors as write_tensors
    from bab.core.seeds import derive as derive_seed
    from bab.core.types import Batch as Batch
    from bab.core.types import Clip as Clip
    from bab.core.types import Encoded as Encoded
    from bab.core.types import Features as Features
    from bab.core.types import Labels as Labels
    from bab.core.types import Loss as Loss
    from bab.core.types import Output as Output
    from bab.core.types import Permissions as Permissions
    from bab.core.types import Prediction as Prediction
    from bab.core.types import Segment as Segment
    from bab.core.types import Term as Term
    from bab.core.types import Trial as Trial
    from bab.core.types import View as View
    from bab.core.types import Waves as Waves
    from bab.core.weights import WeightsError as WeightsError
    from bab.core.weights import fingerprint as fingerprint
    from bab.core.weights import read_json as read_json
    from bab.data.annotations import fit_annotations as fit_annotations
    from bab.data.annotations import open_format as open_format
    from bab.data.sealed import check_parquet as check_parquet
    from bab.data.splits import by_group as split_by_group
    from bab.data.splits import check_disjoint as check_disjoint
    from bab.data.splits import components as split_components
    from bab.data.splits import ungrouped as ungrouped
    from bab.exporting.export import export as export
    from bab.hub.files import checkpoint as find_checkpoint
    from bab.hub.files import read_folder as read_weights
    from bab.hub.files import read_tensors as read_tensors
    from bab.hub.weights import locate as locate_weights
    from bab.predicting.predictor import Predictor as Predictor
    from bab.results.cells import CsvWriter as CsvWriter
    from bab.results.cells import plain as plain_cell
    from bab.results.printable import printable as printable
    from bab.results.segments import write_segments as write_segments
    from bab.running.published import ModelParts as ModelParts
    from bab.running.published import ModelReader as ModelReader

__version__ = "0.1.0"

_SAME = {  # module -> names that are called the same there
    "bab.api.bench": "Bench bench",
    "bab.api.models": "embed explain load load_encoder predict",
    "bab.api.runs": "Pretrained Run evaluate pretrain run",
    "bab.api.table": "table",
    "bab.checking.contracts": "contract_fault",
    "bab.config.plugins": "read_plugin use_plugin",
    "bab.core.annotations": "Annotation Format Mark",
    "bab.core.atomic": "atomic_folder atomic_path write_bytes write_json write_text",
    "bab.core.errors": "AudioError BabError ConfigError CorpusError DivergedError LeakageError "
    "NotApplicableError PluginError did_you_mean",
    "bab.core.grid": "Grid",
    "bab.core.interfaces": "Corpus Encoder Head Objective Scorer Task",
    "bab.core.launchers": "Launcher Standing Work",
    "bab.core.names": "fitted",
    "bab.core.observers": "hookimpl",
    "bab.core.options": "Options",
    "bab.core.record": "Record RunInfo",
    "bab.core.sealed": "write_tensors",
    "bab.core.types": "Batch Clip Encoded Features Labels Loss Output Permissions Prediction "
    "Segment Term Trial View Waves",
    "bab.core.weights": "WeightsError fingerprint read_json",
    "bab.hub.files": "read_tensors",
    "bab.data.sealed": "check_parquet",
    "bab.data.annotations": "fit_annotations open_format",
    "bab.core.caches": "cache_root",
    "bab.data.splits": "check_disjoint ungrouped",
    "bab.exporting.export": "export",
    "bab.results.cells": "CsvWriter",
    "bab.results.printable": "printable",
    "bab.results.segments": "write_segments",
    "bab.predicting.predictor": "Predictor",
    "bab.running.published": "ModelParts ModelReader",
}
_LAZY = {name: (module, name) for module, names in _SAME.items() for name in names.split()} | {
    "AUDIO_SUFFIXES": ("bab.audio.reading", "SUFFIXES"),
    "audio_duration": ("bab.audio.reading", "duration"),
    "audio_info": ("bab.audio.reading", "info"),
    "derive_seed": ("bab.core.seeds", "derive"),
    "find_checkpoint": ("bab.hub.files", "checkpoint"),
    "plain_cell": ("bab.results.cells", "plain"),
    "locate_weights": ("bab.hub.weights", "locate"),
    "read_audio": ("bab.audio.reading", "read"),
    "read_weights": ("bab.hub.files", "read_folder"),
    "split_by_group": ("bab.data.splits", "by_group"),
    "split_components": ("bab.data.splits", "components"),
}

_KIT = {  # module of bab.kit -> what plugins may import from bab.kit
    "agreement": "METRICS detection shares",
    "clips": "FINETUNE PROBE ClipTask column",
    "columns": "Clips ClipsBuilder Repeated",
    "confusion": "confused",
    "corpora": "ListedCorpus",
    "faults": "Faults",
    "finite": "refuse_diverged",
    "frames": "FrameOptions FrameTask",
    "layers": "GradScale ValidBatchNorm ValidGroupNorm mean_over_time standardise valid",
    "recordings": "AUDIO_SUFFIXES LATE SPLITS SPLIT_NAMES Divided Span audio_by_uri cut_to_file "
    "duration_of lines merge read_split_lists uncollected under uri_of walk",
    "rttms": "write_rttms",
    "segments": "Timeline heard inside intersect join last_pause marked multi_hot probabilities "
    "scored spoken thresholds_of union",
    "short": "AudioIndex given_splits whole_file",
    "tables": "Row read_columns read_table",
    "text": "character_errors normalise word_errors",
    "thresholds": "best_f1 candidates curve presets",
    "utterances": "Headers Parted SharedLabels gender made_trials pairs read_trials table",
    "verification": "equal_error_rate min_dcf operating_points",
}
KIT = {name: f"bab.kit.{module}" for module, names in _KIT.items() for name in names.split()}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'bab' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _LAZY[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
