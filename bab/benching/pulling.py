"""A worker of a bench on any machine: `python -m bab.benching.pulling FOLDER`. It takes requests
from the bench's folder until there are none, whether or not the bench still watches.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from bab.benching.requests import Request, Requests
from bab.core.atomic import write_json
from bab.core.errors import InterruptedRunError

_OFTEN = 2.0  # seconds between two tellings of how far a run is: each is a file
_LOOK = 0.5  # seconds between two looks for something to do


class Puller:
    """One worker, and the request that it is at."""

    def __init__(self, folder: Path, name: str) -> None:
        self.requests, self.name = Requests(folder), name
        self._told = 0.0

    def work(self) -> int:
        """Make what is asked for; the exit status."""
        # Of an earlier life: a node that was lost, a queue that it went back to.
        for mine in self.requests.drop(self.name):
            self.requests.ask(mine)
        while True:
            request = self.requests.take(self.name)
            if request is not None:
                if not self._serve(request):
                    return InterruptedRunError.exit_code
            elif not self.requests.waiting():
                return 0
            else:
                time.sleep(_LOOK)

    def _serve(self, request: Request) -> bool:
        """Make a request's runs; False where it was to be stopped."""
        split = False

        def say(event: Mapping[str, Any]) -> None:
            nonlocal split
            if event["event"] == "apart":
                split = True
            elif event["event"] == "ended":
                self.requests.end_run(request, event)
                return
            if event.get("stage", "").startswith("training"):  # what it needs is there
                self.requests.heat(request)
            if event["event"] == "progress" and time.monotonic() - self._told >= _OFTEN:
                self._told = time.monotonic()
                write_json(self.requests.now / f"{self.name}.json", {**event, "of": request.name})

        try:
            from bab.benching.worker import serve  # torch: nothing is taken for long before it

            serve(request.body, say)
        except (InterruptedRunError, KeyboardInterrupt) as error:
            print(str(error) or "stopped", file=sys.stderr)
            self.requests.back(request, self.name)
            return False
        if split:
            self.requests.split(request, self.name)
        else:
            self.requests.finish(request, self.name)
        return True


def main(arguments: Sequence[str]) -> int:
    """Work for a bench: its folder, and this worker's name."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)  # while no run is at work; a run has its own way
    os.dup2(2, 1)  # one log
    try:
        return Puller(Path(arguments[0]), arguments[1]).work()
    except KeyboardInterrupt:
        return InterruptedRunError.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
