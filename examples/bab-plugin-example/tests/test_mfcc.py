"""bab's contract suite over this encoder; and one number checked by hand."""

import math

import torch
from bab_plugin_example.mfcc import FFT, RATE, Mfcc, MfccOptions

from bab import Waves
from bab.testing import EncoderContract


class TestContract(EncoderContract):
    component = Mfcc


def test_first_coefficient_is_the_mean_log_energy():
    """By definition of the orthonormal DCT: c0 = sum(log energies) / sqrt(bands); the
    encoder divides by sqrt(bands) once more."""
    encoder = Mfcc.load("", MfccOptions())
    wave = torch.sin(2 * math.pi * 440 * torch.arange(400) / RATE)
    spectrum = torch.fft.rfft(wave * torch.hann_window(400), n=FFT)
    energies = (spectrum.abs().square() @ encoder.bands).clamp_min(2.0**-30 * 400).log()
    coefficient = encoder(Waves(wave[None], torch.tensor([400]))).layers[0][0, 0, 0]
    torch.testing.assert_close(coefficient, energies.mean())
