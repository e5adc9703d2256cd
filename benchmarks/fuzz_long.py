"""The readers of fuzz.py, fed what atheris finds by their coverage, one after the other, as JSON.

Run: python benchmarks/fuzz_long.py --seconds 600 (needs `pip install atheris`). Each reader has its
share of the seconds; a crash is printed with the bytes that led to it, and is a fault.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

READ_BY = ["tinymemorylm", "tomllib", "zipfile", "pickletools", "json"]
"""Packages whose branches count as found."""


def fuzz(name: str, seconds: int, result: Path) -> None:
    """Feed one reader; libFuzzer ends the process, so figures are written as they come."""
    import atheris

    with atheris.instrument_imports(include=READ_BY):
        from fuzz import READERS, feed
    folder = Path(tempfile.mkdtemp())
    seeds = folder / "seeds"
    seeds.mkdir()
    (seeds / "good").write_bytes(READERS[name][2](folder))
    count = {"fed": 0, "taken": 0}

    def one(content: bytes) -> None:
        count["fed"] += 1
        count["taken"] += feed(name, content, folder)
        if count["fed"] % 100 == 0:
            result.write_text(json.dumps(count))

    limits = [f"-max_total_time={seconds}", "-rss_limit_mb=4096", "-max_len=65536"]
    atheris.Setup([sys.argv[0], *limits, str(seeds)], one)
    atheris.Fuzz()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=600)
    options.add_argument("--reader", help="only this one, in this process")
    options.add_argument("--result", type=Path)
    given = options.parse_args()
    if given.reader:
        fuzz(given.reader, given.seconds, given.result)
        return 0
    from fuzz import READERS

    report: dict[str, object] = {}
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in READERS:
            result = Path(folder) / f"{name}.json"
            result.write_text("{}")
            share = str(given.seconds // len(READERS))
            which = ["--reader", name, "--seconds", share, "--result", str(result)]
            began = time.monotonic()
            done = subprocess.run([sys.executable, __file__, *which], stdout=sys.stderr, cwd=folder)
            faults += done.returncode != 0
            seconds = round(time.monotonic() - began)
            counted = json.loads(result.read_text())
            report[name] = {**counted, "seconds": seconds, "fault": done.returncode != 0}
    print(json.dumps({"readers": report, "faults": faults}, indent=1))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
