"""Bits that flip on the disk: a result is the unbroken one, or an error that names the file."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import forks
import pyarrow
import pytest
import torch
from damaged import flipped
from made_models import made as made_run

from bab.config.resolve import run_config
from bab.core import sealed as sealed_file
from bab.core.errors import BabError
from bab.data import sealed
from bab.features import blocks
from bab.kit.faults import Faults
from bab.plugins.datasets.shared.rows import read_rows
from bab.running import model
from bab.running.runner import run


def every(path: Path, step: int, read: Callable[[], object]) -> int:
    """Turn every step-th bit of a file in turn: how often reading it was refused, by name."""
    good, data, refused = read(), path.read_bytes(), 0
    for bit in range(0, len(data) * 8, step):
        path.write_bytes(flipped(data, bit))
        try:
            assert read() == good, f"bit {bit} gave another result"
        except BabError as error:
            assert path.name in str(error), error
            refused += 1
    path.write_bytes(data)
    assert read() == good
    return refused


def test_no_bit_of_a_manifest_gives_other_clips(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    names = {"id": [f"a{i}" for i in range(30)], "path": [f"{i // 3}.wav" for i in range(30)]}
    times = {"start": [i * 1.5 for i in range(30)], "end": [i * 1.5 + 1 for i in range(30)]}
    table = pyarrow.table({**names, **times, "split": ["train"] * 20 + ["dev"] * 10})
    sealed.write_parquet(path, table, {b"bab.prepare": b"{}"})
    assert every(path, 61, lambda: list(read_rows(path, Faults()))) > 100


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return made_run(tmp_path / "made", "vtc", encoder="fbank") / "model"


def test_no_bit_of_a_model_gives_another(made: Path) -> None:
    def read() -> object:
        spec = model.load_spec(made)
        weights = model.load_weights(made, spec)
        return spec, {name: value.tolist() for name, value in sorted(weights.items())}

    assert every(made / "model.json", 29, read) > 100
    size = (made / "model.safetensors").stat().st_size
    assert every(made / "model.safetensors", size * 8 // 200, read) > 100


def test_weights_of_another_model_are_refused(made: Path, tmp_path: Path) -> None:
    other = made_run(tmp_path / "other", "gender", encoder="fbank") / "model"
    shutil.copy(other / "model.safetensors", made)
    with pytest.raises(BabError, match=r"other weights than model\.json"):
        model.load_weights(made, model.load_spec(made))


def test_a_model_without_checksums_is_taken_as_it_is(made: Path) -> None:
    """Of an earlier version, or another tool."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(made / "model.safetensors")
    save_file(tensors, made / "model.safetensors")
    spec = json.loads((made / "model.json").read_text())
    del spec["checksum"], spec["weights"]
    (made / "model.json").write_text(json.dumps(spec))
    again = model.load_weights(made, model.load_spec(made))
    assert all(torch.equal(again[name], value) for name, value in tensors.items())


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"[]", b"{}", b"nonsense", b'{"format": 1}', b"[" * 50_000]
)
def test_a_broken_description_is_one_line(made: Path, text: bytes) -> None:
    (made / "model.json").write_bytes(text)
    with pytest.raises(BabError, match=r"model\.json is damaged"):
        model.load_spec(made)


def test_a_run_on_damaged_features_ends_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    sets = ["train.steps=4", "train.eval_every=2", "observers=[]"]
    config = run_config(None, {"encoder": "fbank", "task": "vtc"}, sets)
    expected, folder = run(config)
    weights = (folder / "model" / "model.safetensors").read_bytes()
    blocks = sorted((tmp_path / "cache" / "features").rglob("*.safetensors"))
    data = blocks[0].read_bytes()
    blocks[0].write_bytes(flipped(data, len(data) * 4))
    blocks[-1].write_bytes(blocks[1].read_bytes())
    again, _ = run(config, force=True)
    assert again.metrics == expected.metrics
    assert (folder / "model" / "model.safetensors").read_bytes() == weights
    assert blocks[0].read_bytes() == data
    assert [n for n in again.notices if n.startswith("2 damaged blocks of cached features")]
    assert not any("damaged" in notice for notice in expected.notices)


def test_a_block_made_anew_by_another_process_is_sound(tmp_path: Path) -> None:
    """On a GPU, or with other threads, the same features may differ in their last bits."""
    path, reader = tmp_path / "k.safetensors", blocks.Reader()
    blocks.write(path, "k", [torch.ones(2, 3, 4), torch.ones(2, 5, 4)])
    assert torch.equal(reader.read(path, "k", 0, None), torch.ones(3, 2, 4))
    blocks.write(path, "k", [torch.zeros(2, 3, 4), torch.zeros(2, 5, 4)])
    assert torch.equal(reader.read(path, "k", 1, None), torch.zeros(5, 2, 4))
    data = path.read_bytes()
    path.write_bytes(flipped(data, len(data) * 8 - 3))
    with pytest.raises(sealed_file.DamagedError, match="window 1"):
        blocks.Reader().read(path, "k", 1, None)


def test_a_table_with_gaps_is_sound_in_another_process(tmp_path: Path) -> None:
    """Where values are missing there are objects, whose bytes are places in memory."""
    columns = {"none": [None, None], "flag": [True, None], "day": [date(2020, 1, 1), None]}
    sealed.write_parquet(tmp_path / "m.parquet", pyarrow.table(columns), {b"bab.k": b"1"})
    code = f"""if True:
        from pathlib import Path
        from bab.data import sealed
        held = [object() for _ in range(10_000)]
        sealed.check_parquet(Path({str(tmp_path / "m.parquet")!r}), "")
    """
    done = forks.run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
