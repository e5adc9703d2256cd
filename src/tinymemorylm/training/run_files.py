"""The growing files of a run: `metrics.jsonl` and `samples.jsonl`.

In: one object at a time. Out: whole lines. A checkpoint stores their lengths, and a resumed
run cuts them back to it, so that no line is doubled or torn.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinymemorylm.errors import InputError
from tinymemorylm.files import sync_folder


class JsonLines:
    """A JSONL file that is only ever appended to, or cut back to a known length in bytes.

    Raises InputError if the file is shorter than that.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        self._file = path.open("ab", buffering=0)  # a line is written at once, or not at all
        self._length = length
        size = os.fstat(self._file.fileno()).st_size
        if size < length:
            self._file.close()
            raise InputError(
                f"{path} holds {size} bytes, fewer than the {length} its checkpoint counts on; "
                "put it back, or name another --out"
            )
        self._file.truncate(length)
        sync_folder(path.parent)

    def append(self, value: dict[str, Any]) -> None:
        line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        written = 0
        try:
            while written < len(line):
                written += self._file.write(line[written:])
        except BaseException:
            with suppress(OSError):  # what went wrong before says more
                self._file.truncate(self._length)
            raise
        self._length += len(line)

    def sync(self) -> int:
        """Flush to the disk. Returns the length in bytes."""
        os.fsync(self._file.fileno())
        return self._length

    def close(self) -> None:
        self._file.close()
