"""A contrastive loss of all utterances at once, for GPUs: no loop, no draw and no wait for each.

What is drawn for a frame is a function of its utterance's seed and its place there, as SplitMix64
(Steele et al. 2014, doi 10.1145/2660193.2660195) makes the n-th number of a stream directly: so it
doesn't depend on the batch, nor on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

_GAMMA = 0x9E3779B97F4A7C15 - 2**64  # as signed numbers: they wrap
_MIX = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the masked frames of a batch stand, one utterance after the other: N in all.

    owner, place: i64[N], the utterance of each and its number there; sizes i64[N], how many that
    utterance has; first i64[N], the row of its first. rows: i64[B, M], the rows of each utterance,
    padded with 0.
    """

    owner: Tensor
    place: Tensor
    sizes: Tensor
    first: Tensor
    rows: Tensor

    @classmethod
    def of(cls, sizes: Sequence[int], device: torch.device) -> Layout:
        """sizes: masked frames of each utterance, known on the CPU: nothing waits."""
        counts = torch.tensor(sizes)
        starts = counts.cumsum(0) - counts
        owner = torch.repeat_interleave(torch.arange(len(counts)), counts)
        number = torch.arange(int(counts.sum()))
        rows = pad_sequence(list(torch.split(number, list(sizes))), batch_first=True)
        parts = (owner, number - starts[owner], counts[owner], starts[owner], rows)
        return cls(*(part.to(device, non_blocking=True) for part in parts))


def _numbers(layout: Layout, seeds: Sequence[int], count: int) -> Tensor:
    """i64[N, count]: of utterance e and its frame t, numbers t * count + 1 and on of the stream
    that begins at seeds[e]; their upper 31 bits. SplitMix64's last step changes only the lower."""
    device = layout.owner.device
    begin = torch.tensor(seeds, dtype=torch.int64).to(device, non_blocking=True)[layout.owner]
    step = layout.place[:, None] * count + torch.arange(1, count + 1, device=device)
    z = begin[:, None] + step * _GAMMA
    for shift, factor in _MIX:
        z = (z ^ _shifted(z, shift)) * factor
    return z


def _shifted(z: Tensor, by: int) -> Tensor:
    """To the right, zeros coming in."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def gumbel(layout: Layout, groups: int, codes: int, seeds: Sequence[int]) -> Tensor:
    """f32[N, groups, codes] of Gumbel's distribution, up to 16.6: of 23 bits, so that no draw is
    rounded to 0 or 1."""
    drawn = _shifted(_numbers(layout, seeds, groups * codes), 41).float()
    uniform = (drawn + 0.5) * 2.0**-23
    return -(-uniform.log()).log().view(-1, groups, codes)


def negatives(layout: Layout, count: int, seeds: Sequence[int]) -> Tensor:
    """i64[N, count]: for each masked frame numbers of others of its utterance, uniformly, with
    replacement; utterances have two masked frames at least."""
    drawn = _shifted(_numbers(layout, seeds, count), 33) * (layout.sizes[:, None] - 1) >> 31
    return drawn + (drawn >= layout.place[:, None])


def similarities(
    states: Tensor,
    targets: Tensor,
    codes: Tensor,
    layout: Layout,
    others: Tensor,
    temperature: float,
) -> Tensor:
    """As `shared.negatives.similarities`, by one product of padded matrices. states, targets: of
    length 1; others: of `negatives`."""
    with torch.autocast(states.device.type, enabled=False):
        similar = torch.bmm(states[layout.rows], targets[layout.rows].transpose(1, 2)) / temperature
    own = layout.owner * similar.shape[1] + layout.place
    rows = similar.flatten(0, 1).index_select(0, own)
    same = (codes[layout.first[:, None] + others] == codes[:, None]).all(-1)
    wrong = rows.gather(1, others).masked_fill(same, -torch.inf)
    return torch.cat([rows.gather(1, layout.place[:, None]), wrong], dim=1)


def masked_rows(x: Tensor, mask: Tensor) -> Tensor:
    """x[mask], in order: f32[B, T, D] -> f32[N, D]. mask: bool[B, T], on the CPU where the batch
    came from there: a GPU that counts makes everybody wait."""
    if x.device == mask.device:
        return x[mask]
    places = mask.flatten().nonzero().squeeze(1)
    return x.flatten(0, 1).index_select(0, places.to(x.device, non_blocking=True))
