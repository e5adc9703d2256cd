"""`tmlm bench`: how fast this machine trains.

In: a preset and what to compare with. Out: a table, or one JSON object.
"""

from dataclasses import dataclass
from typing import Literal

from tinymemorylm.commands.output import print_json


@dataclass(frozen=True)
class BenchTrain:
    """Tokens per second of a training step, all objectives on, and FLOP/s against sgemm.

    `--vs hf` adds Hugging Face's Ministral of the same shape, 16 untied layers, no multi-token
    prediction, in turns with ours. 4,096 tokens a step at every length. OMP_NUM_THREADS in the
    environment sets the threads.

    Example: tmlm bench train --vs hf --json
    """

    vs: Literal["hf"] | None = None
    """What to compare with; hf needs Transformers."""
    preset: str = "haiku-literal"
    """A preset: haiku, haiku-literal or smoke."""
    sequences: tuple[int, ...] = (256, 512, 2048)
    """Lengths to measure at."""
    pairs: int = 5
    """How often each side takes its turn at each length."""
    seconds: float = 2.0
    """How long a turn lasts at least; a step is always finished."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        from tinymemorylm.lab.throughput import measure, table

        found = measure(
            self.preset,
            self.sequences,
            vs_hf=self.vs == "hf",
            pairs=self.pairs,
            seconds=self.seconds,
        )
        print_json(found) if self.json else print(table(found))
