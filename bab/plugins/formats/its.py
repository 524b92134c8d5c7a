"""Format `its`: what the LENA system heard, segment by segment. Read only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar, Literal
from xml.etree.ElementTree import Element

from pydantic import Field

import bab
from bab import Annotation, BabError, Mark
from bab.plugins.formats.shared.files import check_span
from bab.plugins.formats.shared.names import LENA
from bab.plugins.formats.shared.xml import LINE, parse_xml

_DURATION = re.compile(r"P(?:T)?(\d+(?:\.\d+)?)S")
_COUNTS = {  # value -> the attributes that it adds up
    "words": ("femaleAdultWordCnt", "maleAdultWordCnt"),
    "utterances_count": ("femaleAdultUttCnt", "maleAdultUttCnt", "childUttCnt"),
}
_LENGTHS = {  # the same, in milliseconds
    "utterances_length": ("femaleAdultUttLen", "maleAdultUttLen", "childUttLen"),
    "non_speech_length": ("femaleAdultNonSpeechLen", "maleAdultNonSpeechLen"),
    "child_cry_vfx_len": ("childCryVfxLen",),
}
_TURNS = {  # value -> its place in conversationInfo: |RC|1|1|2|XIC|TIFR|FI|
    "lena_conv_status": 0, "lena_response_count": 3, "lena_conv_turn_type": 5,
    "lena_conv_floor_type": 6,
}  # fmt: skip
_PARTS = (("utterances", "Utt"), ("cries", "Cry"), ("vfxs", "Vfx"))


class Its(bab.Format):
    """LENA's .its: a mark for each segment; values are called as ChildProject's columns are.

    Near voices are labelled with their voice type, everything else with LENA's code (OLN, SIL,
    CHF ...); the speaker is the code. A recorder that was paused gives several parts in one file:
    their times go on, and the clock is that of the first.
    """

    class Options(bab.Options):
        """Options of the format `its`."""

        segments: Literal["all", "voices"] = Field(
            "all", description="voices: leave out what is no near voice (SIL, TVN, OLN, CHF ...)"
        )

    suffixes: ClassVar[tuple[str, ...]] = (".its",)
    keeps: ClassVar[frozenset[str]] = frozenset({"speaker", "values", "duration", "began"})
    writes: ClassVar[bool] = False
    source: ClassVar[str] = "LENA Foundation, technical reports; HomeBank's lena-its-tools"

    def read(self, path: Path) -> list[Annotation]:
        root = parse_xml(path, "ITS", "LENA's ITS")
        recordings = root.findall("./ProcessingUnit/Recording")
        if not recordings:
            raise BabError(f"{path}: holds no <Recording>: LENA hasn't processed it to the end")
        marks = [mark for one in recordings for mark in _marks(one, path)]
        if self.options.segments == "voices":
            kept = [mark for mark in marks if mark.speaker in LENA]
            if len(kept) < len(marks):
                self.notices.append(f"{len(marks) - len(kept)} segments of no near voice left out")
            marks = kept
        if len(recordings) > 1:
            self.notices.append(
                f"the recorder was paused {len(recordings) - 1} times: times of day after the "
                "first pause are later than the clock of the first part says"
            )
        end = max(_time(one, "endTime", path) for one in recordings)
        began, notice = _clock(root, recordings[0])
        if notice:
            self.notices.append(notice)
        return [Annotation(path.stem, tuple(marks), end, began)]

    def write(self, annotations: Sequence[Annotation], path: Path) -> None:
        bab.fit_annotations(self, annotations, path)  # says that it is read only


def _marks(recording: Element, path: Path) -> Iterator[Mark]:
    for block in recording:
        if block.tag not in ("Pause", "Conversation"):
            continue
        kind = "pause" if block.tag == "Pause" else block.get("type", "")
        about = {"lena_block_number": block.get("num", ""), "lena_block_type": kind}
        for segment in block.findall("Segment"):
            code, place = segment.get("spkr", ""), f"{path}:{segment.get(LINE)}"
            if not code:
                raise BabError(f"{place}: a <Segment> without spkr")
            times = _time(segment, "startTime", path), _time(segment, "endTime", path)
            start, end = check_span(*times, place)
            values = {k: v for k, v in (about | _values(segment, path)).items() if v}
            yield Mark(start, end, LENA.get(code, code), code, values=values)


def _values(segment: Element, path: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, parts in _COUNTS.items():
        if any(part in segment.attrib for part in parts):
            values[name] = f"{sum(_number(segment, part, path) for part in parts):g}"
    for name, parts in _LENGTHS.items():
        if any(part in segment.attrib for part in parts):
            total = sum(_time(segment, part, path) for part in parts if part in segment.attrib)
            values[name] = str(round(total * 1000))
    values["average_db"] = segment.get("average_dB", "")
    values["peak_db"] = segment.get("peak_dB", "")
    turn = segment.get("conversationInfo", "").split("|")[1:-1]
    for name, place in _TURNS.items():
        if place < len(turn) and turn[place] != "NA":
            values[name] = turn[place]
    for name, part in _PARTS:
        values[name] = _parts(segment, part, path)
    return values


def _parts(segment: Element, part: str, path: Path) -> str:
    """startCry1="PT1.2S" endCry1="PT2S" ... as JSON: [{"start": 1.2, "end": 2.0}]; "" = none."""
    spans = []
    for number in range(1, len(segment.attrib)):
        if f"start{part}{number}" not in segment.attrib:
            break
        start, end = (_time(segment, f"{side}{part}{number}", path) for side in ("start", "end"))
        spans.append({"start": start, "end": end})
    return json.dumps(spans) if spans else ""


def _number(element: Element, name: str, path: Path) -> float:
    text = element.get(name, "0")
    try:
        return float(text)
    except ValueError:
        raise BabError(f"{path}:{element.get(LINE)}: {name}={text!r} is no number") from None


def _time(element: Element, name: str, path: Path) -> float:
    """An attribute such as "PT12.27S", in seconds."""
    text = element.get(name, "")
    match = _DURATION.fullmatch(text)
    if match is None:
        raise BabError(
            f"{path}:{element.get(LINE)}: <{element.tag}> has {name}={text!r}, not a time such as "
            "PT12.27S"
        )
    return float(match.group(1))


def _clock(root: Element, first: Element) -> tuple[datetime | None, str]:
    """The local time at which it begins, and a notice. LENA writes UTC; how far local time is from
    it, summer time included, shows where the recorder was read out (TransferTime)."""
    try:
        begin = _utc(first.get("startClockTime", ""))
    except ValueError:
        return None, "the clock at which it begins isn't said"
    transfer = root.find(".//TransferTime")
    zone = root.find(".//TimeZone[@StandardSecondsOffset]")
    try:
        if transfer is not None:
            local, utc = _utc(transfer.get("LocalTime", "")), _utc(transfer.get("UTCTime", ""))
            return begin + (local - utc), ""
        if zone is not None:
            offset = timedelta(seconds=int(zone.get("StandardSecondsOffset", "")))
            return begin + offset, "times of day are in the zone's standard time"
    except ValueError:
        pass
    return begin, "times of day are UTC: the file names no zone"


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix("Z"))
