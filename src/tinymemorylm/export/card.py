"""The card of an export: the model's own card, with the other program's way of using it.

In: a `Source`. Out: README.md with the hub's metadata, and the picture it shows.
"""

import re
from pathlib import Path

from tinymemorylm.export.source import Source
from tinymemorylm.files import atomic_file, write_text

PICTURE = "loss_curve.png"


def write_card(
    source: Source, out: Path, use: str, note: str, library: str = "transformers"
) -> None:
    """README.md. use: how to run it there; note: what differs from the original.

    library: the hub's name of the program that loads it.
    """
    path = source.folder / "README.md"
    own = path.read_text(encoding="utf-8") if path.exists() else f"# {source.name}\n"
    write_text(out / "README.md", metadata(library) + with_use(own, f"{use}\n\n{note}"))
    if (source.folder / PICTURE).exists():
        with atomic_file(out / PICTURE) as file:
            file.write((source.folder / PICTURE).read_bytes())


def metadata(library: str) -> str:
    """What the hub reads at the head of a card; licences are the author's to add."""
    return (
        f"---\nlibrary_name: {library}\npipeline_tag: text-generation\n"
        "tags:\n- tinymemorylm\n---\n\n"
    )


def with_use(card: str, use: str) -> str:
    """The card with its section on use replaced, or one put at its end."""
    section = f"## Use\n\n{use}\n\n"
    changed, found = re.subn(r"^## Use\n.*?(?=^## |\Z)", lambda _: section, card, flags=re.M | re.S)
    return changed if found else f"{card.rstrip()}\n\n{section}"
