"""Options that several verbs share: which model, and how to sample.

In: arguments. Out: a loaded model, and the keywords of its methods.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tinymemorylm.files import released_model

if TYPE_CHECKING:
    from tinymemorylm.language_model import LanguageModel, Options

Weights = Literal["pretrain", "model"]


@dataclass(frozen=True, kw_only=True)
class WeightsOptions:
    model: Path | None = None
    """A model directory; the released model when left out."""
    weights: Weights | None = None
    """Pretrained or tuned weights; the tuned ones if there when left out."""

    @property
    def folder(self) -> Path:
        """The model directory meant."""
        return self.model or released_model()


@dataclass(frozen=True, kw_only=True)
class ModelOptions(WeightsOptions):
    device: str = "cpu"

    def load(self) -> "LanguageModel":
        from tinymemorylm.language_model import LanguageModel

        return LanguageModel.load(self.folder, self.weights, self.device)


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(ModelOptions):
    max_new_tokens: int = 200
    temperature: float = 0.7
    """0 always takes the likeliest token."""
    top_k: int = 0
    """Choose among the k likeliest tokens; 0: all."""
    top_p: float = 0.95
    """Choose among the likeliest tokens that hold this probability."""
    min_p: float = 0.0
    """Leave out tokens below this share of the likeliest one's probability."""
    repetition_penalty: float = 1.0
    """Above 1: make tokens already there less likely."""
    stop: tuple[str, ...] = ()
    """End before any of these strings."""
    seed: int = 0

    def options(self) -> "Options":
        return {
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "stop": self.stop,
            "seed": self.seed,
        }
