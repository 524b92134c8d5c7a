"""Faults planted in plugins, one at a time: each ends a run with one message that names it."""

from __future__ import annotations

import re

import pytest
from planted_plugins import CORPORA, ENCODER, PARTS, TASKS

import bab
from bab.config.resolve import run_config
from bab.core.components import build_encoder, identity
from bab.core.errors import BabError
from bab.data.check import check_corpus
from bab.running.runner import run


def classes(source: str) -> list[str]:
    return re.findall(r"class (\w+)", source)


@pytest.fixture
def planted(install, tmp_path):
    kinds = {
        "encoders": {n.lower(): f"planted_enc:{n}" for n in classes(ENCODER)},
        "heads": {n.lower(): f"planted_parts:{n}" for n in classes(PARTS)[:6]},
        "objectives": {n.lower(): f"planted_parts:{n}" for n in classes(PARTS)[6:]},
        "tasks": {n.lower(): f"planted_tasks:{n}" for n in classes(TASKS)},
        "datasets": {n.lower(): f"planted_sets:{n}" for n in classes(CORPORA)},
    }
    modules = {"planted_enc": ENCODER, "planted_parts": PARTS, "planted_tasks": TASKS}
    install("planted", kinds, modules | {"planted_sets": CORPORA}, version="0.7")

    def go(*more: str, **asked: str):
        options = {"encoder": "sound", "task": "gender", "corpus": "librispeech"} | asked
        options |= {"observers": [], "runs": str(tmp_path / "runs")}
        sets = ["train.steps=2", "train.batch=4", f"cache.dir={tmp_path / 'cache'}"]
        return run(run_config(None, options, [*sets, *more]))

    return go


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"encoder": "three"}, "'three' of planted 0.7 .* contract: forward gives 3 states"),
        ({"encoder": "wide"}, "'wide' .* forward gives a state of shape .*8.*, 4. .* expected"),
        ({"encoder": "short"}, "'short' .* forward gives .* frames for .* samples: its grid says"),
        ({"encoder": "half"}, "'half' .* forward gives torch.float16: torch.float32 expected"),
        ({"encoder": "nan"}, "'nan' .* forward gives values that are not finite"),
        ({"encoder": "latenan"}, "encoder 'latenan' .* gives values that are not finite .*flac"),
        ({"encoder": "alters"}, "'alters' .* forward alters the audio it is handed"),
        ({"encoder": "tuple"}, "'tuple' .* forward gives tuple, not bab.Encoded"),
        ({"encoder": "nogrid"}, "'nogrid' .* load leaves grid = None: Grid expected"),
        ({"encoder": "otherrate"}, "'otherrate' .* load leaves grid.sample_rate = 8000"),
        ({"encoder": "poses"}, "'poses' .* load leaves resolved = 'hubert:base', the name of"),
        ({"encoder": "ungrouped"}, r"'ungrouped' .* groups gives \[Parameter"),
        ({"encoder": "old"}, r"'old' .* forward\(self, waves\) can't be called as forward\("),
        ({"encoder": "noload"}, "'noload' .* it has no method load of its own"),
        ({"encoder": "loadsnone"}, "'loadsnone' .* load gives None"),
        ({"head": "bent"}, "the head 'bent' .* gives something else of frames .* linear = True"),
        ({"head": "bentafter"}, "'bentafter' .* of the mean of two inputs is not the mean"),
        ({"head": "planted/frames"}, "'frames' of planted 0.7 .* gives an output of shape"),
        ({"head": "notfitted"}, "'notfitted' .* fit left the weights as they were"),
        ({"head": "nanhead"}, "the head 'nanhead' .* not finite before any training"),
        ({"objective": "mean"}, "'mean' .* counts gives 1 for one example and 1 for two"),
        ({"objective": "meanwithcount"}, "'meanwithcount' .* a sum, not a mean, is due"),
        ({"objective": "otherterm"}, r"'otherterm' .* terms \['ce'\], counts announces \['loss'\]"),
        ({"objective": "othercount"}, "'othercount' .* gives count 1 of 'loss', counts announces"),
        ({"objective": "plain"}, "'plain' .* forward gives Tensor, not bab.Loss"),
        ({"objective": "nocounts"}, "'nocounts' .* counts gives None"),
        ({"objective": "nanloss"}, "'nanloss' .* forward gives nan as 'loss' before any training"),
        ({"task": "listtargets"}, "the task 'listtargets' .* targets gives list, not a tensor"),
        ({"task": "floattargets"}, r"'floattargets' .* torch.float32 \[1\]: int64 \[1\]"),
        ({"task": "hightargets"}, r"'hightargets' .* targets gives \[[78]\] for \[2\] classes"),
        ({"task": "nolabels"}, r"'nolabels' .* fit gives \['f', 'm'\]"),
        ({"task": "untuned"}, "'untuned' .* tune gives no values for preset"),
        ({"task": "dictdecoded"}, "'dictdecoded' .* decode gives dict, not bab.Prediction"),
        ({"task": "otherid"}, "'otherid' .* decode gives id 'one and the same' for clip"),
        ({"task": "nometrics"}, "'nometrics' .* score gives None"),
        ({"task": "untold"}, "'untold' .* no method write and no statistics and no metrics"),
        ({"corpus": "same:sample"}, "two clips of train have the id 'clip'"),
        ({"corpus": "numbers:sample"}, "'numbers' .* label 'gender' = int 1: labels are texts"),
        ({"corpus": "nothing:sample"}, "'nothing' .* clips gives NoneType"),
        ({"corpus": "backwards:sample"}, "'backwards' .* clips gives clip .* from .* to 0 s"),
        ({"corpus": "crashes:sample"}, "'crashes' of planted 0.7 .* failed in clips: LookupError"),
        ({"corpus": "strangers:sample", "task": "sv"}, "trials of dev name 2 clip"),
        ({"corpus": "contradicts:sample", "task": "sv"}, "said to be of .* but its clips are of"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_planted_fault_is_named(planted, asked, said):
    sample = str(bab.load("datasets", "librispeech").sample)
    asked = {key: value.replace(":sample", f":{sample}") for key, value in asked.items()}
    with pytest.raises(BabError) as caught:
        planted(**asked)
    told = str(caught.value)
    assert re.search(said, told), told
    assert "Traceback" not in told and " object at 0x" not in told


def test_a_fault_that_a_fingerprint_hides_is_no_cache_hit(planted, tmp_path):
    """Two encoders that call themselves the same, and are not."""
    one, two = planted(encoder="constant")[0], planted(encoder="constanttoo")[0]
    assert one.encoder_fingerprint == two.encoder_fingerprint == "constant"
    assert one.id != two.id
    blocks = {path.stem for path in (tmp_path / "cache").glob("??/*.safetensors")}
    planted(encoder="constant", task="fine")
    assert blocks == {path.stem for path in (tmp_path / "cache").glob("??/*.safetensors")}
    states = [build_encoder(n, "", {}, True, False) for n in ("constant", "constanttoo")]
    assert len({identity(encoder) for encoder in states}) == 2
    assert one.versions["encoder plugin"] == "planted 0.7 planted_enc:Constant"
    assert "task plugin" not in one.versions


def test_version_and_distribution_are_part_of_a_runs_id(planted, install, tmp_path):
    before = planted(task="fine")[0]
    assert (
        planted(task="planted/fine")[0].versions["task plugin"] == "planted 0.7 planted_tasks:Fine"
    )
    names = {"tasks": {"fine": "planted_tasks:Fine"}, "encoders": {"sound": "planted_enc:Sound"}}
    install("planted", names, version="0.8", site=tmp_path / "newer")
    after = planted(task="fine")[0]
    assert after.id != before.id
    assert after.metrics == before.metrics


def test_the_core_makes_a_fingerprint_of_state_options_and_version(planted, monkeypatch):
    planted()
    cls = bab.load("encoders", "sound")

    def made() -> str:
        return build_encoder("sound", "", {}, True, False).fingerprint

    first = made()
    assert first == made()
    monkeypatch.setattr(cls, "version", "2")
    second = made()
    monkeypatch.setattr(cls, "planted", lambda self: self.scale.data.mul_(2))
    assert len({first, second, made()}) == 3


def test_a_plugin_named_as_a_built_in_stands_under_its_full_name(install, planted):
    install("other", {"encoders": {"fbank": "planted_enc:Sound"}})
    config = run_config(None, {"encoder": "other/fbank", "task": "vtc"})
    assert config.encoder.name == "other/fbank"
    assert build_encoder("other/fbank", "", {}, True, False).resolved == "other/fbank"
    assert run_config(None, {"encoder": "bab/fbank", "task": "vtc"}).encoder.name == "fbank"
    pair = run_config(None, {"encoder": "other/fbank+fbank", "task": "gender"}).encoder
    assert [one.name for one in pair.members] == ["other/fbank", "fbank"]


def test_training_that_an_encoder_spoils_names_the_encoder_and_not_the_rate(planted):
    """Fine-tuning: finite until a loud clip comes, as a logarithm of nothing would be."""
    with pytest.raises(BabError) as caught:
        planted("train.steps=40", "freeze=none", encoder="loud", mode="finetune")
    told = str(caught.value)
    assert "the encoder 'loud' of planted 0.7" in told and "not finite" in told
    assert "train.warmup" not in told


def test_data_check_says_what_a_run_would_stop_at(planted):
    root = bab.load("datasets", "librispeech").sample
    cls = bab.load("datasets", "same")
    same = cls(root, cls.Options())
    same.name = "same"
    report = check_corpus(same)
    assert report.fatal
    assert any(p.kind == "id" and "have the id 'clip'" in p.message for p in report.problems)


LENDING = """
import bab


class Lent(bab.Encoder):
    @classmethod
    def load(cls, weights, options, *, offline=False, trust_code=False):
        made = bab.load("encoders", "fbank").load("", bab.load("encoders", "fbank").Options())
        made.resolved = "lent"
        return made

    def forward(self, waves, mask=None, layers="all"):
        raise NotImplementedError
"""


def test_a_built_in_encoder_that_a_stranger_loads_is_the_strangers_and_no_other(install):
    install("lender", {"encoders": {"lent": "lending:Lent"}}, {"lending": LENDING}, version="2.0")
    before = identity(build_encoder("fbank", "", {}, True, False))
    lent = build_encoder("lent", "", {}, True, False)
    assert identity(lent).endswith("lender 2.0 lending:Lent")
    assert identity(build_encoder("fbank", "", {}, True, False)) == before
    kept = build_encoder("fbank", "", {}, True, False)
    build_encoder("lent", "", {}, True, False)
    assert identity(kept) == before  # an ensemble holds both at once
    assert identity(lent).endswith("lender 2.0 lending:Lent")
