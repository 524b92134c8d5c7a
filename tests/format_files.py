"""Small annotation files as other tools write them, made up for the tests; and how to read them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from bab.core.annotations import Annotation, Mark
from bab.data.annotations import open_format

DAY = Annotation(
    "home 01",
    (
        Mark(0.1234, 1.5, "KCHI", "CHI", "baba", {"vcm": "C"}),
        Mark(1.4, 2.75, "FEM", "FA1", "où ?", {"addressee": "T"}),
        Mark(2.0, 3.0, "FEM", "FA2"),
        Mark(36000.0, 36001.001, "OCH"),
    ),
    duration=57600.0,
    began=datetime(2024, 5, 17, 8, 30),
    media="home 01.wav",
    scored=((0.0, 60.0), (36000.0, 36060.0)),
)


def read(name: str, path: Path, text: str | None = None, **options):
    """One file's annotation, and the format with its notices."""
    if text is not None:
        path.write_text(text, encoding="utf-8")
    form = open_format(name, options)
    (one,) = form.read(path)
    return one, form


def write(name: str, path: Path, *annotations: Annotation, **options):
    form = open_format(name, options)
    form.write(annotations, path)
    return form.notices


def said(one: Annotation) -> list[tuple[float, float, str, str]]:
    return [(round(m.start, 3), round(m.end, 3), m.label, m.speaker) for m in one.marks]


ITS = """<?xml version="1.0" encoding="UTF-8" ?>
<!DOCTYPE ITS SYSTEM "its.dtd" >
<ITS fileName="e20240517_083015_012345" version="4.6.0">
  <ProcessingUnit>
    <UPL_Header><TransferredUPL><RecordingInformation>
      <TransferTime LocalTime="2024-05-18T12:00:00" TimeZone="CET" UTCTime="2024-05-18T10:00:00" />
      <Audio><TimeZone StandardSecondsOffset="3600" UsesDST="1" /></Audio>
    </RecordingInformation></TransferredUPL></UPL_Header>
    <Recording num="1" startClockTime="2024-05-17T06:30:15Z" startTime="PT0.00S"
      endTime="PT9.50S">
      <Pause num="1" startTime="PT0.00S" endTime="PT2.00S">
        <Segment spkr="SIL" peak_dB="-50.0" startTime="PT0.00S" endTime="PT1.04S" />
        <Segment spkr="CHF" startTime="PT1.04S" endTime="PT2.00S" />
      </Pause>
      <Conversation num="1" type="CIC" startTime="PT2.00S" endTime="PT9.50S">
        <Segment spkr="CHN" average_dB="-26.9" peak_dB="-17.3"
          conversationInfo="|BC|1|1|0|CIC|NT|FI|"
          childUttCnt="1" childUttLen="P0.80S" startUtt1="PT2.10S" endUtt1="PT2.90S"
          startCry1="PT3.00S" endCry1="PT3.50S" childCryVfxLen="P0.50S"
          startTime="PT2.00S" endTime="PT3.75S" />
        <Segment spkr="FAN" average_dB="-25.0" peak_dB="-13.7"
          conversationInfo="|EC|1|1|1|CIC|TIFR|FH|"
          femaleAdultWordCnt="5.76" femaleAdultNonSpeechLen="P0.25S" femaleAdultUttCnt="2"
          femaleAdultUttLen="P1.50S" startTime="PT3.75S" endTime="PT6.00S" />
        <Segment spkr="MAN" startTime="PT6.00S" endTime="PT7.00S" />
        <Segment spkr="CXN" startTime="PT7.00S" endTime="PT9.50S" />
      </Conversation>
    </Recording>
  </ProcessingUnit>
</ITS>
"""

CHA = """@UTF8
@PID:\t0/none
@Begin
@Languages:\teng
@Participants:\tCHI Ada Target_Child, MOT Mother, SIS Bea Sister, INV Cy
\tInvestigator
@ID:\teng|made|CHI|1;06.|female|||Target_Child|||
@ID:\teng|made|INV||male|||Investigator|||
@Media:\thome01, audio
@Date:\t17-MAY-2024
@Time Start:\t08:30:15
*CHI:\tbaba . \x150_1250\x15
%add:\tMOT
*MOT:\twhere is the
\tdog ? \x151250_3100\x15
%mor:\tadv|where cop|is det|the n|dog ?
%add:\tCHI, SIS
*SIS:\there [!] . [+ x] \x153100_4000\x15
*INV:\t\x153900_4500\x15
*MOT:\tno bullet here .
@End
"""

EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-17T10:00:00+01:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///recordings/home01.wav" MIME_TYPE="audio/x-wav"/>
    <PROPERTY NAME="lastUsedAnnotationId">9</PROPERTY>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/>
    <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1500"/>
    <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="1400"/>
    <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="2750"/>
    <TIME_SLOT TIME_SLOT_ID="ts5"/>
    <TIME_SLOT TIME_SLOT_ID="ts6" TIME_VALUE="60000"/>
  </TIME_ORDER>
  <TIER LINGUISTIC_TYPE_REF="transcription" PARTICIPANT="CHI" TIER_ID="CHI">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
      <ANNOTATION_VALUE>0.</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="VCM" PARENT_REF="CHI" TIER_ID="vcm@CHI">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a2" ANNOTATION_REF="a1">
      <ANNOTATION_VALUE>C</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="LEX" PARENT_REF="vcm@CHI" TIER_ID="lex@CHI">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a2">
      <ANNOTATION_VALUE>W</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="transcription" PARTICIPANT="FA1" TIER_ID="FA1">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a4" TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4">
      <ANNOTATION_VALUE>où ?</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a5" TIME_SLOT_REF1="ts4" TIME_SLOT_REF2="ts5">
      <ANNOTATION_VALUE>adrift</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="XDS" PARENT_REF="FA1" TIER_ID="xds@FA1">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a6" ANNOTATION_REF="a4">
      <ANNOTATION_VALUE>T</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="XDS" PARENT_REF="FA1" TIER_ID="gloss">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a7" ANNOTATION_REF="a4">
      <ANNOTATION_VALUE>where</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="transcription" TIER_ID="code">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a8" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts6">
      <ANNOTATION_VALUE>1</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="transcription" TIME_ALIGNABLE="true"/>
  <LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Association"
    LINGUISTIC_TYPE_ID="VCM" TIME_ALIGNABLE="false"/>
  <LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Association"
    LINGUISTIC_TYPE_ID="LEX" TIME_ALIGNABLE="false"/>
  <LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Association"
    LINGUISTIC_TYPE_ID="XDS" TIME_ALIGNABLE="false"/>
  <CONSTRAINT DESCRIPTION="1-1 association with a parent annotation"
    STEREOTYPE="Symbolic_Association"/>
</ANNOTATION_DOCUMENT>
"""

TEXTGRID = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 10
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "    CHI*"
        xmin = 0
        xmax = 10
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 1.602202475775698
            text = ""
        intervals [2]:
            xmin = 1.602202475775698
            xmax = 2.25
            text = "1"
        intervals [3]:
            xmin = 2.25
            xmax = 10
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "FA1"
        xmin = 0
        xmax = 10
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 4.5
            text = "she said ""no"""
        intervals [2]:
            xmin = 4.5
            xmax = 10
            text = ""
    item [3]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 10
        points: size = 1
        points [1]:
            number = 5
            mark = "x"
'''
