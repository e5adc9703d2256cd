"""Sizes as a user writes them.

In: "300000", "4MB", "2gb". Out: bytes.
"""

import re

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_size(text: str) -> int | None:
    """Bytes; None for anything else, and for 0."""
    match = re.fullmatch(r"([0-9]{1,18})([A-Za-z]*)", text)
    return int(match[1]) * _UNITS.get(match[2].upper(), 0) or None if match else None
