"""Clips in columns, for corpora of millions of clips."""

from bab.columns.clips import Clips as Clips
from bab.columns.clips import ClipsBuilder as ClipsBuilder
from bab.columns.clips import Repeated as Repeated
