"""What is to be predicted, under which names: every way to name it, by table; and what is kept."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from bab.core.errors import AudioError, BabError
from bab.core.types import Clip
from bab.data.content import content_id
from bab.predicting import recordings as module
from bab.predicting.kept import Kept, Results, digest_of
from bab.predicting.recordings import Named, Recording, of_array, recordings, seconds_of


def sounds(folder: Path, *names: str) -> None:
    """Files that look like audio, each of other bytes."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF" + bytes([number]))


def names(*inputs: str | Path, known: list[Named] | None = None) -> list[str]:
    listed, left = recordings(inputs, known=known or [])
    assert not left
    return [one.name for one in listed]


def test_a_folders_recordings_have_their_paths_below_it(tmp_path: Path) -> None:
    sounds(tmp_path, "b/x.wav", "a.flac", "b/c/y.mp3", ".hidden/z.wav", "b/.z.wav", "readme.txt")
    assert names(tmp_path) == ["a", "b/c/y", "b/x"]
    listed, _ = recordings([tmp_path])
    assert [one.path for one in listed] == [
        str(tmp_path / name) for name in ("a.flac", "b/c/y.mp3", "b/x.wav")
    ]
    assert {(one.start, one.end, one.array, one.rate, one.began) for one in listed} == {
        (0.0, None, None, 0, "")
    }
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BabError) as error:
        recordings([empty])
    told = "holds no audio file: looked for wav, flac, ogg, opus, mp3, m4a ..."
    assert str(error.value) == f"{empty} {told}"


def test_what_is_no_regular_file_or_cant_be_looked_into_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    listed, left = recordings([tmp_path])
    assert listed == [] and left == {str(tmp_path / "pipe.wav"): "is no regular file"}
    sounds(tmp_path, "a.wav")
    (tmp_path / "locked").mkdir()
    walk = os.walk

    def refused(top: Any, onerror: Any) -> Any:
        onerror(PermissionError(13, "Permission denied", str(tmp_path / "locked")))
        return walk(top, onerror=onerror)

    monkeypatch.setattr(module.os, "walk", refused)
    listed, left = recordings([tmp_path])
    assert [one.name for one in listed] == ["a"]
    why = "can't be read (Permission denied): see its permissions"
    assert left[str(tmp_path / "locked")] == why


@pytest.mark.parametrize(
    ("files", "named", "expected"),
    [
        # Of one name in two folders, what stands before it tells them apart ...
        (["a/x.wav", "b/x.wav"], ["a/x.wav", "b/x.wav"], ["a/x", "b/x"]),
        (["a/x.wav", "b/X.wav", "b/y.wav"], ["a/x.wav", "b/X.wav", "b/y.wav"], ["a/x", "b/X", "y"]),
        # ... where that is the same, the ending, and then a digest of the place.
        (["a/x.wav", "a/x.flac"], ["a/x.wav", "a/x.flac"], ["a/x.wav", "a/x.flac"]),
        (["a/x.wav", "c/a/x.wav"], ["a/x.wav", "c/a/x.wav"], ["a/x.wav-#", "a/x.wav-#"]),
        # Names that tables have.
        (["summary.wav", "vtc.wav"], ["summary.wav", "vtc.wav"], ["TOP/summary", "TOP/vtc"]),
        (["x.wav"], ["x.wav", "x.wav"], ["x"]),
        (["a:b?.wav", "c\x01d.wav"], ["a:b?.wav", "c\x01d.wav"], ["a_b_", "c_d"]),
        ([".hidden.wav", "..wav"], [".hidden.wav"], ["_.hidden"]),
    ],
)
def test_two_of_one_name_are_told_apart(
    tmp_path: Path, files: list[str], named: list[str], expected: list[str]
) -> None:
    top = tmp_path / "TOP"
    sounds(top, *files)
    given = names(*[top / name for name in named])
    shown = [n[:-8] + "#" if e.endswith("#") else n for n, e in zip(given, expected, strict=True)]
    assert shown == expected and len({name.casefold() for name in given}) == len(given)


def test_a_name_below_a_folder_gets_no_parent(tmp_path: Path) -> None:
    sounds(tmp_path, "in/a/x.wav", "b/a/x.wav")
    first, second = names(tmp_path / "in", tmp_path / "b")
    assert first.startswith("a/x.wav-") and second.startswith("a/x.wav-") and first != second


def known_as(path: Path, name: str, start: float = 0.0, end: float | None = None) -> Named:
    return Named(name, str(path), start, end, content_id(path))


def test_a_name_that_was_given_stays_and_no_other_gets_it(tmp_path: Path) -> None:
    sounds(tmp_path, "a/x.wav", "b/x.wav", "c/x.wav")
    before = [known_as(tmp_path / "a/x.wav", "first")]
    assert names(tmp_path / "a/x.wav", known=before) == ["first"]
    assert names(tmp_path / "b/x.wav", tmp_path / "a/x.wav", known=before) == ["x", "first"]
    taken = [known_as(tmp_path / "a/x.wav", "X")]
    assert names(tmp_path / "b/x.wav", known=taken) == ["b/x"]  # also in another case
    # A file that is elsewhere now has its name if it holds the same; each name is given once.
    (tmp_path / "b/x.wav").write_bytes((tmp_path / "a/x.wav").read_bytes())
    assert names(tmp_path / "b/x.wav", known=before) == ["first"]
    both = names(tmp_path / "a/x.wav", tmp_path / "b/x.wav", known=before)
    assert both == ["first", "x"]  # it is where it was: a copy is another
    assert names(tmp_path / "c/x.wav", known=before) == ["x"]
    (tmp_path / "c/x.wav").write_bytes((tmp_path / "a/x.wav").read_bytes())
    both = names(tmp_path / "b/x.wav", tmp_path / "c/x.wav", known=before)
    assert both == ["first", "x"]
    gone = Named("gone", str(tmp_path / "z/x.wav"), 0.0, None, before[0].digest)
    assert names(tmp_path / "a/x.wav", known=[*before, gone]) == ["first"]
    part = [known_as(tmp_path / "a/x.wav", "part", 1.0, 2.0)]
    assert names(tmp_path / "b/x.wav", known=part) == ["x"]  # another stretch of it


def test_what_a_file_has_moved_means(tmp_path: Path) -> None:
    sounds(tmp_path, "x.wav", "y.wav")
    here = known_as(tmp_path / "x.wav", "x", 1.0, 2.0)
    same = Recording("x", str(tmp_path / "x.wav"), 5.0, None)
    assert here.moved(same)  # the same name and file: a corpus tells other ends
    assert not here.moved(replace(same, name="z"))
    assert here.moved(replace(same, name="z", start=1.0, end=2.0))
    assert not here.moved(replace(same, name="z", start=1.0, end=3.0))
    assert not here.moved(Recording("z", str(tmp_path / "y.wav"), 1.0, 2.0))
    assert not here.moved(Recording("z", str(tmp_path / "gone.wav"), 1.0, 2.0))  # can't be read


def test_a_list_names_what_lies_beside_it_or_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds(tmp_path, "lists/a.wav", "here/a.wav", "here/b.wav", "lists/more/c.wav")
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "lists/files.txt"
    path.write_text("\ufeffa.wav\n  # b.wav\n\n b.wav \nmore\nnot there.wav\n", encoding="utf-8")
    listed, _ = recordings([f"@{path}"])
    assert [one.path for one in listed] == [
        str(tmp_path / name)
        for name in ("here/a.wav", "here/b.wav", "lists/more/c.wav", "here/not there.wav")
    ]
    (tmp_path / "here/a.wav").unlink()
    assert recordings([f"@{path}"])[0][0].path == str(tmp_path / "lists/a.wav")
    (tmp_path / "here/@odd.wav").write_bytes(b"RIFF")
    assert names("@odd.wav") == ["@odd"]  # a file of that name is no list
    path.write_bytes(b"\xff\xfe")
    told = rf"{path}: can't be read as a list of files \('utf-8' codec can't decode byte 0xff"
    with pytest.raises(BabError, match=told):
        recordings([f"@{path}"])
    with pytest.raises(BabError) as caught:
        recordings(["@gone.txt"])
    told = "gone.txt: can't be read as a list of files (No such file or directory)"
    assert str(caught.value) == told


def test_a_corpus_misspelt_is_no_file_and_options_need_a_corpus(tmp_path: Path) -> None:
    sounds(tmp_path, "here/a.wav")
    with pytest.raises(BabError, match=r"no corpus called 'rtm': did you mean 'rttm'\?"):
        recordings([f"rtm:{tmp_path / 'here'}"])
    # No name of a corpus is near, or no such folder is there: a file that isn't there.
    assert names("song:1.wav") == ["song_1"] and names("rtm:1.wav") == ["rtm_1"]
    with pytest.raises(BabError) as caught:
        recordings([tmp_path / "here"], sets=["corpus.format=eaf"])
    assert str(caught.value) == (
        "--set corpus.format=eaf: of a corpus, and none is named (rttm:FOLDER)"
    )


def test_a_corpus_names_its_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [
        Clip("one", "/x.wav", 1.0, 2.0, "g", began=time(7, 8, 9)),
        Clip("two", "/x.wav", 2.0, 3.0, "g"),
    ]
    asked: list[Any] = []

    def opened(config: Any, permissions: Any) -> Any:
        asked.append((config.name, config.root, config.options, permissions))
        return SimpleNamespace(clips=lambda: clips)

    monkeypatch.setattr(module, "open_corpus", opened)
    listed, _ = recordings(["rttm:/nowhere"], offline=True)
    assert listed == [
        Recording("one", "/x.wav", 1.0, 2.0, began="07:08:09"),
        Recording("two", "/x.wav", 2.0, 3.0),
    ]
    ((name, root, _, permissions),) = asked
    assert (name, root, permissions.offline, permissions.leakage) == (
        "rttm",
        "/nowhere",
        True,
        True,
    )
    recordings(["rttm:/nowhere"])
    assert not asked[1][3].offline


def test_seconds_are_what_a_header_says_of_the_stretch(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(24000, np.float32), 8000)
    for start, end, seconds in (
        (0.0, None, 3.0), (1.0, None, 2.0), (0.5, 2.0, 1.5), (1.0, 9.0, 2.0), (4.0, None, 0.0),
    ):  # fmt: skip
        assert seconds_of(Recording("a", str(path), start, end)) == seconds
    assert seconds_of(Recording("a", str(tmp_path / "none.wav"))) == 0.0
    assert seconds_of(Recording("a", array=np.zeros(300, np.float32), rate=100)) == 3.0


def test_an_array_is_heard_at_any_rate_from_any_sample(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    held = of_array(noise, 16000)
    assert held.name == "array" and held.open() is None and held.rate == 16000
    (part,) = held.blocks(None, 16000, 7)
    assert np.array_equal(part, noise[7:])
    (slow,) = held.blocks(None, 8000, 100)
    assert np.array_equal(slow, soxr.resample(noise, 16000, 8000, quality="HQ")[100:])
    other = of_array(noise + 1, 16000)
    assert held.digest() == of_array(noise, 8000).digest() != other.digest()
    assert len(held.digest()) == 32
    with pytest.raises(AudioError):
        Recording("a", str(tmp_path / "none.wav")).digest()


# ------------------------------------------------------------------------------- what is kept


def kept(name: str, **changes: Any) -> Kept:
    values: dict[str, Any] = {"key": f"k-{name}", "made_by": "m", "name": name, "path": f"/{name}"}
    return Kept(**(values | {"digest": "d", "seconds": 1.0, "start": 0.5, "end": 2.0} | changes))


def test_results_are_found_by_name_and_key(tmp_path: Path) -> None:
    results = Results(tmp_path, Kept, "embed")
    one, two, other = kept("b"), kept("a", start=None), kept("c", made_by="n")
    for each in (one, two, other):
        results.keep(each)
    for again in (results, Results(tmp_path, Kept, "embed")):
        assert again.find("b") == again.find("b", "k-b") == one
        assert again.find("b", "k-a") is None and again.find("none") is None
        assert list(again.all("m")) == [two, one] and list(again.all("x")) == []
        assert (again.others("m"), again.others("n"), again.others("x")) == (1, 2, 3)
        # One of a version that didn't note where in its file it was has no name to keep.
        assert sorted(again.names()) == [
            Named("b", "/b", 0.5, 2.0, "d"), Named("c", "/c", 0.5, 2.0, "d"),
        ]  # fmt: skip
    assert results.folder == tmp_path / ".bab" / "embed"
    assert not Results(tmp_path, Kept).names()  # another command's
    assert results.place("b").parent.parent == results.folder / "done"
    assert results.place("b").stem[:2] == results.place("b").parent.name


def test_what_was_begun_has_a_name_until_it_ends(tmp_path: Path) -> None:
    results = Results(tmp_path, Kept)
    results.begin("key", Recording("a", "/a.wav", 1.0, 2.5), "digest")
    assert results.names() == [Named("a", "/a.wav", 1.0, 2.5, "digest")]
    assert results.spool("key") == tmp_path / ".bab/begun/key"
    (results.spool("key") / "rows").write_text("rows")
    note = results.spool("key") / "recording.json"
    note.write_text(note.read_text().replace("2.5", "3.5"))
    assert results.names() == []  # damaged
    results.end("key")
    results.end("key")
    assert not results.spool("key").exists()


def test_a_damaged_result_isnt_done(tmp_path: Path) -> None:
    Results(tmp_path, Kept).keep(kept("a"))
    path = Results(tmp_path, Kept).place("a")
    whole = path.read_text()
    for text in (whole.replace('"m"', '"n"'), whole[:20], "[]", '{"name": "a"}'):
        path.write_text(text)
        again = Results(tmp_path, Kept)
        assert again.find("a") is None and list(again.all("m")) == [] and not again.names()
        assert again.others("x") == 0


def test_what_an_earlier_result_left_goes_unless_somebody_changed_it(tmp_path: Path) -> None:
    results = Results(tmp_path, Kept)
    for name in ("same", "changed", "gone", "again"):
        (tmp_path / name).write_text(name)
    files = results.files([tmp_path / n for n in ("same", "changed", "gone", "again")])
    assert files["same"] == digest_of(tmp_path / "same") != files["changed"]
    assert len(files["same"]) == 16
    results.keep(kept("a", files=files))
    (tmp_path / "changed").write_text("by hand")
    (tmp_path / "gone").unlink()
    said = results.clear(kept("a", files={"again": "x"}))
    assert said == [
        "changed is of an earlier model or other options, and was changed since: it stays as it is"
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".bab", "again", "changed"]
    assert results.clear(kept("new")) == []
