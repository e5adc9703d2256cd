"""One run on two hosts that share nothing but a directory: two network namespaces, a cable between.

Run: python benchmarks/two_hosts.py > benchmarks/results/two_hosts.json (Linux, as root; a minute)

A whole tiny run by torchrun on both; another in which one host is killed, after which both are
started again with --resume: it must come to the same bits. Where no namespaces can be made, it
says why.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from run_checks import differences, lines

ADDRESSES = ("10.213.77.1", "10.213.77.2")
PORT = "29577"
OVERRIDES = {
    "data": "storyworld:1:40KB",
    "chat-data": "storyworld:2:20KB",
    "pretrain.tokens": "2560",
    "pretrain.batch-size": "4",
    "pretrain.sequence-length": "64",
    "pretrain.checkpoint-every": "2",
    "sft.tokens": "2048",
    "sft.batch-size": "4",
    "sft.checkpoint-every": "2",
}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def two_hosts() -> Iterator[list[str]]:
    """The names of two namespaces, each with one end of a cable. Raises OSError, why not."""
    names = [f"tinymemorylm-{os.getpid()}-{i}" for i in (0, 1)]
    ends = [f"tm{os.getpid() % 100_000}-{i}" for i in (0, 1)]
    with ExitStack() as made:
        try:
            for name in names:
                ip("netns", "add", name)
                made.callback(ip, "netns", "del", name)  # its end of the cable goes with it
            ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for name, end, address in zip(names, ends, ADDRESSES, strict=True):
                ip("link", "set", end, "netns", name)
                ip("-n", name, "link", "set", end, "name", "cable")
                ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
                for device in ("cable", "lo"):
                    ip("-n", name, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            raise OSError(error.stderr.strip()) from None
        made.callback(lambda: [kill(name) for name in names])
        yield names


def start(hosts: list[str], out: Path, *more: str) -> list[subprocess.Popen[str]]:
    """torchrun on each host, one process each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "cable"}
    overrides = [part for name, value in OVERRIDES.items() for part in (f"--{name}", value)]
    started = []
    for rank, host in enumerate(hosts):
        group = ["--nnodes=2", f"--node-rank={rank}", "--nproc-per-node=1"]
        group += [f"--master-addr={ADDRESSES[0]}", f"--master-port={PORT}"]
        command = [sys.executable, "-m", "torch.distributed.run", *group, "-m", "tinymemorylm"]
        command += ["train", "--recipe", "smoke", "--device", "cpu", "--out", str(out)]
        started.append(
            subprocess.Popen(
                ["ip", "netns", "exec", host, *command, *overrides, *more],
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
    return started


def ended(processes: list[subprocess.Popen[str]], seconds: float = 170) -> list[str]:
    """What each said; all are gone then."""
    until = time.monotonic() + seconds
    try:
        return [p.communicate(timeout=max(0.1, until - time.monotonic()))[1] for p in processes]
    except subprocess.TimeoutExpired:
        raise SystemExit("two hosts did not come to an end") from None


def kill(host: str) -> None:
    """All of its processes at once."""
    pids = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True).stdout
    for pid in pids.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def finished(hosts: list[str], out: Path, *more: str) -> list[str]:
    processes = start(hosts, out, *more)
    said = ended(processes)
    if any(p.returncode for p in processes):
        raise SystemExit("\n".join(said))
    return said


def killed(hosts: list[str], out: Path, which: int, at: int) -> dict[str, Any]:
    """Kill host `which` once step `at` is written. What the other says, and how soon it ends."""
    processes = start(hosts, out)
    metrics = out / "metrics.jsonl"
    while not metrics.exists() or len(lines(metrics)) < at:
        if any(p.poll() is not None for p in processes):
            raise SystemExit("\n".join(ended(processes)))
        time.sleep(0.01)
    began = time.monotonic()
    kill(hosts[which])
    said = ended(processes)[1 - which]
    ours = [line for line in said.splitlines() if line.startswith("tmlm:")]
    return {
        "killed": f"host {which}",
        "other_ended_after_seconds": round(time.monotonic() - began, 1),
        "other_said": ours,
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--deaths", type=int, nargs="*", choices=(0, 1), default=[1, 0])
    given = options.parse_args()
    try:
        with two_hosts() as hosts, tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            finished(hosts, folder / "whole")
            last = lines(folder / "whole" / "metrics.jsonl")[-1]
            report: dict[str, Any] = {"steps": last["step"], "loss": last["loss"], "deaths": []}
            for which in given.deaths:
                run = folder / f"killed-{which}"
                death = killed(hosts, run, which, at=3)
                said = finished(hosts, run, "--resume")
                death["resumed"] = any("resumed at step" in text for text in said)
                death["differences"] = differences(run, folder / "whole")
                report["deaths"].append(death)
    except OSError as error:
        report = {"skipped": f"no network namespaces here: {error}"}
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
