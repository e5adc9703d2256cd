"""A speedrun: what its clock counts, what it measures, that it goes on where it was stopped."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tinymemorylm import cli
from tinymemorylm.config import load_recipe
from tinymemorylm.errors import InputError
from tinymemorylm.evaluation.bits_per_byte import TextScore
from tinymemorylm.lab import speedrun as speedrun_module
from tinymemorylm.lab.contestants import MOST_PARAMETERS, Characters, Ours, PlainGPT
from tinymemorylm.lab.peers import GPTConfig
from tinymemorylm.lab.race_results import results, results_table
from tinymemorylm.lab.speedrun import NANOGPT, PLAIN_GPT, Lane, drive, read_race, speedrun
from tinymemorylm.model.account import parameter_account
from tinymemorylm.training.loop import InterruptedRunError

RECIPE = """
preset = "smoke"
vocab_size = 300
spell_share = 0.0

[pretrain]
tokens = 768
batch_size = 2
sequence_length = 64
long_sequence_length = 128
long_share = 0.34
warmup_steps = 2

[sft]
tokens = 0
"""
SMALL = GPTConfig(vocab_size=300, n_layers=1, n_heads=2, width=16, block=16, iterations=4)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def text(tmp_path: Path, texts: list[str]) -> Path:
    path = tmp_path / "stories.txt"
    path.write_text("\n".join(texts)[:12_000])
    return path


@pytest.fixture(autouse=True)
def small_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedrun_module, "NANOGPT", SMALL)
    monkeypatch.setattr(speedrun_module, "PLAIN_GPT", SMALL)


def run(*arguments: str) -> int:
    try:
        return cli.main(["lab", "speedrun", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


# ---------------------------------------------------------------- the sides


def test_the_projects_recipe_and_peers_are_of_the_size_allowed():
    recipe = load_recipe(Path("speedrun"))
    assert parameter_account(recipe.model())["total"] <= MOST_PARAMETERS
    ours = parameter_account(recipe.model())
    theirs = PlainGPT("plain GPT", PLAIN_GPT, [], 0, bpe=True).parameters
    assert ours["inference"] < theirs < ours["total"]
    assert (NANOGPT.iterations, NANOGPT.block, NANOGPT.batch_size) == (2000, 64, 12)


def test_ours_takes_the_stages_its_recipe_says(recipe: Path, texts: list[str], tmp_path: Path):
    ours = Ours(load_recipe(recipe), texts[:40], tmp_path / "ours", seed=1)
    ours.prepare()
    lengths = []
    for step in range(ours.n_steps):
        assert ours.step(step, ours.n_steps) == 128
        lengths.append(list(ours.rows_seen))
    assert lengths[-1] == [8, 2] and lengths[3] == [8, 0]  # the last two steps are long
    score = ours.score(texts[40:42])
    assert score.n_bytes == sum(len(t.encode()) for t in texts[40:42])


def test_a_recipe_beyond_the_parameters_allowed_is_refused(recipe: Path, texts, tmp_path: Path):
    large = dataclasses.replace(load_recipe(recipe), preset="haiku-literal", vocab_size=2133)
    with pytest.raises(InputError, match=r"1,40\d,\d+ parameters"):
        Ours(large, texts, tmp_path, seed=0)


def plain(texts: list[str], bpe: bool) -> PlainGPT:
    side = PlainGPT("plain", SMALL, texts[:40], seed=0, bpe=bpe)
    side.prepare()
    return side


@pytest.mark.parametrize("bpe", [False, True])
def test_every_token_of_the_held_out_text_is_scored_once(bpe: bool, texts: list[str]):
    side = plain(texts, bpe)
    held_out = [t[:200] for t in texts[40:43]]
    scores = [side.score(held_out, fresh) for fresh in (1, 7, 8, 16)]
    n_tokens = sum(len(side.encode(t)) for t in held_out)
    assert {s.n_tokens for s in scores} == {n_tokens}
    assert {s.n_bytes for s in scores} == {sum(len(t.encode()) for t in held_out)}
    for score in scores:  # untrained: near chance whatever it sees
        assert score.nats / n_tokens == pytest.approx(math.log(side.config.vocab_size), rel=0.05)


def test_windows_give_the_nats_of_a_token_at_a_time(texts: list[str]):
    side = plain(texts, bpe=True)
    for step in range(4):
        side.step(step, 4)
    document = texts[41][:120]
    ids = [*side.before, *side.encode(document)]
    slow = 0.0
    for i in range(1, len(ids)):
        seen = torch.tensor([ids[max(0, i - SMALL.block) : i]])
        slow -= float(side.model(seen)[0, -1].log_softmax(-1)[ids[i]].detach())
    assert side.score([document], fresh=1).nats == pytest.approx(slow, rel=1e-5)


def test_characters_never_seen_cannot_be_raced_on():
    assert Characters(["cab"]).encode("abc") == [0, 1, 2]
    with pytest.raises(InputError, match="'z'"):
        Characters(["abc"]).encode("az")


# ---------------------------------------------------------------- the clock


class Sleeper:
    """A side whose steps take as long as the test's clock says."""

    def __init__(self, clock: list[float], n_steps: int, seconds: float = 1.0) -> None:
        self.name, self.parameters, self.n_steps = "sleeper", 1, n_steps
        self.clock, self.step_seconds = clock, seconds
        self.totals: list[float] = []

    def prepare(self) -> None:
        self.clock[0] += 2

    def step(self, step: int, n_steps: float) -> int:
        self.clock[0] += self.step_seconds
        self.totals.append(n_steps)
        return 10

    def score(self, documents: Any) -> TextScore:
        self.clock[0] += 1000  # off the clock
        return TextScore(1.0, 1, 1)

    def last_words(self, documents: Any) -> dict[str, Any]:
        return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(speedrun_module.time, "perf_counter", lambda: now[0])
    return now


def test_evaluation_is_off_the_clock_and_preparation_on_it(clock: list[float]):
    lanes = [Lane(Sleeper(clock, 8), None, 4), Lane(Sleeper(clock, 20), None, 2)]
    drive(lanes, [], "race", lambda: False)
    assert [lane.seconds for lane in lanes] == [10, 22]
    assert [p["seconds"] for p in lanes[0].points] == [4, 6, 8, 10]
    assert [p["tokens"] for p in lanes[1].points] == [100, 200]


def test_a_race_by_time_ends_with_the_clock_and_schedules_follow_it(clock: list[float]):
    side = Sleeper(clock, 5, seconds=2.0)
    lane = Lane(side, 22.0, 2)
    drive([lane], [], "race", lambda: False)
    assert lane.seconds == 22 and lane.step == 10 and len(lane.points) == 2
    assert side.totals[1:] == pytest.approx([11] * 9)  # 10 steps, the last at share 9 / 10


def test_preparing_beyond_the_limit_leaves_an_untrained_side(clock: list[float]):
    lane = Lane(Sleeper(clock, 5), 1.0, 3)
    drive([lane], [], "race", lambda: False)
    assert lane.step == 0 and len(lane.points) == 1


# ---------------------------------------------------------------- the whole


def test_a_race_writes_results_a_table_and_a_picture(recipe: Path, text: Path, tmp_path: Path):
    out = tmp_path / "out"
    race = read_race("shakespeare", [str(text)], [], load_recipe(recipe), [], None)
    found = speedrun(race, out, repeats=2, evaluations=2)
    assert json.loads((out / "results.json").read_text()) == found
    assert found["held_out_bytes"] == len(race.held_out[0].encode())
    assert [(s["side"], s["repeats"]) for s in found["summary"]] == [("ours", 2), ("nanoGPT", 2)]
    theirs = [row for row in found["rows"] if row["side"] == "nanoGPT"]
    assert all(row["seconds_to_target"] == row["points"][-1]["seconds"] for row in theirs)
    assert not found["published"]["reproduced"]  # four steps
    table = (out / "results.md").read_text()
    assert "NOT reproduced" in table and "windows of its block" in table
    assert (out / "race.png").read_bytes().startswith(b"\x89PNG")


def test_it_goes_on_with_the_repeats_it_has_not_run(recipe: Path, text: Path, tmp_path, capsys):
    arguments = ["--track", "shakespeare", "--text", str(text), "--recipe", str(recipe)]
    arguments += ["--out", str(tmp_path / "out"), "--evaluations", "1"]
    assert run(*arguments, "--repeats", "1") == 0
    first = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert run(*arguments, "--repeats", "2", "--json") == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert rows[:2] == first and [row["repeat"] for row in rows] == [0, 0, 1, 1]
    changed = [*arguments[:-4], "--out", str(tmp_path / "out"), "--minutes", "1"]
    assert run(*changed) == 2
    assert "name another --out" in capsys.readouterr().err


def test_a_directory_with_other_results_is_refused(recipe: Path, text: Path, tmp_path, capsys):
    (tmp_path / "results.json").write_text("[]")
    arguments = ["--track", "shakespeare", "--text", str(text), "--recipe", str(recipe)]
    assert run(*arguments, "--out", str(tmp_path)) == 2
    assert "name another --out" in capsys.readouterr().err


def test_stopped_in_the_middle_it_keeps_what_is_finished(recipe: Path, text: Path, tmp_path: Path):
    race = read_race("shakespeare", [str(text)], [], load_recipe(recipe), [], None)
    speedrun(race, tmp_path / "out", repeats=1, evaluations=1)
    before = (tmp_path / "out" / "results.json").read_bytes()
    with pytest.raises(InterruptedRunError, match="same command"):
        speedrun_module.run_repeat(race, None, 1, 1, lambda: True)
    assert (tmp_path / "out" / "results.json").read_bytes() == before


def test_books_are_raced_by_the_clock(recipe: Path, text: Path, texts, tmp_path: Path, capsys):
    dev = tmp_path / "dev.txt"
    dev.write_text(texts[50])
    arguments = ["--track", "books", "--text", str(text), "--dev", str(dev)]
    arguments += ["--recipe", str(recipe), "--out", str(tmp_path / "out"), "--minutes", "0.02"]
    assert run(*arguments, "--repeats", "1", "--evaluations", "1") == 0
    assert "plain GPT" in capsys.readouterr().out


def row(side: str, repeat: int, *points: tuple[float, float]) -> dict[str, Any]:
    seconds, value = points[-1]
    return {
        "side": side,
        "minutes": None,
        "repeat": repeat,
        "parameters": 1,
        "tokens": 1,
        "prepare_seconds": 0.0,
        "seconds": seconds,
        "bits_per_byte": value,
        "points": [{"seconds": s, "tokens": 1, "bits_per_byte": b} for s, b in points],
    }


USED = {"cpu": "a CPU", "cores": 2, "threads": 2, "torch": "2"}


def test_the_target_is_where_the_baseline_ends_and_nothing_is_drawn_between_points():
    rows = [row("ours", 0, (5, 3.0), (9, 2.4), (12, 2.2)), row("plain", 0, (10, 2.9), (20, 2.5))]
    rows += [row("ours", 1, (6, 3.0), (11, 2.7)), row("plain", 1, (22, 2.6))]
    rows += [row("ours", 2, (7, 2.0)), row("plain", 2, (24, 2.4))]
    found = results({"track": "books"}, None, rows, USED, 7)
    assert [r["seconds_to_target"] for r in rows] == [9, 20, None, 22, 7, 24]
    assert [s["seconds_to_target"] for s in found["summary"]] == [9, 22]
    assert found["summary"][0]["bits_per_byte"] == 2.2
    assert "| ours | own steps | 3 |" in results_table(found)
    stated = results({"track": "books"}, 1.0, rows, USED, 7)
    assert [s["seconds_to_target"] for s in stated["summary"]] == [None, None]


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--track", "shakespeare", "--text", "nowhere.txt"], "nowhere.txt"),
        (["--track", "shakespeare", "--text", "a.txt", "b.txt"], "one --text"),
        (["--track", "books", "--text", "a.txt"], "--dev"),
        (["--track", "shakespeare", "--text", "a.txt", "--minutes", "-1"], "-1"),
        (["--track", "shakespeare", "--text", "a.txt", "--threads", "0"], "threads"),
    ],
)
def test_bad_options_are_told_of_in_one_line(arguments, named, recipe, tmp_path, capsys):
    assert run(*arguments, "--recipe", str(recipe), "--out", str(tmp_path / "out")) == 2
    printed = capsys.readouterr()
    assert named in printed.err and printed.err.count("\n") == 1 and not printed.out
