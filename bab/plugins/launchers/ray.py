"""Launcher `ray`: jobs of a Ray cluster, each in an actor of its own that outlives the command."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

import bab

_SPACE = "bab"  # Ray's namespace: actors are found by name in it
_ANSWER = 2.0  # seconds in which an actor that is at work says so


class RayOptions(bab.Options):
    address: str = Field(
        default="auto", description="of the cluster: auto (this machine's), HOST:6379, ray://HOST"
    )
    cpus: PositiveInt = Field(default=1, description="cores of a job")
    gpus: Annotated[float, Field(ge=0)] = Field(default=0, description="of a job; a share may do")
    memory: PositiveFloat | None = Field(default=None, description="GB that a job is counted with")
    processes: NonNegativeInt = Field(
        default=0, description="bab pretrain: on the one machine; 0 = one for each GPU, at least 1"
    )
    resources: dict[str, float] = Field(
        default={}, description="further ones, as the nodes were started with: {big: 1}"
    )


class Ray(bab.Launcher):
    """Jobs of a Ray cluster (extra: bab[ray]). A job whose machine is lost is started anew.

    Ray's own results aren't read, and nothing of bab passes through its object store.
    """

    Options = RayOptions
    source = "https://docs.ray.io"
    where = "a Ray cluster; folders and Python under the same paths on all nodes"

    def __init__(self, options: RayOptions) -> None:
        super().__init__(options)
        self._ray: Any = None
        self._asked: dict[str, Any] = {}  # id -> an answer that is waited for

    @property
    def layout(self) -> tuple[int, int]:
        return 1, self.options.processes or max(1, int(self.options.gpus))

    def submit(self, work: bab.Work) -> str:
        ray, options = self._connected(), self.options
        number = f"{work.name}-{uuid.uuid4().hex[:8]}"
        more = {"memory": int(options.memory * 1e9)} if options.memory else {}
        environment = {"OMP_NUM_THREADS": str(options.cpus), **work.env}
        holder = ray.remote(_Holder).options(
            name=number,
            namespace=_SPACE,
            lifetime="detached",
            max_concurrency=3,
            num_cpus=options.cpus,
            num_gpus=options.gpus,
            resources=options.resources,
            **more,
        )
        holder.remote(work.argv, str(work.folder), str(work.log), environment).leave.remote()
        return number

    def poll(self, ids: Sequence[str]) -> Mapping[str, bab.Standing]:
        ray = self._connected()
        gone: dict[str, bab.Standing] = {}
        for one in ids:
            if one not in self._asked:
                try:
                    actor = ray.get_actor(one, namespace=_SPACE)
                    self._asked[one] = actor.running.remote()
                except ValueError:  # Ray knows it no more
                    gone[one] = bab.Standing("ended")
        waiting = [self._asked[one] for one in ids if one not in gone]
        ready: set[Any] = set()
        if waiting:
            ready = set(ray.wait(waiting, num_returns=len(waiting), timeout=_ANSWER)[0])
        return {one: gone.get(one) or self._standing(one, ready) for one in ids}

    def _standing(self, number: str, ready: set[Any]) -> bab.Standing:
        if self._asked[number] not in ready:  # it has no place yet, and can't answer
            return bab.Standing("queued")
        try:
            running = self._ray.get(self._asked.pop(number))
        except self._ray.exceptions.RayActorError as error:
            lost = "node" in str(error).lower()
            return bab.Standing("ended", "its node was lost" if lost else "")
        if running:
            return bab.Standing("running")
        self._end(number)
        return bab.Standing("ended")

    def cancel(self, ids: Sequence[str]) -> None:
        ray = self._connected()
        for one in ids:
            try:
                actor = ray.get_actor(one, namespace=_SPACE)
                waiting, _ = ray.wait([actor.stop.remote()], timeout=_ANSWER)
            except (ValueError, ray.exceptions.RayActorError):
                continue
            if not waiting:  # in the queue: it has nothing to save
                self._end(one)

    def _end(self, number: str) -> None:
        """Give the actor's place back."""
        with suppress(ValueError):
            self._ray.kill(self._ray.get_actor(number, namespace=_SPACE))

    def _connected(self) -> Any:
        """Ray, connected.

        Raises:
            BabError: it isn't installed, or there is no cluster.
        """
        if self._ray is not None:
            return self._ray
        try:
            import ray
        except ImportError:
            raise bab.BabError("--launcher ray needs Ray: pip install 'bab[ray]'") from None
        try:
            _reach(self.options.address)
            ray.init(
                self.options.address,
                namespace=_SPACE,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=False,
                ignore_reinit_error=True,
            )
        except Exception as error:  # ConnectionError, RuntimeError, ValueError: by the address
            told = " ".join(str(error).split())[:300]
            raise bab.BabError(
                f"no Ray cluster at launcher.address={self.options.address}: {told}. Start one "
                "(`ray start --head`), or name its address"
            ) from error
        self._ray = ray
        return ray


def _reach(address: str) -> None:
    """Raises OSError: nobody listens at HOST:PORT. Ray itself would try for minutes."""
    client = address.startswith("ray://")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if client and not host:
        host, port = port, "10001"
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


class _Holder:
    """The actor: a process, which ends when the actor does. When the process has ended, so does the
    actor, so that it holds no cores while nobody asks."""

    def __init__(
        self, argv: Sequence[str], folder: str, log: str, environment: Mapping[str, str]
    ) -> None:
        with Path(log).open("ab") as file:
            self.process = subprocess.Popen(
                argv,
                cwd=folder,
                # BAB_LEASH: the job ends when this pipe does, however this actor ends.
                env={**os.environ, **environment, "BAB_LEASH": "1"},
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        # Where the command went before it could ask this actor to leave.
        threading.Thread(target=self._leave_late, daemon=True).start()

    def leave(self) -> None:
        import ray

        self.process.wait()
        ray.actor.exit_actor()

    def _leave_late(self) -> None:
        self.process.wait()
        time.sleep(30)
        os._exit(0)

    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        self.process.terminate()
