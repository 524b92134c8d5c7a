"""Files that are damaged on purpose."""

from __future__ import annotations


def flipped(data: bytes, bit: int) -> bytes:
    """`data` with one bit turned."""
    other = bytearray(data)
    other[bit // 8] ^= 1 << bit % 8
    return bytes(other)
