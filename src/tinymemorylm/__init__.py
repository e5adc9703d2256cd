"""Train, measure and run language models of under a million parameters.

In Python, `load` is the way in: `load("runs/quickstart").chat("Hello!")`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tinymemorylm.language_model import LanguageModel

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(
    directory: str | Path,
    weights: Literal["pretrain", "model"] | None = None,
    device: str = "cpu",
) -> "LanguageModel":
    """The model in a directory, ready to use. weights None: the tuned ones if there.

    Raises InputError for a missing or damaged directory, or a device that isn't there.

    >>> lm = load(directory)
    >>> lm.generate("Once upon a time", seed=3, max_new_tokens=20).prompt_tokens > 1
    True
    """
    from tinymemorylm.language_model import LanguageModel

    return LanguageModel.load(directory, weights, device)
