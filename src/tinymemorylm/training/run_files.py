"""The growing files of a run: `metrics.jsonl` and `samples.jsonl`.

In: one object at a time. Out: whole lines. A checkpoint stores their lengths, and a resumed
run cuts them back to it, so that no line is doubled or torn.
"""

import json
import os
from pathlib import Path
from typing import Any


class JsonLines:
    """A JSONL file that is only ever appended to, or cut back to a known length."""

    def __init__(self, path: Path, length: int = 0) -> None:
        self._file = path.open("ab")
        self._file.truncate(length)
        self._file.seek(length)

    def append(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def sync(self) -> int:
        """Flush to the disk. Returns the length in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
