"""Train, measure and run language models of under a million parameters.

In Python, `load` is the way in: `load().chat("Hello!")`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tinymemorylm.language_model import LanguageModel

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(
    directory: str | Path | None = None,
    weights: Literal["pretrain", "model"] | None = None,
    device: str = "cpu",
) -> "LanguageModel":
    """A model directory's model, ready to use; None: the released model.

    weights None: the tuned ones if there.

    Raises InputError for a missing or damaged directory, or a device that isn't there.

    >>> lm = load(directory)
    >>> lm.generate("Once upon a time", seed=3, max_new_tokens=20).prompt_tokens > 1
    True
    """
    from tinymemorylm.files import released_model
    from tinymemorylm.language_model import LanguageModel

    return LanguageModel.load(directory or released_model(), weights, device)
