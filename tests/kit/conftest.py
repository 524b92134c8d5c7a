"""No test of this folder hangs on the order in which folders are listed."""

from __future__ import annotations

import listing
import pytest


@pytest.fixture(autouse=True)
def any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    listing.mixed(monkeypatch)
