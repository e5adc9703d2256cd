"""What to do with input that cannot be used: stop at once, or skip it and keep count.

In: where the fault stands ("file:line") and why. Out: an InputError, or a count with examples.
"""

from dataclasses import dataclass, field

from tinymemorylm.errors import InputError
from tinymemorylm.progress import log

_MOST_EXAMPLES = 10


@dataclass
class BadInput:
    """Stop at the first fault (`skip` false), or count faults and keep the first few."""

    skip: bool = False
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def report(self, where: str, why: str) -> None:
        """Raises InputError unless faults are skipped."""
        if not self.skip:
            raise InputError(f"{where}: {why} (fix it, or --skip-bad)")
        self.count += 1
        if len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(f"{where}: {why}")

    def log_skipped(self) -> None:
        """Say how much was skipped, if anything was."""
        if self.count:
            log(f"skipped {self.count} bad pieces of input, for example {self.examples[0]}")
