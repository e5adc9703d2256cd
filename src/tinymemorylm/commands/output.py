"""What results look like on stdout.

In: a value. Out: one JSON object, or a console that says whether colours may be used.
"""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def colour_console() -> "Console | None":
    """A console on stdout, or None where colours can't or mustn't be used."""
    from rich.console import Console

    console = Console(highlight=False)
    return None if console.no_color or console.color_system is None else console
