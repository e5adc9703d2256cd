"""`tmlm export`, `tmlm import` and `tmlm push`: models into other programs, and back.

In: a model directory, or an export of one. Out: files, or a repository on the hub.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from tinymemorylm.commands.options import WeightsOptions
from tinymemorylm.files import released_model


@dataclass(frozen=True, kw_only=True)
class ExportHf(WeightsOptions):
    """A directory for Transformers: MinistralForCausalLM, no remote code.

    `AutoModelForCausalLM`, `AutoTokenizer`, `pipeline` and lm-eval load it.

    Example: tmlm export hf --out exports/haiku
    """

    out: Path
    """The directory to write."""

    def run(self) -> None:
        from tinymemorylm.export.huggingface import export_huggingface
        from tinymemorylm.export.source import read_source

        export_huggingface(read_source(self.folder, self.weights), self.out)
        tell(self.out)


@dataclass(frozen=True, kw_only=True)
class ExportGguf(WeightsOptions):
    """One GGUF file for llama.cpp, tokenizer and chat template in it.

    Example: tmlm export gguf --out exports/haiku.gguf
    """

    out: Path
    """The file to write."""
    type: Literal["f32", "f16", "q8_0"] = "f16"
    """How matrices are stored."""

    def run(self) -> None:
        from tinymemorylm.export.gguf import export_gguf
        from tinymemorylm.export.source import read_source

        export_gguf(read_source(self.folder, self.weights), self.out, self.type)
        tell(self.out)


@dataclass(frozen=True, kw_only=True)
class ExportOnnx(WeightsOptions):
    """A directory for transformers.js, in browsers too, and for onnxruntime.

    Example: tmlm export onnx --out exports/haiku-onnx --dtype int8
    """

    out: Path
    """The directory to write."""
    dtype: tuple[Literal["fp32", "int8", "q4"], ...] = ("fp32",)
    """How matrices are stored: a file for each; transformers.js takes the first unless told."""

    def run(self) -> None:
        from tinymemorylm.export.onnx import export_onnx
        from tinymemorylm.export.source import read_source

        export_onnx(read_source(self.folder, self.weights), self.out, self.dtype)
        tell(self.out)


@dataclass(frozen=True)
class ImportHf:
    """A model directory from what `tmlm export hf` wrote, the same weights to the bit.

    Example: tmlm import hf exports/haiku --out runs/haiku-again
    """

    folder: tyro.conf.Positional[Path]
    """The directory to read."""
    out: Path
    """The model directory to write."""

    def run(self) -> None:
        from tinymemorylm.export.from_huggingface import import_huggingface

        import_huggingface(self.folder, self.out)
        tell(self.out)


@dataclass(frozen=True, kw_only=True)
class Push:
    """Upload a release or an export, with its card, to the Hugging Face hub.

    Logs in by what `hf auth login` left. A repository that isn't there yet is made.

    Example: tmlm push --repo owner/haiku
    """

    repo: str
    """Where to: owner/name."""
    model: Path | None = None
    """A model directory or an export; the released model when left out."""
    private: bool = False
    """Make a new repository private."""

    def run(self) -> None:
        from tinymemorylm.export.hub import push

        print(push(self.model or released_model(), self.repo, self.private))


def tell(out: Path) -> None:
    """What was written, in a line."""
    from tinymemorylm.progress import log

    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    log(f"wrote {out}: {sum(path.stat().st_size for path in files) / 1e6:.1f} MB")
