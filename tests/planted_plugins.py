"""A stranger's plugins as source, each class with one fault (or none)."""

ENCODER = """
    import torch
    import bab
    from torch import Tensor

    class Sound(bab.Encoder):
        depth, dim, sample_rate, max_seconds, resolved = 2, 4, 16000, None, "planted"
        grid = bab.Grid(16000, 320, 400)

        def __init__(self, options):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(4))
            self.planted()

        @classmethod
        def load(cls, weights, options, *, offline=False, trust_code=False):
            return cls(options)

        def planted(self): ...

        def counts(self, waves):
            return torch.tensor([self.grid.frames(n) for n in waves.lengths.tolist()])

        def states(self, waves):
            n = int(self.counts(waves).max())
            short = waves.samples[:, : n * 320 + 80]
            short = torch.nn.functional.pad(short, (0, max(0, n * 320 + 80 - short.shape[1])))
            frames = short.unfold(1, 400, 320)[:, :n]
            said = torch.stack([frames.mean(-1), frames.std(-1), frames.amax(-1), frames.amin(-1)])
            return said.movedim(0, -1) * self.scale

        def forward(self, waves, mask=None, layers="all"):
            x = self.states(waves)
            return bab.Encoded((x,) if layers == "last" else (x, 2 * x), self.counts(waves))

    class Constant(Sound):
        def planted(self):
            self.fingerprint = "constant"

        def states(self, waves):
            return 0 * super().states(waves)

    class ConstantToo(Constant):
        def states(self, waves):
            return 0 * super().states(waves) + 1

    class Three(Sound):
        def forward(self, waves, mask=None, layers="all"):
            x = self.states(waves)
            return bab.Encoded((x, x, x), self.counts(waves))

    class Wide(Sound):
        def states(self, waves):
            return super().states(waves).repeat(1, 1, 2)

    class Short(Sound):
        def counts(self, waves):
            return super().counts(waves) - 1

    class Half(Sound):
        def states(self, waves):
            return super().states(waves).half()

    class Nan(Sound):
        def states(self, waves):
            return super().states(waves) / 0 * 0

    class LateNan(Sound):
        calls = 0

        def states(self, waves):
            type(self).calls += 1
            return super().states(waves) / (0 if self.calls > 3 else 1) * (self.calls <= 3)

    class Loud(Sound):
        # Sound at first, as a logarithm is until nothing comes.
        calls = 0

        def states(self, waves):
            type(self).calls += 1
            x = super().states(waves)
            return x / 0 * 0 if self.calls > 6 else x

    class Alters(Sound):
        def states(self, waves):
            waves.samples -= waves.samples.mean()
            return super().states(waves)

    class Tuple(Sound):
        def forward(self, waves, mask=None, layers="all"):
            return (self.states(waves),)

    class NoGrid(Sound):
        grid = None

    class OtherRate(Sound):
        grid = bab.Grid(8000, 160, 200)

    class Poses(Sound):
        resolved = "hubert:base"

    class Ungrouped(Sound):
        def groups(self):
            return list(self.parameters())

    class Old(Sound):
        def forward(self, waves):
            return None

    class NoLoad(bab.Encoder):
        def forward(self, waves, mask=None, layers="all"):
            return None

    class LoadsNone(Sound):
        @classmethod
        def load(cls, weights, options, *, offline=False, trust_code=False):
            return None
"""

PARTS = """
    import torch
    import bab

    class Linear(bab.Head):
        level = ("clip",)
        linear = True

        def __init__(self, dim, classes, options):
            super().__init__(dim, classes, options)
            self.map = torch.nn.Linear(dim, classes)

        def forward(self, x, lengths):
            inside = torch.arange(x.shape[1]) < lengths[:, None]
            return self.map((x * inside[..., None]).sum(1) / lengths[:, None])

    class Bent(Linear):
        def forward(self, x, lengths):
            return super().forward(x.relu(), lengths)

    class BentAfter(Linear):
        def forward(self, x, lengths):
            return super().forward(x, lengths).relu()

    class Frames(Linear):
        linear = False

        def forward(self, x, lengths):
            return self.map(x)

    class NotFitted(Linear):
        closed_form = True

        def fit(self, x, y): ...

    class NanHead(Linear):
        linear = False

        def forward(self, x, lengths):
            return super().forward(x, lengths) * float("nan")

    class Sum(bab.Objective):
        level = ("clip",)

        def counts(self, batch):
            return {"loss": float(len(batch.clips))}

        def losses(self, model, batch):
            logits, _ = model(batch)
            return torch.nn.functional.cross_entropy(logits, batch.targets[:, 0], reduction="none")

        def forward(self, model, batch):
            return bab.Loss({"loss": bab.Term(self.losses(model, batch).sum(), len(batch.clips))})

    class Mean(Sum):
        def counts(self, batch):
            return {"loss": 1.0}

        def forward(self, model, batch):
            return bab.Loss({"loss": bab.Term(self.losses(model, batch).mean(), 1.0)})

    class MeanWithCount(Sum):
        def forward(self, model, batch):
            return bab.Loss({"loss": bab.Term(self.losses(model, batch).mean(), len(batch.clips))})

    class OtherTerm(Sum):
        def forward(self, model, batch):
            return bab.Loss({"ce": bab.Term(self.losses(model, batch).sum(), len(batch.clips))})

    class OtherCount(Sum):
        def forward(self, model, batch):
            return bab.Loss({"loss": bab.Term(self.losses(model, batch).sum(), 1.0)})

    class Plain(Sum):
        def forward(self, model, batch):
            return self.losses(model, batch).mean()

    class NoCounts(Sum):
        def counts(self, batch):
            return None

    class NanLoss(Sum):
        def losses(self, model, batch):
            return super().losses(model, batch) * float("nan")
"""

TASKS = """
    import torch
    import bab

    Gender = bab.load("tasks", "gender")

    class Fine(Gender):
        pass

    class ListTargets(Gender):
        def targets(self, clip, grid, frames, labels):
            return [0]

    class FloatTargets(Gender):
        def targets(self, clip, grid, frames, labels):
            return super().targets(clip, grid, frames, labels).float()

    class HighTargets(Gender):
        def targets(self, clip, grid, frames, labels):
            return super().targets(clip, grid, frames, labels) + 7

    class NoLabels(Gender):
        def fit(self, clips):
            return ["f", "m"]

    class Untuned(Gender):
        def tune(self, outputs, grid, labels):
            return {"other": {}}

    class DictDecoded(Gender):
        def decode(self, output, grid, labels, tuned):
            return {"id": output.clip.id}

    class OtherId(Gender):
        def decode(self, output, grid, labels, tuned):
            return bab.Prediction("one and the same")

    class NoMetrics(Gender):
        additive = False

        def score(self, references, predictions):
            return None

    class Untold(bab.Task):
        level = "clip"

        def fit(self, clips): ...
        def targets(self, clip, grid, frames, labels): ...
        def decode(self, output, grid, labels, tuned): ...
"""

CORPORA = """
    import dataclasses
    import bab

    Voices = bab.load("datasets", "librispeech")

    class Same(Voices):
        def clips(self, split=None):
            for clip in super().clips(split):
                yield dataclasses.replace(clip, id="clip")

    class Numbers(Voices):
        def clips(self, split=None):
            for clip in super().clips(split):
                yield dataclasses.replace(clip, labels={"gender": 1})

    class Nothing(Voices):
        def clips(self, split=None):
            return None

    class Backwards(Voices):
        def clips(self, split=None):
            for clip in super().clips(split):
                yield dataclasses.replace(clip, start=clip.end, end=clip.start)

    class Crashes(Voices):
        def clips(self, split=None):
            yield from super().clips(split)
            raise LookupError("row 7")

    class Strangers(Voices):
        def trials(self, split):
            return [bab.Trial("nobody", "no one", True)]

    class Contradicts(Voices):
        def trials(self, split):
            one, two = list(self.clips(split))[:2]
            return [bab.Trial(one.id, two.id, one.speaker != two.speaker)]
"""
