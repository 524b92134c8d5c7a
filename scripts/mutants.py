"""How many small faults the fast suite sees: `make mutants`, or `python scripts/mutants.py --help`.

Faults are drawn by seed, from a list of patterns, over the source of bab, and planted one at a time
in a copy of the tree; the tests nearest to each are run there: those whose file has the module's
name, those that import it or name the function, then the rest of the room's and of who uses the
module. What they don't see is shown to as many files again, twice. What no test fails for is
printed: a fault that changes nothing anybody could see, or a hole in the suite.

With `--coverage FILE` (of `pytest --cov=bab --cov-context=test`, pytest-cov) the tests are those
that run the faulty line, those of the nearest files first; a line that none runs is a hole at once.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (".git", ".venv", "__pycache__", ".*_cache", "*.egg-info", "runs")
SWAPPED = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.In: "not in", ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is",
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*",
    ast.And: "or", ast.Or: "and",
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One change of a module's text."""

    path: Path  # from the root
    kind: str
    line: int
    begin: int  # characters of the text that are replaced
    end: int
    new: str
    within: tuple[str, ...] = ()  # the function and class that it stands in


def faults(path: Path, text: str) -> Iterator[Fault]:
    """All faults that can be planted in a module."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    data = text.encode()

    def span(node: ast.AST) -> tuple[int, int]:
        first = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        last = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        return first, last

    def source(node: ast.AST) -> str:
        first, last = span(node)
        return data[first:last].decode()

    def fault(kind: str, node: ast.AST, new: str) -> Fault:
        first, last = (len(data[:at].decode()) for at in span(node))
        line = node.lineno  # type: ignore[attr-defined]
        return Fault(path, kind, line, first, last, new, owners.get(id(node), ()))

    tree = ast.parse(text)
    owners = _owners(tree)
    skipped = _not_run(tree)
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            op = SWAPPED[type(node.ops[0])]
            yield fault(
                "comparison", node, f"({source(node.left)} {op} {source(node.comparators[0])})"
            )
        elif isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
            if not any(isinstance(x, (ast.JoinedStr, ast.List)) for x in (node.left, node.right)):
                op = SWAPPED[type(node.op)]
                yield fault("operator", node, f"({source(node.left)} {op} {source(node.right)})")
        elif isinstance(node, ast.BoolOp):
            op = f" {SWAPPED[type(node.op)]} "
            yield fault("and/or", node, f"({op.join(f'({source(v)})' for v in node.values)})")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield fault("not", node, f"({source(node.operand)})")
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            yield fault("constant", node, f"({node.value + 1})")
        elif isinstance(node, ast.Constant) and type(node.value) is bool:
            yield fault("constant", node, f"({not node.value})")
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield fault("dropped call", node, "pass")
        elif isinstance(node, ast.Call) and len(node.args) == 2 and not node.keywords:
            one, two = node.args
            if source(node.func) in ("min", "max"):
                continue
            if not any(isinstance(x, ast.Starred) for x in node.args) and source(one) != source(
                two
            ):
                yield fault("arguments", node, f"{source(node.func)}({source(two)}, {source(one)})")
        elif (
            isinstance(node, ast.If) and not node.orelse and not isinstance(node.test, ast.Constant)
        ):
            yield fault("condition", node.test, "False")


def _owners(tree: ast.Module) -> dict[int, tuple[str, ...]]:
    """Node -> the names of what it stands in, the outermost first."""
    owners: dict[int, tuple[str, ...]] = {}

    def look(node: ast.AST, within: tuple[str, ...]) -> None:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            within = (*within, node.name)
        owners[id(node)] = within
        for below in ast.iter_child_nodes(node):
            look(below, within)

    look(tree, ())
    return owners


def _not_run(tree: ast.Module) -> set[int]:
    """Nodes that no test can see: annotations, messages, what is for type checkers; and texts with
    values in them, whose parts don't say where they stand."""
    parts: list[ast.AST] = []
    for node in ast.walk(tree):
        checked = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if checked or isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr)):
            parts.append(node)
        elif isinstance(node, ast.FunctionDef):
            arguments = [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]
            parts += [x for x in (node.returns, *(a.annotation for a in arguments)) if x]
            parts += node.decorator_list
        elif isinstance(node, ast.ClassDef):
            parts += node.decorator_list
        elif isinstance(node, ast.AnnAssign):
            parts.append(node.annotation)
    return {id(node) for part in parts for node in ast.walk(part)}


def nearest(fault: Fault, tests: Path, users: list[str]) -> list[Path]:
    """The test files near to a fault, the nearest first. users: the modules that import its own."""
    path = fault.path
    room = path.parts[1] if len(path.parts) > 2 else ""
    module = ".".join(path.with_suffix("").parts)
    names = [name.strip("_") for name in fault.within]
    scores: dict[Path, int] = defaultdict(int)
    for test in sorted(tests.rglob("test_*.py")):
        text = test.read_text(encoding="utf-8")
        scores[test] += 4 * (path.stem in test.stem.removeprefix("test_").split("_"))
        scores[test] += 4 * (path.stem == test.stem.removeprefix("test_"))
        scores[test] += 3 * (f"from {module} import" in text or f"import {module}\n" in text)
        scores[test] += 3 * (f"from {module.rpartition('.')[0]} import {path.stem}" in text)
        scores[test] += 4 * any(len(n) > 3 and re.search(rf"\b{n}\b", text) for n in names)
        scores[test] += any(user in text for user in users)
        scores[test] += room in test.relative_to(tests).parts
    near = [test for test, score in scores.items() if score]
    return sorted(near, key=lambda test: -scores[test])


class Coverage:
    """Which tests run a line: contexts of coverage.py, `tests/x/test_y.py::test_z|run`."""

    def __init__(self, file: str) -> None:
        from coverage import CoverageData

        self.data = CoverageData(file)
        self.data.read()
        self.files = sorted(self.data.measured_files())

    def tests(self, fault: Fault, near: list[str]) -> list[str] | None:
        """Those that run the line, of the nearest files first; None where it is run by import."""
        name = next((f for f in self.files if f.endswith(f"/{fault.path.as_posix()}")), None)
        lines = {} if name is None else self.data.contexts_by_lineno(name)
        running = {one.rpartition("|")[0] for one in lines.get(fault.line, []) if "|" in one}
        if not running and (not fault.within or fault.line in lines):
            return None
        rank = {file: number for number, file in enumerate(near)}
        return sorted(running, key=lambda one: (rank.get(one.partition("::")[0], len(near)), one))


def _users(path: Path, texts: Mapping[Path, str]) -> list[str]:
    """The modules that import one, as tests name them."""
    module = ".".join(path.with_suffix("").parts)
    above, _, own = module.rpartition(".")
    told = re.compile(rf"from {module} import|import {module}\b|from {above} import .*\b{own}\b")
    users = [other for other, text in texts.items() if other != path and told.search(text)]
    return [".".join(user.with_suffix("").parts) for user in users]


def run(copy: Path, names: list[str], limit: float) -> tuple[str, str]:
    """`caught`, `survived`, or `too slow`; and the test that failed. limit: seconds of a core,
    which other work on the machine doesn't shorten. What waits for ever ends, too."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *names]
    most = int(limit)
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            command,
            cwd=copy,
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (most, most)),
        )
        busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        try:
            status = process.wait(3 * limit * busy)
        except subprocess.TimeoutExpired:
            status = -signal.SIGKILL
        finally:  # and what the tests began
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", said.read(), re.M)
    if status in (-signal.SIGKILL, -signal.SIGXCPU):
        return "too slow", ""
    known = {0: "survived", 5: "survived"}
    return known.get(status, "caught"), " by ".join(["", *failed[:1]])


def judge(fault: Fault, text: str, copy: Path, tests: list[str], limit: float) -> tuple[str, str]:
    """What the tests say of a planted fault, as `run`; the copy is as it was afterwards. A loop
    without end is caught, if the same tests end without the fault."""
    verdict, by = run(copy, tests, limit) if tests else ("survived", "")
    (copy / fault.path).write_text(text, encoding="utf-8")
    if verdict == "too slow" and run(copy, tests, limit)[0] == "survived":
        return "caught", " by never ending"
    return verdict, by


def plant(fault: Fault, text: str, copy: Path) -> str | None:
    """Change the copy; the line as it is now, None where it is no Python any more."""
    file = copy / fault.path
    changed = text[: fault.begin] + fault.new + text[fault.end :]
    try:
        compile(changed, str(file), "exec")
    except SyntaxError:
        return None
    file.write_text(changed, encoding="utf-8")
    return changed.splitlines()[fault.line - 1].strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="faults to plant (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="another one draws others")
    parser.add_argument("--only", default="bab", help="folder or file that they are drawn from")
    parser.add_argument("--tests", type=int, default=6, help="test files run at once")
    parser.add_argument("--looks", type=int, default=2, help="times that survivors are shown more")
    parser.add_argument("--limit", type=float, default=300, help="seconds of a core for each")
    parser.add_argument("--coverage", help="data by test: only those that run the line")
    parser.add_argument("--list", action="store_true", help="show what would be planted")
    asked = parser.parse_args()
    chosen = ROOT / asked.only
    files = [chosen] if chosen.is_file() else sorted(chosen.rglob("*.py"))
    draw = random.Random(asked.seed)
    texts = {p.relative_to(ROOT): p.read_text(encoding="utf-8") for p in files}
    by_file = {path: list(faults(path, text)) for path, text in texts.items()}
    everything = [fault for listed in by_file.values() for fault in listed]
    picked = draw.sample(everything, min(asked.count, len(everything)))
    counts: dict[str, int] = defaultdict(int)
    left: list[str] = []
    coverage = Coverage(asked.coverage) if asked.coverage else None
    with tempfile.TemporaryDirectory(prefix="bab-mutants-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for number, fault in enumerate(picked, start=1):
            line = plant(fault, texts[fault.path], copy)
            where = f"{fault.path}:{fault.line} [{fault.kind}] {line}"
            if line is None or asked.list:
                print(f"{number}/{len(picked)} {where}", flush=True)
                continue
            began = time.monotonic()
            files = nearest(fault, copy / "tests", _users(fault.path, texts))
            near, many = [str(file.relative_to(copy)) for file in files], asked.tests
            running = None if coverage is None else coverage.tests(fault, near)
            if running is not None:
                near, many = running, 10 * many  # functions, not files
            verdict, by = "survived", ""
            for look in range(1 + asked.looks):
                tests = near[look * many : (look + 1) * many]
                if verdict == "survived" and tests:
                    plant(fault, texts[fault.path], copy)
                    verdict, by = judge(fault, texts[fault.path], copy, tests, asked.limit)
            counts[verdict] += 1
            left += [where] if verdict == "survived" else []
            seconds = time.monotonic() - began
            told = f"{verdict} ({seconds:.0f} s{by})"
            print(f"{number}/{len(picked)} {told} {where}", flush=True)
    if asked.list:
        return 0
    total = counts["caught"] + counts["survived"]
    print(f"\n{counts['caught']} of {total} caught ({counts['caught'] / max(1, total):.0%})")
    if counts["too slow"]:
        print(
            f"{counts['too slow']} beside these: not finished in {asked.limit:g} s, nothing known"
        )
    print("\n".join(["survivors:", *left]) if left else "no survivor")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
