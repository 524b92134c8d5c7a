"""What plugins of a kind share: bases of tasks and corpora, intervals, tables, trials, masks.

`from bab.kit import FrameTask`: each name is loaded when it is first used. `bab.KIT` lists them,
and docs/plugins.md says what each is for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bab.kit.agreement import METRICS as METRICS
    from bab.kit.agreement import detection as detection
    from bab.kit.agreement import shares as shares
    from bab.kit.clips import FINETUNE as FINETUNE
    from bab.kit.clips import PROBE as PROBE
    from bab.kit.clips import ClipTask as ClipTask
    from bab.kit.clips import column as column
    from bab.kit.columns import Clips as Clips
    from bab.kit.columns import ClipsBuilder as ClipsBuilder
    from bab.kit.columns import Repeated as Repeated
    from bab.kit.confusion import confused as confused
    from bab.kit.corpora import ListedCorpus as ListedCorpus
    from bab.kit.faults import Faults as Faults
    from bab.kit.finite import refuse_diverged as refuse_diverged
    from bab.kit.frames import FrameOptions as FrameOptions
    from bab.kit.frames import FrameTask as FrameTask
    from bab.kit.layers import GradScale as GradScale
    from bab.kit.layers import ValidBatchNorm as ValidBatchNorm
    from bab.kit.layers import ValidGroupNorm as ValidGroupNorm
    from bab.kit.layers import mean_over_time as mean_over_time
    from bab.kit.layers import standardise as standardise
    from bab.kit.layers import valid as valid
    from bab.kit.recordings import AUDIO_SUFFIXES as AUDIO_SUFFIXES
    from bab.kit.recordings import LATE as LATE
    from bab.kit.recordings import SPLIT_NAMES as SPLIT_NAMES
    from bab.kit.recordings import SPLITS as SPLITS
    from bab.kit.recordings import Divided as Divided
    from bab.kit.recordings import Span as Span
    from bab.kit.recordings import audio_by_uri as audio_by_uri
    from bab.kit.recordings import cut_to_file as cut_to_file
    from bab.kit.recordings import duration_of as duration_of
    from bab.kit.recordings import lines as lines
    from bab.kit.recordings import merge as merge
    from bab.kit.recordings import read_split_lists as read_split_lists
    from bab.kit.recordings import uncollected as uncollected
    from bab.kit.recordings import under as under
    from bab.kit.recordings import uri_of as uri_of
    from bab.kit.recordings import walk as walk
    from bab.kit.rttms import write_rttms as write_rttms
    from bab.kit.segments import Timeline as Timeline
    from bab.kit.segments import heard as heard
    from bab.kit.segments import inside as inside
    from bab.kit.segments import intersect as intersect
    from bab.kit.segments import join as join
    from bab.kit.segments import last_pause as last_pause
    from bab.kit.segments import marked as marked
    from bab.kit.segments import multi_hot as multi_hot
    from bab.kit.segments import probabilities as probabilities
    from bab.kit.segments import scored as scored
    from bab.kit.segments import spoken as spoken
    from bab.kit.segments import thresholds_of as thresholds_of
    from bab.kit.segments import union as union
    from bab.kit.short import AudioIndex as AudioIndex
    from bab.kit.short import given_splits as given_splits
    from bab.kit.short import whole_file as whole_file
    from bab.kit.tables import Row as Row
    from bab.kit.tables import read_columns as read_columns
    from bab.kit.tables import read_table as read_table
    from bab.kit.text import character_errors as character_errors
    from bab.kit.text import normalise as normalise
    from bab.kit.text import word_errors as word_errors
    from bab.kit.thresholds import best_f1 as best_f1
    from bab.kit.thresholds import candidates as candidates
    from bab.kit.thresholds import curve as curve
    from bab.kit.thresholds import presets as presets
    from bab.kit.utterances import Headers as Headers
    from bab.kit.utterances import Parted as Parted
    from bab.kit.utterances import SharedLabels as SharedLabels
    from bab.kit.utterances import gender as gender
    from bab.kit.utterances import made_trials as made_trials
    from bab.kit.utterances import pairs as pairs
    from bab.kit.utterances import read_trials as read_trials
    from bab.kit.utterances import table as table
    from bab.kit.verification import equal_error_rate as equal_error_rate
    from bab.kit.verification import min_dcf as min_dcf
    from bab.kit.verification import operating_points as operating_points


def __getattr__(name: str) -> Any:
    from bab import KIT

    if name not in KIT:
        raise AttributeError(f"module 'bab.kit' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(KIT[name]), name)
    return value
