"""A folder of requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from bab.benching.requests import Requests


@pytest.fixture
def requests(tmp_path: Path) -> Requests:
    made = Requests(tmp_path)
    made.make()
    return made
