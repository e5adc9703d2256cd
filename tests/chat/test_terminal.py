"""The chat in a real terminal and in a pipe, with a model that writes "a" after "a"."""

import itertools
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinymemorylm.chat import terminal as terminal_module

CHAT = """
import os, sys, time
from tinymemorylm import cli
from tinymemorylm.decoding import reference

def letter_a(logits, sampling, ids, rng):
    time.sleep(0.005)
    return 6 + ord("a")

if os.isatty(0):
    os.close(os.open(os.ttyname(0), os.O_RDWR))  # makes it the controlling terminal
reference.choose = letter_a
sys.exit(cli.main(["chat", *sys.argv[1:]]))
"""


class Terminal:
    """A process on a pseudo-terminal."""

    def __init__(self, arguments: list[str]) -> None:
        self.end, other = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHAT, *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"},
        )
        os.close(other)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def interrupt_prompt(self) -> None:
        """Ctrl-C at a prompt, once it waits: readline sees no signal just before that."""
        self.expect("> ")
        time.sleep(0.2)
        self.type("\x03")

    def expect(self, text: str, seconds: float = 60) -> None:
        """Read on until `text` has come; what came before it is dropped."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            if select.select([self.end], [], [], 0.1)[0]:
                self.seen += os.read(self.end, 4096).decode(errors="replace")
        self.seen = self.seen.partition(text)[2]


@pytest.fixture
def terminal(finished_run: Path) -> Iterator[Terminal]:
    terminal = Terminal(["--model", str(finished_run)])
    yield terminal
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.end)


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Terminal, tmp_path: Path):
    terminal.expect("> ")
    terminal.type("hi\r")
    terminal.expect("aaa")
    terminal.type("\x03\x03")
    terminal.expect("> ")
    terminal.type(f"/save {tmp_path / 'chat.json'}\r")
    terminal.expect("saved 2 messages")
    messages = json.loads((tmp_path / "chat.json").read_text())["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant"]
    answer = messages[1]["content"]
    assert set(answer) == {"a"} and 3 <= len(answer) < 128
    terminal.expect("> ")
    terminal.type("/load nowhere.json\r")
    terminal.expect("nowhere.json: can't be read")
    terminal.interrupt_prompt()
    terminal.expect("Ctrl-C again leaves")
    terminal.interrupt_prompt()
    assert terminal.process.wait(20) == 0


def test_a_second_ctrl_c_while_the_first_is_answered_leaves(monkeypatch: pytest.MonkeyPatch):
    typed = iter([KeyboardInterrupt, "too late"])

    def read(_prompt: str) -> str:
        line = next(typed)
        if line is KeyboardInterrupt:
            raise KeyboardInterrupt
        return str(line)

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(terminal_module, "notice", lambda _: os.kill(os.getpid(), signal.SIGINT))
    with terminal_module.on_interrupt(lambda *_: None):  # as a conversation has it
        assert list(itertools.islice(terminal_module.typed_lines(), 3)) == []


def test_the_end_of_input_leaves(terminal: Terminal):
    terminal.expect("> ")
    terminal.type("\x04")
    assert terminal.process.wait(20) == 0


def piped(run: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHAT, "--model", str(run), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_in_a_pipe_a_line_in_is_an_answer_out_and_nothing_else(finished_run: Path):
    chat = piped(finished_run, "--max-new-tokens", "5")
    out, error = chat.communicate("hi\n\n/help\n/nonsense\nho\n")
    assert (chat.returncode, out) == (0, "aaaaa\naaaaa\n")
    assert "/retry" in error and "no command /nonsense" in error


def test_in_a_pipe_too_an_interrupt_stops_the_answer_alone(finished_run: Path):
    with piped(finished_run) as chat:
        assert chat.stdin and chat.stdout
        chat.stdin.write("hi\n")
        chat.stdin.flush()
        assert chat.stdout.read(1) == "a"
        chat.send_signal(signal.SIGINT)
        out, _ = chat.communicate("/retry\n")
    first, second = out.splitlines()
    assert chat.returncode == 0
    assert len(first) + 1 < 128 <= len(second)


def test_in_a_pipe_broken_utf8_ends_the_chat_with_the_line(finished_run: Path):
    done = subprocess.run(
        [sys.executable, "-c", CHAT, "--model", str(finished_run), "--max-new-tokens", "2"],
        input=b"hi\n\xff\n",
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (2, b"aa\n")
    assert done.stderr == b"tmlm: line 2 of the input is not UTF-8 at byte 1\n"
