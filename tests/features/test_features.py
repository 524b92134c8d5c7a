"""The feature store: same bits cached or not, addressed by content, bounded, shared."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from damaged import flipped
from train_worker import Small

from bab.audio import decoding
from bab.core.errors import DivergedError
from bab.core.interfaces import Encoder
from bab.core.types import Clip, Item, View, Window
from bab.data.windows import Examples
from bab.features.source import FeatureSource
from bab.features.store import Store


@pytest.fixture(autouse=True)
def slow_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 samples a second keep these tests quick; no recording has so few."""
    monkeypatch.setattr(decoding, "_SLOWEST", 1)


Make = Callable[..., FeatureSource]


def never() -> bool:
    return False


def quiet(done: float, total: float) -> None:
    """No progress."""


class Counting(Small):
    """Counts its forward passes."""

    calls = 0

    def forward(self, waves, mask=None, layers="all"):  # type: ignore[no-untyped-def]
        Counting.calls += 1
        return super().forward(waves, mask, layers)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "home.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 100 * 300)
    soundfile.write(path, noise.astype(np.float32), 100, subtype="FLOAT")
    return path


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(encoder: Encoder | None = None, budget: int = 10**9, layers="all", **more):  # type: ignore[no-untyped-def]
        torch.manual_seed(0)
        return FeatureSource(
            encoder or Counting(),
            layers,
            Store(tmp_path / "features", budget),
            tmp_path / "memo",
            torch.device("cpu"),
            **more,
        )

    return build


def windows(path: Path, encoder: Encoder, seconds: float = 4.0) -> list[Window]:
    region = Clip("home", str(path), 0.0, 300.0, "home")
    return Examples([region], View(window=seconds), encoder.grid, None).windows


def items(found: list[Window]) -> list[Item]:
    return [Item(window.clip, (window,)) for window in found]


def filled(source: FeatureSource, found: list[Window]) -> FeatureSource:
    source.plan(found)
    source.fill(0, 1, quiet, never)
    return source


def test_cached_and_computed_features_have_the_same_bits(
    wav: Path, make: Make, tmp_path: Path
) -> None:
    cached = make()
    found = windows(wav, cached.encoder)
    filled(cached, found)
    before = Counting.calls
    kept = cached.inputs(items(found[3:9]))
    assert Counting.calls == before
    for block in tmp_path.glob("features/??/*"):
        block.unlink()
    fresh = make(budget=0)
    fresh.plan(found)
    computed = fresh.inputs(items(found[3:9]))
    assert Counting.calls == before + 6
    assert torch.equal(kept.states, computed.states) and torch.equal(kept.lengths, computed.lengths)
    assert kept.states.shape == (6, 2, 40, 8)


def test_what_half_precision_can_not_hold_is_named_with_its_remedy(wav: Path, make: Make) -> None:
    class Loud(Small):
        scale = 1e6  # float16 ends at 65504

        def forward(self, waves, mask=None, layers="all"):  # type: ignore[no-untyped-def]
            encoded = super().forward(waves, mask, layers)
            return replace(encoded, layers=tuple(self.scale * x for x in encoded.layers))

    found = windows(wav, Small())[:2]
    half = make(Loud(), dtype=torch.float16)
    said = r"too large for torch\.float16 \(.*wav, 0 to 4 s\): use --set cache\.dtype=float32$"
    with pytest.raises(DivergedError, match=said):
        filled(half, found)
    filled(make(Loud()), found)


def test_nothing_is_encoded_twice_also_not_by_the_next_process(wav: Path, make: Make) -> None:
    found = windows(wav, Small())
    filled(make(), found)
    before = Counting.calls
    again = filled(make(), found)
    again.inputs(items(found))
    assert Counting.calls == before


def test_a_renamed_file_is_the_same_and_a_changed_one_is_not(wav: Path, make: Make) -> None:
    filled(make(), windows(wav, Small()))
    before = Counting.calls
    moved = wav.rename(wav.with_name("renamed.wav"))
    filled(make(), windows(moved, Small()))
    assert Counting.calls == before
    samples, rate = soundfile.read(moved)
    samples[7] += 0.01
    soundfile.write(moved, samples, rate, subtype="FLOAT")
    filled(make(), windows(moved, Small()))
    assert Counting.calls == before + len(windows(moved, Small()))


@pytest.mark.parametrize("change", ["weights", "layers", "window", "dtype", "keep", "pool"])
def test_whatever_features_depend_on_is_in_their_address(
    wav: Path, make: Make, change: str
) -> None:
    first = make()
    first.plan(windows(wav, first.encoder))
    encoder = Counting()
    encoder.fingerprint = "other" if change == "weights" else "small"
    other = make(
        encoder,
        layers="last" if change == "layers" else "all",
        dtype=torch.float16 if change == "dtype" else torch.float32,
        pool=change == "pool",
    )
    planned = windows(wav, encoder, 2.0 if change == "window" else 4.0)
    if change == "keep":
        planned = [replace(window, keep=(1, 40)) for window in planned]
    other.plan(planned)
    assert len(first.blocks) == 3 and other.blocks
    assert not {key for key, _ in first.blocks} & {key for key, _ in other.blocks}


def test_the_budget_is_kept_and_what_is_over_is_recomputed(
    wav: Path, make: Make, tmp_path: Path
) -> None:
    found = windows(wav, Small())
    whole = filled(make(), found).inputs(items(found)).states
    for path in (tmp_path / "features").glob("??/*"):
        path.unlink()
    budget = 2 * 32 * 40 * 2 * 8 * 4 + 1000  # room for two blocks of 32 windows, and headers
    small = filled(make(budget=budget), found)
    sizes = [p.stat().st_size for p in (tmp_path / "features").glob("??/*.safetensors")]
    assert len(sizes) == 2 and sum(sizes) <= budget * 1.01
    before = Counting.calls
    assert torch.equal(small.inputs(items(found)).states, whole)
    assert Counting.calls == before + len(found) - 64


def test_room_is_made_among_the_least_recently_used(wav: Path, make: Make, tmp_path: Path) -> None:
    store = Store(tmp_path / "features", 63_000)
    for number, key in enumerate(("aa1", "bb2", "cc3")):
        assert store.put(key, [torch.zeros(1, 5000, 1)])
        os.utime(store.path(key), (number, number))
    later = Store(tmp_path / "features", 63_000)
    assert later.claim("aa1")  # in use now: safe, though it was the oldest
    assert later.put("dd4", [torch.zeros(1, 6000, 1)])
    left = {p.stem for p in (tmp_path / "features").glob("??/*")}
    assert "aa1" in left and "dd4" in left and "bb2" not in left


def test_a_damaged_block_is_made_anew(wav: Path, make: Make, tmp_path: Path) -> None:
    found = windows(wav, Small())
    source = filled(make(), found)
    whole = source.inputs(items(found)).states
    block = sorted((tmp_path / "features").glob("??/*.safetensors"))[0]
    good = block.read_bytes()
    block.write_bytes(good[:100])
    assert torch.equal(source.inputs(items(found)).states, whole)
    assert block.read_bytes() == good
    assert "1 damaged block of" in source.store.repairs()[0] and not source.store.repairs()


def test_a_flipped_bit_is_found_wherever_it_is(wav: Path, make: Make, tmp_path: Path) -> None:
    found = windows(wav, Small())[:3]
    whole = filled(make(pool=True), found).inputs(items(found)).states
    (block,) = (tmp_path / "features").glob("??/*.safetensors")
    good = block.read_bytes()
    made_anew = 0
    for bit in range(0, len(good) * 8, 17):
        block.write_bytes(flipped(good, bit))
        source = make(pool=True)
        source.plan(found)
        assert torch.equal(source.inputs(items(found)).states, whole), bit
        if source.store.damaged:
            made_anew += 1
            assert block.read_bytes() == good
    assert made_anew > len(good) * 8 / 17 / 2  # most of a small file is numbers and their place


def test_another_blocks_bytes_are_not_taken(wav: Path, make: Make, tmp_path: Path) -> None:
    found = windows(wav, Small())
    whole = filled(make(), found).inputs(items(found)).states
    first, second, _ = sorted((tmp_path / "features").glob("??/*.safetensors"))
    first.write_bytes(second.read_bytes())
    source = filled(make(), found)
    assert torch.equal(source.inputs(items(found)).states, whole)
    assert len(source.store.damaged) == 1


def test_a_process_takes_its_share_and_all_can_read_the_rest(wav: Path, make: Make) -> None:
    found = windows(wav, Small())
    for rank in range(2):
        source = make()
        source.plan(found)
        source.fill(rank, 2, quiet, never)
    before = Counting.calls
    assert source.inputs(items(found)).states.shape[0] == len(found)
    assert Counting.calls == before


def test_progress_counts_audio_once_where_windows_overlap(wav: Path, make: Make) -> None:
    told: list[tuple[float, float]] = []
    source = make()
    for start in (0.0, 3.0, 1.0, 3.0):  # out of order, and one twice: 0-7 s of audio
        clip = Clip("home", str(wav), start, start + 4.0, "home")
        source.plan([Window(clip)])
    source.fill(0, 1, lambda done, total: told.append((done, total)), never)
    assert told[-1] == (7.0, 7.0)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    parts = make()
    parts.plan(windows(wav, parts.encoder))
    told.clear()
    parts.fill(0, 1, lambda done, total: told.append((done, total)), never)
    assert len(told) > 2 and {total for _, total in told} == {300.0}
    assert 0 < told[0][0] < 300.0 == told[-1][0]
    copy = wav.with_name("copy.wav")  # the same content: the same address
    copy.write_bytes(wav.read_bytes())
    twice = make()
    for path in (wav, copy):
        twice.plan([Window(Clip("home", str(path), 0.0, 4.0, "home"))])
    told.clear()
    twice.fill(0, 1, lambda done, total: told.append((done, total)), never)
    assert told[-1] == (8.0, 8.0)


def test_asked_to_stop_it_keeps_what_is_done(wav: Path, make: Make, tmp_path: Path) -> None:
    answers = iter([False, True])
    source = make()
    source.plan(windows(wav, source.encoder))
    source.fill(0, 1, quiet, lambda: next(answers))
    assert len(list((tmp_path / "features").glob("??/*.safetensors"))) == 1


def test_layers_by_number_or_last_are_those_of_the_whole(wav: Path, make: Make) -> None:
    found = windows(wav, Small())[:2]
    whole = make(budget=0).inputs(items(found)).states
    torch.testing.assert_close(make(budget=0, layers=0).inputs(items(found)).states, whole[:, :1])
    torch.testing.assert_close(
        make(budget=0, layers="last").inputs(items(found)).states, whole[:, 1:]
    )


def test_windows_of_an_example_are_joined_cropped_or_averaged(wav: Path, make: Make) -> None:
    found = windows(wav, Small())[:3]
    alone = make(budget=0).inputs(items(found)).states
    kept = (found[0], Window(found[1].clip, (10, 25)), found[2])
    whole = Item(found[0].clip, kept)
    expected = torch.cat([alone[0], alone[1][:, 10:25], alone[2]], dim=1)
    for budget in (0, 10**9):
        joined = filled(make(budget=budget), list(kept)).inputs([whole])
        assert joined.lengths.tolist() == [95] and torch.equal(joined.states[0], expected)
        cropped = make(budget=budget).inputs([replace(whole, crop=(30, 70))])
        assert torch.equal(cropped.states[0], expected[:, 30:70])
        pooled = filled(make(budget=budget, pool=True), list(kept)).inputs([whole])
        assert pooled.lengths.tolist() == [1]
        torch.testing.assert_close(pooled.states[0, :, 0], expected.mean(1), atol=1e-6, rtol=0)


def test_an_encoder_with_dropout_is_heard_without(wav: Path, make: Make) -> None:
    encoder = Counting(0.5).train()
    source = make(encoder, budget=0)
    found = windows(wav, encoder)[:1]
    one, two = (source.inputs(items(found)).states for _ in range(2))
    assert torch.equal(one, two) and not encoder.training


def test_means_take_the_room_of_one_frame(wav: Path, make: Make, tmp_path: Path) -> None:
    filled(make(pool=True), windows(wav, Small()))
    size = sum(p.stat().st_size for p in (tmp_path / "features").glob("??/*.safetensors"))
    assert size < 75 * 2 * 8 * 4 + 75 * 16 + 3 * 500  # 75 windows, 2 layers, 8 dimensions


def test_room_is_never_made_among_blocks_that_this_run_will_need(wav: Path, make: Make) -> None:
    found = windows(wav, Small())
    whole = filled(make(), found)
    paths = [whole.store.path(key) for key, _ in whole.blocks]
    paths[0].unlink()
    os.utime(paths[1], (1, 1))  # the oldest, and its turn comes only after the missing block's
    budget = sum(path.stat().st_size for path in paths[1:])
    filled(make(budget=budget), found)
    assert [path.exists() for path in paths] == [False, True, True]


@pytest.mark.parametrize("by_frame", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_read_again_goes_straight_into_the_batch(
    wav: Path, make: Make, monkeypatch: pytest.MonkeyPatch, by_frame: bool, dtype: torch.dtype
) -> None:
    source = make(dtype=dtype)
    found = windows(wav, source.encoder, seconds=7.0)
    filled(source, found)
    asked = items(found[-4:])
    asked[1] = Item(asked[1].clip, asked[1].windows, (5, 30))
    first = source.inputs(asked)
    source.by_frame = by_frame
    with monkeypatch.context() as patch:
        patch.setattr(FeatureSource, "_joined", None)  # nobody is asked window by window
        again = source.inputs(asked)
    assert torch.equal(again.states, first.states) and torch.equal(again.lengths, first.lengths)
    assert len(set(first.lengths.tolist())) == 2 and again.states.dtype == torch.float32
    assert again.states.transpose(1, 2).is_contiguous() is by_frame
    for block in source.store.root.glob("??/*.safetensors"):
        block.write_bytes(block.read_bytes()[:-8])  # cut off meanwhile: made anew
    assert torch.equal(source.inputs(asked).states, first.states)


def test_windows_that_begin_together_are_told_apart_by_their_ends(wav: Path, make: Make) -> None:
    source = make()
    both = [Window(Clip("home", str(wav), 1.0, end, "home")) for end in (5.0, 3.0)]
    given = filled(source, both).inputs(items(both))
    assert given.lengths.tolist() == [40, 20]
    with torch.no_grad():
        alone = [make(budget=0).inputs(items([one])).states[0] for one in both]
    assert torch.equal(given.states[0], alone[0])
    assert torch.equal(given.states[1, :, :20], alone[1])


def test_copies_of_a_file_are_encoded_once(wav: Path, make: Make) -> None:
    copy = wav.with_name("copy.wav")
    copy.write_bytes(wav.read_bytes())
    source = make()
    begun = Counting.calls
    both = [windows(path, source.encoder, 4.0)[0] for path in (wav, copy)]
    filled(source, both)
    assert Counting.calls - begun == 1
    first, second = source.inputs(items(both)).states
    assert torch.equal(first, second) and Counting.calls - begun == 1


def test_features_of_packed_weights_have_an_address_of_their_own(wav: Path, make: Make) -> None:
    """They are other last bits: a run takes one kind or the other."""
    plain, packed = make(), make(packed=True)
    for source in (plain, packed):
        source.plan(windows(wav, source.encoder)[:2])
    assert plain.blocks[0][0] != packed.blocks[0][0]
