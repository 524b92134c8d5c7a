"""Randomness by name: every draw comes from (seed, what it is for), never from a running state.

So a draw doesn't depend on how many processes there are, on the order of the work, or on where a
run was stopped and resumed.
"""

from __future__ import annotations

import hashlib


def derive(*parts: object) -> int:
    """A 63-bit seed from any values that print stably (numbers, strings, tuples of them)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
