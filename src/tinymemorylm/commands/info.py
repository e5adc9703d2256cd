"""`tmlm info`: what a model consists of, counted.

In: a preset or a model directory. Out: parameters by part, FLOPs per token, cache bytes.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from tinymemorylm.commands.output import print_json
from tinymemorylm.config import ModelConfig, preset
from tinymemorylm.errors import InputError


@dataclass(frozen=True)
class Info:
    """The exact account of a model: parameters by part, FLOPs per token, cache bytes.

    Example: tmlm info --preset haiku
    """

    preset: str | None = None
    """A preset: haiku, haiku-literal or smoke."""
    model: Path | None = None
    """A model directory."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        from tinymemorylm.model.account import flops_per_token, kv_cache_bytes, parameter_account

        config = self._config()
        account = parameter_account(config)
        report = {
            "parameters": account,
            "config": asdict(config),
            "flops_per_token": flops_per_token(config),
            "kv_cache_bytes": kv_cache_bytes(config),
        }
        if self.json:
            print_json(report)
            return
        rows = [(part.replace("_", " "), count) for part, count in account["by_part"].items()]
        rows += [("total", account["total"]), ("inference (without MTP)", account["inference"])]
        print("parameters")
        for name, count in rows:
            print(f"  {name:<26}{count:>12,}")
        print(f"FLOPs per token, full context {report['flops_per_token']:>8,}")
        print(f"KV cache, full context {report['kv_cache_bytes']:>9,} bytes of float32")

    def _config(self) -> ModelConfig:
        from tinymemorylm.model_directory import read_architecture

        if (self.preset is None) == (self.model is None):
            raise InputError("give either --preset NAME or --model DIR")
        return preset(self.preset) if self.preset else read_architecture(self.model or Path())
