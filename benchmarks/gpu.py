"""What bab does on a GPU: is it right, and how fast? Ten minutes; `make gpu`.

    python benchmarks/gpu.py [--out gpu.json] [--docs docs/speed.md] [--only steps,predict]
    python benchmarks/gpu.py --smoke --device cpu      # every part of it, in tiny, anywhere

Parts: checks (the device beside the CPU: encoders, heads, objectives, half precision, batches,
resuming, memory over folds), steps (of both pretraining objectives x precision x audio a step,
alike or padded), flow (cache filling, targets, frame probe, predict: times real time), curves (the
loss of 100 tiny steps in bf16 beside fp32; skipped fp16 updates), pair (two GPUs: equality, gain).

Results go into one JSON, and as a table into the page. Exit status: 0 all well, 1 something is
wrong or didn't run, 2 no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_checks as checks
import torch

from bab.core.trainer import Trainer
from bab.machine.measure import named, peaks

BEGIN, END = "<!-- make gpu -->", "<!-- end of make gpu -->"
# A base wav2vec 2.0: GFLOP per second of audio, forward; three times that for a step.
FORWARD = 14.7
COLUMNS = {
    "ms": "ms",
    "audio_hours_per_hour": "audio h per h",
    "share_of_peak": "of peak",
    "peak_gpu_memory_gb": "GB",
    "idle_share": "idle",
    "waits": "waits",
}
Told = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    encoder: str
    audio: tuple[float, ...]  # seconds in a step
    crop: float
    repeats: int
    steps: int  # of a loss curve
    clips: int
    long: float  # seconds of the long recording
    batch: int  # clips beside a clip
    product: int  # rows of the matrices that tell the peak arithmetic


FULL = Size("random", (128.0, 512.0), 8.0, 10, 100, 400, 1200.0, 16, 8192)
SMOKE = Size("random-tiny", (1.0, 2.0), 0.5, 1, 2, 3, 4.0, 3, 64)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def precisions(device: torch.device) -> list[str]:
    if device.type == "cpu":
        return ["fp32"]
    new = torch.cuda.is_bf16_supported(False)
    return ["fp32", "tf32", "bf16", "fp16"] if new else ["fp32", "fp16"]


# ------------------------------------------------------------------------------- parts


def facts(device: torch.device) -> Told:
    told: Told = {
        "device": named(device),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "bf16": device.type == "cuda" and torch.cuda.is_bf16_supported(False),
    }
    if device.type == "cuda":
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with contextlib.suppress(OSError):
            said = subprocess.run(asked, capture_output=True, text=True).stdout.split()
            told["driver"] = said[0] if said else ""
        told["memory_gb"] = round(torch.cuda.mem_get_info()[1] / 1e9, 1)
        told["gpus"] = torch.cuda.device_count()
    return told


def check(device: torch.device, size: Size) -> Told:
    """Every check; the first that fails is an error with its numbers, after all have run."""
    names = checks.ENCODERS if size is FULL else ("wav2vec2", "fbank")
    halves = [p for p in precisions(device) if p in ("bf16", "fp16")] or ["bf16"]
    asked: dict[str, Callable[[], Told]] = {
        "encoders": lambda: checks.encoders(device),
        "heads": lambda: checks.heads(device),
        "objectives": lambda: checks.objectives(device),
        "batches": lambda: checks.batches(device, size.batch, names),
        "resume": lambda: checks.resume(device),
        "folds": lambda: checks.folds(device),
    }
    for half in halves:
        asked[f"encoders {half}"] = lambda half=half: checks.encoders(device, half, names)  # type: ignore[misc]
        asked[f"heads {half}"] = lambda half=half: checks.heads(device, half)  # type: ignore[misc]
    told, wrong = {}, []
    for name, run in asked.items():
        try:
            told[name] = max(run().values())
        except AssertionError as error:
            wrong.append(str(error))
    if wrong:
        raise AssertionError("; ".join(wrong))
    return told


def steps(device: torch.device, size: Size) -> list[Told]:
    """A row for each kind of step."""
    rows = []
    for objective in checks.OBJECTIVES:
        for precision in precisions(device):
            for seconds in size.audio:
                for padded in (False, True):
                    rows.append(_step(device, size, objective, precision, seconds, padded))
    return rows


def _step(
    device: torch.device, size: Size, objective: str, precision: str, seconds: float, padded: bool
) -> Told:
    """One kind of step; what doesn't fit into memory says so."""
    row: Told = {
        "objective": objective, "precision": precision, "audio": seconds, "padded": padded
    }  # fmt: skip
    count = round(seconds / size.crop)
    lengths = [size.crop * (1 - 0.5 * (i % 4) / 4 * padded) for i in range(count)]

    def made(encoder: Any, step: int) -> Any:
        return checks.pretraining_batch(encoder, lengths, 9, step)

    clean(device)
    try:
        with tempfile.TemporaryDirectory() as place:
            runs = checks.training(
                str(device), precision, 1, Path(place), made, objective, size.encoder
            )
            for trainer, _ in runs:
                row |= _timed(trainer, device, size, sum(lengths), precision)
    except torch.OutOfMemoryError:
        row["problem"] = "out of memory"
    return row


def _timed(
    trainer: Trainer, device: torch.device, size: Size, seconds: float, precision: str
) -> Told:
    trainer._train_mode()
    began = time.perf_counter()
    batches = [trainer._made(i) for i in range(size.repeats)]
    making = (time.perf_counter() - began) / size.repeats
    for i in range(min(3, size.repeats)):
        trainer._step(i, batches[i])
    wait(device)
    times = []
    for i, parts in enumerate(batches):
        began = time.perf_counter()
        trainer._step(i, parts)
        wait(device)
        times.append(time.perf_counter() - began)
    middle = statistics.median(times)
    told: Told = {
        "ms": round(1e3 * middle, 2),
        "audio_hours_per_hour": round(seconds / middle),
        "batch_ms": round(1e3 * making, 2),  # that a loader's thread takes for it, without reading
        **peaks(device),
    }
    if size.encoder == "random":
        told["tflops"] = round(3e-3 * FORWARD * seconds / middle, 1)
        told["share_of_peak"] = round(told["tflops"] / product_speed(device, size, precision), 3)
    if device.type == "cuda":
        told["waits"] = _waits(lambda: trainer._step(0, batches[0]))
        told["idle_share"] = _idle(lambda: trainer._step(0, batches[0]))
    return told


def product_speed(device: torch.device, size: Size, precision: str) -> float:
    """TFLOP per second of a large product of matrices: what arithmetic this device really gives."""
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    x = torch.randn(size.product, size.product, device=device, dtype=kinds.get(precision))
    best = float("inf")
    for _ in range(5):
        wait(device)
        began = time.perf_counter()
        x @ x
        wait(device)
        best = min(best, time.perf_counter() - began)
    return 2e-12 * size.product**3 / best


def _waits(run: Callable[[], Any]) -> int:
    """How often the CPU waits for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in heard)


def _idle(run: Callable[[], Any]) -> float:
    """The share of a step's time in which no kernel runs."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    began = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        run()
        torch.cuda.synchronize()
        spent = time.perf_counter() - began
    busy = sum(one.self_device_time_total for one in seen.key_averages()) / 1e6
    return round(max(0.0, 1 - busy / spent), 3)


def flow(device: torch.device, size: Size) -> Told:
    """Cache filling, targets, a frame probe's steps, and predict."""
    import gpu_flow

    clean(device)
    return gpu_flow.measured(device, precisions(device), size.encoder, size.clips, size.long)


def curves(device: torch.device, size: Size) -> Told:
    """The mean loss of the last tenth of tiny steps, by precision; fp16's skipped updates."""
    told: Told = {}
    tried = precisions(device)
    for precision in [p for p in tried if p != "tf32"]:
        losses, skipped = [], 0
        with tempfile.TemporaryDirectory() as place:
            runs = checks.training(str(device), precision, size.steps, Path(place), checks.tiny)
            for trainer, own in runs:
                trainer._train_mode()
                for step in range(size.steps):
                    values, _ = trainer._step(step, own.batches(step))
                    losses.append(values["loss"])
                    skipped += trainer.skipped > 0
        told[precision] = round(statistics.fmean(losses[-max(1, size.steps // 10) :]), 4)
        told[f"{precision} skipped"] = skipped
        checks.within(f"loss in {precision}", abs(told[precision] / told["fp32"] - 1), 0.03)
    return told


def pair(device: torch.device, size: Size) -> Told:
    """Two processes: their weights are one's, and how much faster they are."""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        return {"problem": "one GPU here: nothing to compare"}
    told, ends = {}, {}
    for world in (1, 2):
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "end.pt"
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += [f"--nproc-per-node={world}", __file__, "--worker", str(out)]
            command += ["--device", device.type, *(["--smoke"] if size is SMOKE else [])]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
            ends[world], told[f"seconds of {world}"] = torch.load(out, weights_only=True)
    worst = max(checks.apart(a, b) for a, b in zip(ends[1], ends[2], strict=True))
    told["weights"] = checks.within("two processes", worst, 1e-3)
    told["gain"] = round(told["seconds of 1"] / told["seconds of 2"], 2)
    return told


def work(device: str, out: Path, size: Size) -> None:
    """One process of `pair`."""
    world, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    count = 2 * max(1, round(size.audio[0] / size.crop / 2))

    def made(encoder: Any, step: int) -> Any:
        whole = checks.pretraining_batch(encoder, [size.crop] * count, 9, step)
        return whole.each(lambda x: x[rank::world]) if world > 1 else whole

    with tempfile.TemporaryDirectory() as place:
        runs = checks.training(device, "fp32", 5, Path(place), made, size=size.encoder)
        for trainer, own in runs:
            trainer._train_mode()
            for step in range(5):
                trainer._step(step, own.batches(step))
                if step == 1:
                    wait(own.accelerator.device)
                    began = time.perf_counter()
            wait(own.accelerator.device)
            spent = time.perf_counter() - began
            if rank == 0:
                weights = [p.detach().float().cpu() for p in own.model.parameters()]
                torch.save((weights, spent), out)


# ------------------------------------------------------------------------------- what is told


def clean(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def seconds_per_gb(rows: list[Told]) -> dict[str, float]:
    """Seconds of audio that a further GB of memory takes, by objective and precision."""
    told = {}
    for one in rows:
        if one.get("padded") or one.get("problem") or "peak_gpu_memory_gb" not in one:
            continue
        key = f"{one['objective']} {one['precision']}"
        told.setdefault(key, []).append((one["audio"], one["peak_gpu_memory_gb"]))  # type: ignore[arg-type]
    pairs = {key: (min(v), max(v)) for key, v in told.items() if len(v) > 1}  # type: ignore[type-var]
    return {k: round((b[0] - a[0]) / max(1e-3, b[1] - a[1]), 1) for k, (a, b) in pairs.items()}


def table(result: Told) -> Iterator[str]:
    """The page's part of it."""
    known = result["facts"]
    yield f"{known['device']}, torch {known['torch']}, CUDA {known['cuda']}; {result['date']}."
    yield ""
    yield f"| objective | precision | s a step | padded | {' | '.join(COLUMNS.values())} |"
    yield "|---|---|--:|---|" + len(COLUMNS) * "--:|"
    for row in result.get("steps") or []:
        cells = [row["objective"], row["precision"], f"{row['audio']:g}"]
        cells.append("yes" if row["padded"] else "")
        cells += [str(row.get(key, "")) for key in COLUMNS]
        if "problem" in row:
            cells[4] = row["problem"]
        yield f"| {' | '.join(cells)} |"
    for part in ("seconds_per_gb", "checks", "flow", "curves", "pair", "problems"):
        if result.get(part):
            told = [
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in result[part].items()
            ]
            yield ""
            yield f"{part.replace('_', ' ')}: {', '.join(told)}."


def into(page: Path, lines: list[str]) -> None:
    """Between the page's marks, which it must have."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text("\n".join([before + BEGIN, *lines, END]) + after, encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that all of it runs")
    parser.add_argument("--only", default="checks,steps,flow,curves,pair", help="parts, by comma")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--docs", type=Path, help="a page to put the table into")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    args = parse()
    size = SMOKE if args.smoke else FULL
    if args.device == "cuda" and not torch.cuda.is_available():
        print("make gpu: no CUDA device here, so nothing was measured", file=sys.stderr)
        return 2
    if args.worker is not None:
        work(args.device, args.worker, size)
        return 0
    device = torch.device(args.device)
    parts = {"checks": check, "steps": steps, "flow": flow, "curves": curves, "pair": pair}
    asked = [one for one in args.only.split(",") if one]
    if unknown := set(asked) - set(parts):
        print(f"--only {min(unknown)}: known are {', '.join(parts)}", file=sys.stderr)
        return 2
    result: Told = {"facts": facts(device), "date": time.strftime("%Y-%m-%d"), "problems": {}}
    for name in asked:
        began = time.perf_counter()
        try:
            result[name] = parts[name](device, size)
        except Exception as error:  # the other parts are measured all the same
            traceback.print_exc()
            result["problems"][name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    result["seconds_per_gb"] = seconds_per_gb(result.get("steps") or [])
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    lines = list(table(result))
    print("\n".join(lines))
    if args.docs is not None:
        into(args.docs, lines)
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
