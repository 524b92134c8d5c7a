"""PyanNet: the contract, and the bands that its filters let through."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bab.core.errors import BabError
from bab.plugins.encoders.pyannet import Pyannet
from bab.plugins.encoders.shared.sincnet import SincConv


def test_filters_let_their_band_through():
    """Of a pure tone, the filter whose band it is in gives most."""
    conv = SincConv(80)
    low = 50 + conv.low_hz_.detach().abs()[:, 0]
    high = low + 50 + conv.band_hz_.detach().abs()[:, 0]
    for hertz in (300.0, 1000.0, 4000.0):
        tone = torch.sin(2 * np.pi * hertz * torch.arange(4000) / 16000)
        with torch.no_grad():
            best = int(conv(tone[None, None])[0].square().mean(1).argmax())
        assert low[best] - 30 <= hertz <= high[best] + 30


def test_no_clip_depends_on_the_others():
    from bab import Waves

    encoder = Pyannet.load("random", Pyannet.Options())
    rng = torch.Generator().manual_seed(1)
    samples = torch.randn(2, 9000, generator=rng)
    samples[0, 5000:] = 9.0  # padding
    with torch.no_grad():
        both = encoder(Waves(samples, torch.tensor([5000, 9000])))
        one = encoder(Waves(samples[:1, :5000], torch.tensor([5000])))
    assert both.lengths.tolist() == [encoder.grid.frames(5000), encoder.grid.frames(9000)]
    assert torch.allclose(both.layers[0][0, : one.lengths[0]], one.layers[0][0], atol=1e-5)
    again = Pyannet.load("random", Pyannet.Options())
    other = Pyannet.load("random", Pyannet.Options(seed=1))
    assert encoder.fingerprint == again.fingerprint != other.fingerprint


def test_a_place_without_nets(tmp_path):
    with pytest.raises(BabError, match=r"no folder with \.pt files"):
        Pyannet.load(str(tmp_path), Pyannet.Options())
    torch.save({"a": torch.zeros(1)}, tmp_path / "0001.pt")
    with pytest.raises(BabError, match=r"0001\.pt is no PyanNet"):
        Pyannet.load(str(tmp_path), Pyannet.Options())


def test_a_folder_is_named_as_people_name_it(tmp_path, monkeypatch):
    from bab.plugins.encoders.shared.sincnet import PyanNet

    nets = tmp_path / "nets"
    nets.mkdir()
    torch.save(PyanNet((4, 3, 3), 2, 1, (3,)).state_dict(), nets / "0001.pt")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("~/nets", "nets", "nets/../nets"):
        assert Pyannet.load(name, Pyannet.Options()).resolved == f"pyannet:{nets.resolve()}"


@pytest.mark.parametrize(
    ("most", "together"), [(1500, [2, 2, 1, 3]), (500, [1] * 5 + [1] * 3), (300, [1] * 8)]
)
def test_so_many_samples_go_through_a_net_at_once_or_one_clip(monkeypatch, most, together):
    """Five clips of 700 samples, and three of 400, each with the mask of its own."""
    from bab import Waves
    from bab.plugins.encoders import pyannet

    encoder = Pyannet.load("random", Pyannet.Options())
    lengths = torch.tensor([700, 400, 700, 700, 400, 700, 700, 400])
    waves = Waves(torch.randn(8, 700, generator=torch.Generator().manual_seed(0)), lengths)
    mask = torch.zeros(8, encoder.grid.frames(700), dtype=torch.bool)
    mask[3, 2] = mask[4, 1] = True
    heard = []
    encoder.nets[0].register_forward_hook(lambda net, given, out: heard.append(len(given[0])))
    with torch.no_grad():
        whole = encoder(waves, mask).layers[0]
        assert heard == [3, 5]  # the shorter ones first
        heard.clear()
        monkeypatch.setattr(pyannet, "_SAMPLES", most)
        torch.testing.assert_close(encoder(waves, mask).layers[0], whole)
    assert sorted(heard) == sorted(together)
