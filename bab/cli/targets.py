"""`bab targets`: k-means labels of frames, for HuBERT's kind of pretraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bab.cli.complete import named
from bab.cli.display import DEVICES
from bab.cli.echo import echo
from bab.cli.launched import in_shards, jobs_of, shard_option, takes_launcher
from bab.cli.paths import Place


@click.command("targets")
@click.option(
    "--corpus",
    "corpora",
    metavar="NAME[:ROOT]",
    multiple=True,
    required=True,
    help="May repeat.",
    shell_complete=named("datasets"),
)
@click.option("--out", required=True, type=Place(), help="Folder of the store.")
@click.option(
    "--encoder",
    metavar="NAME[:WEIGHTS]",
    default="mfcc",
    show_default=True,
    help="What is clustered: mfcc, or any encoder.",
    shell_complete=named("encoders"),
)
@click.option("--layer", type=int, help="The encoder's layer; 0 is the input embedding.")
@click.option("--clusters", type=click.IntRange(2), help="How many; default: 100.")
@click.option(
    "--centroids",
    metavar="FOLDER",
    type=Place(),
    help="Use the k-means of these targets; fit none.",
)
@click.option(
    "--split",
    "splits",
    metavar="SPLIT",
    multiple=True,
    help="May repeat (a pretraining run reads train and dev); default: all clips.",
)
@click.option(
    "--sample-frames",
    type=click.IntRange(1),
    default=500_000,
    show_default=True,
    help="Frames that k-means is fitted on, held in memory (4 bytes x dim each).",
)
@click.option(
    "--sample-hours",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Audio that these frames are drawn from.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sample and k-means.")
@click.option(
    "--set", "sets", metavar="KEY=VALUE", multiple=True, help="encoder.KEY or corpus.KEY."
)
@click.option(
    "--device",
    type=DEVICES,
    default="auto",
    show_default=True,
    help="Where the encoder runs.",
)
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
@click.option("--trust-code", is_flag=True, help="Let a hub model's code run.")
@click.option("--skip-bad", is_flag=True, help="Leave out unreadable audio files.")
@click.option("--jobs", type=click.IntRange(1), help="Of a launcher; default: 1.")
@click.option("--stage", type=click.Choice(["sample", "fit", "label"]), help="As jobs do it.")
@shard_option
@takes_launcher
def targets_command(out: Path, launch: Any, jobs: int | None, **options: Any) -> None:
    """Cluster frames of MFCCs or of an encoder's layer, and label every frame of a corpus.

    Labels are on the raster of a 20 ms encoder, stored by the content of the audio. An interrupted
    command goes on where it stopped; under torchrun, processes share the work.

    \b
    Examples:
      bab targets --corpus kaldi:/data/corpus --split train --split dev --out targets/iter1
      bab targets --corpus manifest:segments.parquet --encoder hubert:runs/iter1 --layer 6 \\
          --clusters 500 --out targets/iter2
      bab targets --corpus rttm:/data/homes --centroids targets/iter1 --out targets/homes
      torchrun --nproc-per-node 4 -m bab targets --corpus kaldi:/data/corpus --out targets/iter1
      bab targets --corpus kaldi:/data/corpus --out targets/iter1 --launcher slurm --jobs 40
    """
    from bab.cli.display import ticker
    from bab.core.errors import InterruptedRunError
    from bab.targets.features import process

    rank, most = process()[0], jobs_of(launch, jobs)
    with ticker() as display:
        if launch is not None:
            stages = [("sample", ("--stage", "sample"), most), ("fit", ("--stage", "fit"), 0)]
            stages.append(("label", ("--stage", "label"), most))
            if not in_shards(launch, out / "jobs", most, stages, display):
                return
        try:
            quiet = lambda stage, done, total, unit: None  # noqa: E731
            meta = _make(out, options, display.tell if rank == 0 else quiet)
        except (KeyboardInterrupt, click.Abort):
            raise InterruptedRunError(
                f"stopped; the same command goes on where it stopped ({out})"
            ) from None
    if rank == 0 and not options["stage"]:
        echo(describe(meta))
        echo(f"Targets: {out}")


def _make(out: Path, options: dict[str, Any], tell: Any) -> dict[str, Any]:
    from bab.config.corpora import open_corpora, refuse_other_sets, sets_of
    from bab.core.errors import ConfigError
    from bab.data.check import bad_files, refuse_bad
    from bab.targets.features import process
    from bab.targets.job import TargetOptions
    from bab.targets.make import make

    given, clusters = options["centroids"], options["clusters"]
    if given is not None and clusters is not None:
        raise ConfigError("--clusters is what --centroids brings along: give one of the two")
    refuse_other_sets(("corpus", "encoder"), options["sets"])
    features = _features(options)
    corpora = open_corpora(options["corpora"], sets_of("corpus", options["sets"]))
    names = options["splits"] or (None,)
    clips = [clip for corpus in corpora for name in names for clip in corpus.clips(name)]
    bad = bad_files(clips, lambda done, total: tell("checking files", done, total, "files"))
    refuse_bad(bad, options["skip_bad"])
    rank, world, _ = process()
    if options["shard"] is not None:
        rank, world = options["shard"].number - 1, options["shard"].count
    if options["shard"] is not None and not options["stage"]:
        raise ConfigError("--shard: name the stage too: --stage sample, or label")
    asked = TargetOptions(
        clusters or 100,
        options["seed"],
        options["sample_frames"],
        options["sample_hours"],
        given,
        options["skip_bad"],
        rank,
        world,
        options["stage"] or "",
    )
    described = {
        "corpora": list(options["corpora"]),
        "splits": list(options["splits"]),
        "unreadable": list(bad.values()),
    }
    return make([c for c in clips if c.path not in bad], features, out, asked, described, tell)


def _features(options: dict[str, Any]) -> Any:
    from bab.config.corpora import sets_of
    from bab.config.resolve import encoder_config
    from bab.core.components import build_encoder
    from bab.core.device import resolve_precision
    from bab.core.errors import ConfigError
    from bab.targets.features import LayerFeatures, Mfcc, is_mfcc, own_device

    spec, layer = options["encoder"], options["layer"]
    sets = sets_of("encoder", options["sets"])
    if is_mfcc(spec):
        if layer is not None or sets:
            raise ConfigError(
                f"--encoder {spec} has no layers and no options: leave out "
                + ("--layer" if layer is not None else f"--set {sets[0]}")
            )
        return Mfcc()
    if layer is None:
        raise ConfigError(f"--encoder {spec}: which layer? --layer 6, for example")
    config = encoder_config(spec, sets)
    trusted = options["offline"], options["trust_code"]
    encoder = build_encoder(config.name, config.weights, config.options, *trusted)
    device = own_device(options["device"])
    return LayerFeatures(encoder, layer, device, resolve_precision(device.type, "auto"))


def describe(meta: dict[str, Any]) -> str:
    """What targets.json holds, for a person."""
    use, purity = meta["use"], meta["purity"]
    lines = [
        f"{meta['hours']:.2f} h in {meta['recordings']} files, {meta['frames']:,} frames of "
        f"{meta['features']}",
        f"{meta['clusters']} clusters, {use['used']} used, perplexity {use['perplexity']:.1f}; "
        f"inertia per frame {meta['inertia']:.4g}",
    ]
    if purity:
        lines.append(
            f"against {len(purity['labels'])} labels of the corpus's segments "
            f"({purity['frames']:,} frames): phone purity {purity['phone_purity']:.3f}, cluster "
            f"purity {purity['cluster_purity']:.3f}, PNMI {purity['pnmi'] or 0:.3f}"
        )
    else:
        lines.append("no purity: the corpus gives no labels with times")
    left = [*meta["unreadable"], *meta["left_out"]]
    if left:
        lines.append(f"{len(left)} left out as unreadable:")
        lines += [f"  {why}" for why in left]
    return "\n".join(lines)
