"""Several frozen encoders on clips: `ast+wav2vec2+clap`, by concatenated vectors or late fusion.

A member hears the audio by itself, at its own rate and in its own windows, and its features have
the cache keys that they would have alone. Of each clip one vector per member and layer is kept; a
clip's state is these side by side, member by member, layer by layer. `EnsembleMix` takes them apart
again, mixes each member's layers by weights of its own, and puts the members' vectors side by side.
With late fusion every member has a head (and a loss) of its own, and the answer is the mean of
their class probabilities.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from bab.core.errors import ConfigError
from bab.core.grid import Grid
from bab.core.interfaces import Encoder, Head, Objective, Scorer
from bab.core.options import Options
from bab.core.types import Batch, Clip, Encoded, Features, Item, Loss, Term, View, Waves, Window
from bab.data.windows import Examples, regions
from bab.features.source import FeatureSource
from bab.running.model import Answered, LayerMix, Model

Which = Literal["mix", "last"] | int


class Ensemble(Encoder):
    """The members as one encoder of one vector per clip. It is never called: they are.

    dim: the members' together; depth: 1, for the layers are in the states (see `EnsembleMix`).
    """

    def __init__(self, members: Sequence[Encoder], fusion: str) -> None:
        super().__init__()
        self.members: Sequence[Encoder] = nn.ModuleList(members)  # type: ignore[assignment]
        self.fusion = fusion
        self.sample_rate = min(m.sample_rate for m in members)
        self.dim = sum(m.dim for m in members)
        self.depth = 1
        self.grid = Grid(self.sample_rate, 0, 1)
        self.max_seconds = None
        facts = [fusion, *(m.fingerprint for m in members)]
        self.fingerprint = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
        late = " (late)" if fusion == "late" else ""
        self.resolved = "+".join(m.resolved for m in members) + late
        self.eval()

    def forward(
        self, waves: Waves, mask: Tensor | None = None, layers: Literal["last", "all"] = "all"
    ) -> Encoded:
        """Raises ConfigError: an ensemble has no frames."""
        raise ConfigError(f"ensemble '{self.resolved}' can't be trained or asked for frames")

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """None that could be trained."""
        return {}


class EnsembleMix(LayerMix):
    """The states of an ensemble -> its vector: each member's layers mixed by weights of its own."""

    def __init__(self, members: Sequence[Encoder], layers: Which) -> None:
        """layers: as of `LayerMix`; a number means that layer of each member."""
        super().__init__(1, "last")
        self.mixes = nn.ModuleList(LayerMix(m.depth, layers) for m in members)
        self.kept = [m.depth if layers == "mix" else 1 for m in members]
        self.dims = [m.dim for m in members]

    def forward(self, states: Tensor) -> Tensor:
        """f32[B, 1, T, sum of L x D] -> f32[B, T, sum of D]."""
        sizes = [n * d for n, d in zip(self.kept, self.dims, strict=True)]
        parts = torch.split(states[:, 0], sizes, dim=-1)
        mixed = [
            mix(part.reshape(*part.shape[:-1], n, d).movedim(-2, 1))
            for mix, part, n, d in zip(self.mixes, parts, self.kept, self.dims, strict=True)
        ]
        return torch.cat(mixed, dim=-1)


class EnsembleSource:
    """The vectors of clips, from the members' own feature sources."""

    by_window = False

    def __init__(self, sources: Sequence[FeatureSource], view: View) -> None:
        """sources: one per member, each pooling, all over one store."""
        self.sources = sources
        self.store = sources[0].store
        self.view = view
        self._items: dict[tuple[int, str, float, float], Item] = {}

    def plan(self, clips: Sequence[Clip]) -> None:
        """Take note of clips that will be asked for: for each member, what it would plan alone."""
        spans = regions(clips)
        for index, source in enumerate(self.sources):
            windows: list[Window] = []
            for item in self._examples(source, spans).items:
                self._items[_key(index, item.clip)] = item
                windows += item.windows
            source.plan(windows)

    def fill(
        self,
        rank: int,
        world: int,
        progress: Callable[[float, float], None],
        stop: Callable[[], bool],
    ) -> None:
        """Compute what is missing, this process's share of it, member by member."""
        for source in self.sources:
            source.claim()  # or one member would throw out what another needs
        for done, source in enumerate(self.sources):

            def tell(seconds: float, total: float, done: int = done) -> None:
                progress(done * total + seconds, total * len(self.sources))

            source.fill(rank, world, tell, stop)

    def inputs(self, items: Sequence[Item]) -> Features:
        """states f32[B, 1, 1, sum of L x D], lengths i64[B], all 1."""
        parts = []
        for index, source in enumerate(self.sources):
            states = source.inputs([self._item(index, item.clip) for item in items]).states
            parts.append(states[:, :, 0].flatten(1))
        joined = torch.cat(parts, dim=-1)
        return Features(joined[:, None, None], torch.ones(len(items), dtype=torch.long))

    def _item(self, index: int, clip: Clip) -> Item:
        """What a member hears of a clip."""
        known = self._items.get(_key(index, clip))
        return known or self._examples(self.sources[index], [clip]).items[0]

    def _examples(self, source: FeatureSource, clips: Sequence[Clip]) -> Examples:
        encoder = source.encoder
        return Examples(clips, self.view, encoder.grid, encoder.max_seconds, True)


def _key(index: int, clip: Clip) -> tuple[int, str, float, float]:
    return index, clip.id, clip.start, clip.end


def fused_head(heads: Sequence[Head], dims: Sequence[int], sizes: Sequence[int]) -> Head:
    """The only head as it is; several as one that gives the mean of their probabilities."""
    return heads[0] if len(heads) == 1 else LateFusion(heads, dims, sizes)


def fused_objective(objectives: Sequence[Objective]) -> Objective:
    """The only objective as it is; several as one, each for its own head."""
    return objectives[0] if len(objectives) == 1 else LateObjective(objectives)


class LateFusion(Head):
    """Logits whose softmax, per kind of label, is the mean of the members' softmaxes."""

    level = ("clip",)

    def __init__(self, heads: Sequence[Head], dims: Sequence[int], sizes: Sequence[int]) -> None:
        """heads: one per member; dims: D of each; sizes: classes of each kind of label."""
        super().__init__(sum(dims), sum(sizes), Options())
        self.heads: Sequence[Head] = nn.ModuleList(heads)  # type: ignore[assignment]
        self.dims, self.sizes = list(dims), list(sizes)

    def each(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """f32[B, T, sum of D] -> each member's logits f32[B, C]."""
        parts = torch.split(x, self.dims, dim=-1)
        return [head(part, lengths) for head, part in zip(self.heads, parts, strict=True)]

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """f32[B, T, sum of D], i64[B] -> f32[B, C]: logarithms of the mean probabilities."""
        logits = torch.stack(self.each(x, lengths))
        mean = [part.softmax(-1).mean(0) for part in torch.split(logits, self.sizes, dim=-1)]
        return torch.cat(mean, dim=-1).clamp(min=1e-38).log()

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Closed-form heads: each is solved on its member's vectors, f32[N, D], i64[N]."""
        for head, part in zip(self.heads, torch.split(x, self.dims, dim=-1), strict=True):
            head.fit(part, y)


class LateObjective(Objective):
    """The members' losses side by side. No weight has a part in two of them, so each head is
    trained as it would be alone, but for the common gradient norm and choice of checkpoint."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        super().__init__(0, (), Options())
        self.each: Sequence[Objective] = nn.ModuleList(objectives)  # type: ignore[assignment]

    def counts(self, batch: Batch) -> dict[str, float]:
        return self.each[0].counts(batch)

    def observe(self, targets: Tensor) -> None:
        for one in self.each:
            one.observe(targets)

    def forward(self, model: Scorer, batch: Batch) -> Loss:
        """The sums of the members' terms, over the count of one; logs are added up."""
        assert isinstance(model, Model) and isinstance(model.head, LateFusion)
        x, lengths = model.frames(batch)
        terms: dict[str, Term] = {}
        logs: dict[str, tuple[float | Tensor, float]] = {}
        for objective, logits in zip(self.each, model.head.each(x, lengths), strict=True):
            loss = objective(Answered(logits, lengths), batch)
            for name, term in loss.terms.items():
                if name in terms:
                    term.total = term.total + terms[name].total
                terms[name] = term
            for name, (value, count) in loss.logs.items():
                before = logs.get(name, (0.0, 0.0))
                logs[name] = (before[0] + value, before[1] + count)
        return Loss(terms, logs)
