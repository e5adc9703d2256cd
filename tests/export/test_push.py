"""`tmlm push`, to a hub on this machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_repositories import TOKEN, fake_repositories

from tinymemorylm.errors import InputError
from tinymemorylm.export.hub import push, release_files
from tinymemorylm.export.huggingface import export_huggingface
from tinymemorylm.export.source import Source

pytest.importorskip("huggingface_hub")
PUSH = "import sys; from tinymemorylm import cli; sys.exit(cli.main(['push', *sys.argv[1:]]))"


def pushed(address: str, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """`tmlm push` in a process of its own: the hub's address is read when its library loads."""
    settings = {
        "HF_ENDPOINT": address,
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", PUSH, *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    shutil.copytree(finished_run, folder)
    return folder


def test_a_release_is_uploaded_with_its_card_and_without_the_rest(run: Path):
    with fake_repositories() as (address, hub):
        done = pushed(address, "--repo", "me/tiny", "--model", str(run), "--private")
        again = pushed(address, "--repo", "me/tiny", "--model", str(run))
    assert done.returncode == again.returncode == 0, done.stderr
    assert done.stdout == f"{address}/me/tiny\n"
    files = hub.files["me/tiny"]
    assert hub.private["me/tiny"] is True and set(files) == {p.name for p in release_files(run)}
    assert {"config.json", "tokenizer.json", "model.pt", "pretrain.pt", "README.md"} <= set(files)
    assert not any("checkpoint" in name or "shard" in name for name in files)
    assert files["model.pt"] == (run / "model.pt").read_bytes()
    card = (run / "README.md").read_bytes()
    assert files["README.md"].startswith(b"---\nlibrary_name: tinymemorylm\n")
    assert files["README.md"].endswith(card)


def test_an_export_is_uploaded_whole(smoke: Source, tmp_path: Path):
    folder = tmp_path / "hf"
    export_huggingface(smoke, folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "left").write_text("over")
    with fake_repositories() as (address, hub):
        assert pushed(address, "--repo", "me/hf", "--model", str(folder)).returncode == 0
    assert "tinymemorylm/weights.safetensors" in hub.files["me/hf"]
    assert ".cache/left" not in hub.files["me/hf"]
    assert hub.files["me/hf"]["README.md"] == (folder / "README.md").read_bytes()


@pytest.mark.parametrize(
    ("repo", "token", "message"),
    [
        ("me/tiny", "hf_wrong", "the hub refuses: no right to write there; `hf auth login`"),
        ("someone-else/tiny", TOKEN, "the hub refuses: no right to write there"),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_1(run: Path, repo: str, token: str, message: str):
    with fake_repositories() as (address, _):
        done = pushed(address, "--repo", repo, "--model", str(run), token=token)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_hub_that_is_not_there_is_one_line_and_exit_code_1(run: Path):
    with fake_repositories() as (address, _):
        pass
    done = pushed(address, "--repo", "me/tiny", "--model", str(run))
    assert done.returncode == 1
    assert "the hub can't be reached" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("repo", ["tiny", "a/b/c", "a b/c", ""])
def test_a_malformed_name_is_an_input_error(run: Path, repo: str):
    with pytest.raises(InputError, match="write owner/name"):
        push(run, repo)


def test_a_folder_without_a_card_is_an_input_error(run: Path, tmp_path: Path):
    (run / "README.md").unlink()
    with pytest.raises(InputError, match=r"has no README\.md: `tmlm eval --append-card`"):
        push(run, "me/tiny")
    with pytest.raises(InputError, match=r"has no config\.json: name a model directory"):
        push(tmp_path, "me/tiny")
