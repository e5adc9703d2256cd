"""A model directory or an export, uploaded to the Hugging Face hub with its card.

In: a folder and "owner/name". Out: a repository there, changed in one commit.
"""

import re
from pathlib import Path
from typing import Any

from tinymemorylm.errors import InputError, RunError
from tinymemorylm.export.card import metadata
from tinymemorylm.export.source import check_extra
from tinymemorylm.report.release import FILES

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def push(folder: Path, repo: str, private: bool = False) -> str:
    """Upload the folder's release files, or all files of an export. Returns the address.

    The token is `hf auth login`'s. Raises InputError for a folder without a card or a malformed
    name, RunError if the hub refuses or can't be reached.
    """
    check_extra("huggingface_hub", extra="hub")
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if not REPOSITORY.fullmatch(repo):
        raise InputError(f"--repo {repo}: write owner/name")
    operations = [
        CommitOperationAdd(path.relative_to(folder).as_posix(), _content(path))
        for path in release_files(folder)
    ]
    api = HfApi()
    try:
        # Not private: as the owner's settings have it.
        address = api.create_repo(repo, private=private or None, exist_ok=True)
        api.create_commit(repo, operations, commit_message=f"Upload {folder.resolve().name}")
    except HfHubHTTPError as error:
        raise RunError(f"{repo}: the hub refuses: {_reason(error)}") from None
    except Exception as error:  # any kind of the HTTP client's
        raise RunError(f"{repo}: the hub can't be reached: {_line(error)}; try again") from None
    return str(address)


def release_files(folder: Path) -> list[Path]:
    """What others need of a folder: no streams, checkpoints or hidden files.

    Raises InputError if it has no card, or no config.
    """
    for name, fix in (
        ("config.json", "name a model directory or an export"),
        ("README.md", "`tmlm eval --append-card` writes the card of a run"),
    ):
        if not (folder / name).exists():
            raise InputError(f"{folder} has no {name}: {fix}")
    if (folder / "recipe.json").exists() or (folder / "model.pt").exists():
        return [path for name in (*FILES, "metrics.jsonl") if (path := folder / name).exists()]
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [folder / path for path in found if not any(p.startswith(".") for p in path.parts)]


def _content(path: Path) -> Path | bytes:
    """A file as it is; a card without the hub's metadata gets it."""
    if path.name != "README.md" or path.read_bytes().startswith(b"---\n"):
        return path
    return metadata("tinymemorylm").encode() + path.read_bytes()


def _reason(error: Any) -> str:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return "no right to write there; `hf auth login` with a token that may, or name your own"
    return _line(error)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
