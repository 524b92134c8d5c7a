"""Launcher `slurm`: jobs of a Slurm cluster, through its own commands (docs/decisions.md)."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, PositiveInt

import bab

_QUEUED = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_RUNNING = {
    "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STAGE_OUT", "SIGNALING", "RESIZING",
    "STOPPED",
}  # fmt: skip
_MINUTE = 60  # seconds that a command of Slurm's may take

# A job that was asked to save (exit status 130) goes back into the queue, unless it is no longer
# meant to run: after scancel it is COMPLETING here.
_SCRIPT = """\
#!/bin/bash
{directives}
{exports}
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-1}}}}
{head}{run} &
child=$!
trap 'kill -TERM $child 2>/dev/null' TERM
wait $child
status=$?
while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
if [ $status -eq 130 ] && [ "$(squeue -h -j $SLURM_JOB_ID -o %T)" = RUNNING ]; then
    echo "bab: saved; back into the queue"
    scontrol requeue $SLURM_JOB_ID && sleep 60
fi
exit $status
"""
_HEAD = "export BAB_HEAD=$(hostname)\n"  # the script runs on the first node


class SlurmOptions(bab.Options):
    partition: str = Field(default="", description="where jobs run; the cluster's default")
    time: str = Field(
        default="", description="most time of a job, 4:00:00 or minutes; it goes on in a new turn"
    )
    gpus: Annotated[int, Field(ge=0)] = Field(default=0, description="of a job, on each node")
    cpus: PositiveInt = Field(default=1, description="cores of a job, on each node")
    memory: str = Field(default="", description="of a job on each node, 16G; the cluster's default")
    nodes: PositiveInt = Field(default=1, description="bab pretrain: machines of the job")
    processes: PositiveInt | None = Field(
        default=None, description="bab pretrain: on each node; null = one for each GPU, at least 1"
    )
    account: str = Field(default="", description="who is charged")
    constraint: str = Field(default="", description="features that a node must have")
    grace: Annotated[int, Field(ge=30)] = Field(
        default=120, description="seconds before the end of its time at which a job is told to save"
    )
    extra: tuple[str, ...] = Field(
        default=(), description="further options of sbatch: [--qos=long, --exclude=n3]"
    )


class Slurm(bab.Launcher):
    """Jobs of a Slurm cluster, by sbatch, squeue and scancel; no accounting is needed.

    What time limits, preemption and lost nodes end goes back into the queue by itself.
    """

    Options = SlurmOptions
    source = "https://slurm.schedmd.com"
    where = "a machine that has sbatch; folders and Python under the same paths on all nodes"

    @property
    def layout(self) -> tuple[int, int]:
        options = self.options
        return options.nodes, options.processes or max(1, options.gpus)

    def submit(self, work: bab.Work) -> str:
        script = self.script(work)
        work.log.parent.mkdir(parents=True, exist_ok=True)
        said = _slurm(["sbatch", "--parsable"], script)
        return said.strip().partition(";")[0]  # 123;cluster

    def script(self, work: bab.Work) -> str:
        """What sbatch is given."""
        options, nodes = self.options, self.layout[0] if work.spread else 1
        asked = {
            "job-name": f"bab-{work.name}",
            "output": str(work.log.absolute()).replace("%", "%%"),
            "open-mode": "append",
            "chdir": str(work.folder.absolute()),
            "nodes": nodes,
            "ntasks": nodes,
            "cpus-per-task": options.cpus,
            "gpus-per-node": options.gpus or "",
            "mem": options.memory,
            "time": options.time,
            # srun passes it on to its tasks; without srun the script does.
            "signal": f"{'' if nodes > 1 else 'B:'}TERM@{options.grace}",
            "partition": options.partition,
            "account": options.account,
            "constraint": options.constraint,
        }
        lines = ["#SBATCH --requeue"]
        lines += [f"#SBATCH --{k}={shlex.quote(str(v))}" for k, v in asked.items() if v != ""]
        lines += [f"#SBATCH {one}" for one in options.extra]
        command = shlex.join(work.argv)
        if nodes > 1:
            # Each task's own number is known inside it alone.
            inner = f"export BAB_NODE=$SLURM_NODEID; exec {command}"
            command = f"srun --kill-on-bad-exit=0 --ntasks-per-node=1 bash -c {shlex.quote(inner)}"
        return _SCRIPT.format(
            directives="\n".join(lines),
            exports="\n".join(f"export {k}={shlex.quote(v)}" for k, v in work.env.items()),
            head=_HEAD if nodes > 1 else "",
            run=command,
        )

    def poll(self, ids: Sequence[str]) -> Mapping[str, bab.Standing]:
        if not ids:
            return {}
        # Of all jobs of this user: asked for one that it has forgotten, squeue fails.
        said = _slurm(["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%r"])
        states: dict[str, bab.Standing] = {}
        for line in said.splitlines():
            number, state, reason = (*line.strip().split("|", 2), "", "")[:3]
            why = "" if reason in ("None", "") else reason
            if state in _QUEUED:
                states[number] = bab.Standing("queued", why)
            elif state in _RUNNING:
                states[number] = bab.Standing("running", why)
            else:
                states[number] = bab.Standing("ended", state)
        return {one: states.get(one, bab.Standing("ended")) for one in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        if ids:
            _slurm(["scancel", "--quiet", *ids])


def _slurm(command: Sequence[str], given: str = "") -> str:
    """What a command of Slurm's prints.

    Raises:
        BabError: it isn't there, or refuses.
    """
    if shutil.which(command[0]) is None:
        raise bab.BabError(
            f"--launcher slurm: there is no {command[0]} on this machine: give the command on a "
            "login node of the cluster"
        )
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=_MINUTE, check=False
        )
    except subprocess.TimeoutExpired:
        raise bab.BabError(f"{command[0]} doesn't answer: is the cluster up (`sinfo`)?") from None
    if done.returncode:
        told = re.sub(r"^\w+: error: ", "", " ".join(done.stderr.split()))
        raise bab.BabError(f"{command[0]}: {told}; look at --set launcher.KEY (`bab info slurm`)")
    return done.stdout
