"""The command line: one dataclass a verb, its fields the options, its `run` the work.

In: arguments. Out: exit code 0, 1 for a failure, 2 for bad input, 130 when interrupted. Rooms
are imported inside `run`, so that help is instant.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tinymemorylm.commands.lab import Ablate
from tinymemorylm.config import ModelConfig, Recipe, load_recipe, preset
from tinymemorylm.errors import InputError, RunError

Weights = Literal["pretrain", "model"]
Sink = Literal["tensorboard", "trackio"]


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


@dataclass(frozen=True)
class Quickstart:
    """The whole job in minutes: tokenizer, pretraining, SFT, samples, evaluation.

    Uses the text that comes with the package, needs no network and no GPU. Interrupted, it
    goes on where it stopped.

    Example: tmlm quickstart
    """

    out: Path = Path("runs/quickstart")
    """The model directory to write."""
    seed: int = 0
    device: str | None = None
    """cpu, cuda or mps; the best there is when left out."""

    def run(self) -> None:
        from tinymemorylm.quickstart import quickstart

        quickstart(self.out, self.seed, self.device)


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


@dataclass(frozen=True)
class TokenizerTrain:
    """Build a word/character tokenizer of an exact size from any text.

    Example: tmlm tokenizer train --data books/ --vocab-size 2133 --out tokenizer.json
    """

    data: tuple[str, ...]
    """Texts: .txt, .jsonl, .parquet, also compressed; folders, globs, storyworld:SEED:BYTES,
    hf:owner/name, tinystories."""
    out: Path
    """The tokenizer.json to write."""
    vocab_size: int = Recipe("").vocab_size
    document_separator: str = Recipe("").document_separator
    """What parts documents in .txt files: a line holding only this; or blank; or line."""
    skip_bad: bool = False
    """Count bad input instead of stopping at it."""

    def run(self) -> None:
        from tinymemorylm.corpus import BadInput
        from tinymemorylm.progress import log
        from tinymemorylm.tokenizer import train_tokenizer
        from tinymemorylm.training.prepare import documents

        recipe = Recipe("", data=self.data, document_separator=self.document_separator)
        bad = BadInput(skip=self.skip_bad)
        tokenizer = train_tokenizer(documents(recipe, bad, "reading"), self.vocab_size)
        tokenizer.save(self.out)
        words = int((tokenizer.classes == 2).sum())
        log(f"wrote {self.out}: {tokenizer.vocab_size:,} tokens, {words:,} of them words")
        if bad.count:
            log(f"skipped {bad.count} bad pieces of input, for example {bad.examples[0]}")


@dataclass(frozen=True)
class TokenizerInspect:
    """How a text splits: its tokens, bytes per token, and how much of it whole words cover.

    Example: tmlm tokenizer inspect --tokenizer tokenizer.json --text "The cat sat."
    """

    tokenizer: Path
    """A tokenizer.json, or a model directory."""
    text: str
    """The text to split."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        from tinymemorylm.tokenizer import Tokenizer

        path = self.tokenizer / "tokenizer.json" if self.tokenizer.is_dir() else self.tokenizer
        tokenizer = Tokenizer.load(path)
        ids = tokenizer.encode(self.text)
        n_bytes = len(self.text.encode())
        in_words = sum(len(tokenizer.token_bytes(i)) for i in ids if tokenizer.classes[i] == 2)
        report = {
            "tokens": [tokenizer.decode([i]) for i in ids],
            "token_ids": ids,
            "bytes": n_bytes,
            "bytes_per_token": round(n_bytes / max(1, len(ids)), 4),
            "share_of_bytes_in_words": round(in_words / max(1, n_bytes), 4),
        }
        if self.json:
            print_json(report)
            return
        print("|".join(report["tokens"]))
        print(
            f"{len(ids)} tokens, {report['bytes_per_token']:.2f} bytes per token, "
            f"{report['share_of_bytes_in_words']:.0%} of the bytes in whole words"
        )


@dataclass(frozen=True)
class _Training:
    recipe: Path
    """The recipe (TOML); the project's own are in recipes/."""
    out: Path
    """The model directory to write."""
    resume: bool = False
    """Go on with the run in --out; starts it if there is none."""
    skip_bad: bool = False
    """Count bad input instead of stopping at it."""
    device: str | None = None
    """cpu, cuda or mps; the best there is when left out."""
    track: Annotated[tuple[Sink, ...], tyro.conf.UseAppendAction] = ()
    """Show the figures in tensorboard or trackio too; can be given for each."""

    def go(self, recipe: Recipe, **more: Any) -> None:
        from tinymemorylm.report.run_report import reported
        from tinymemorylm.training.phases import train

        with reported(self.out):
            train(
                recipe,
                self.out,
                resume=self.resume,
                skip_bad=self.skip_bad,
                device=self.device,
                track=self.track,
                **more,
            )


def overridden(path: Path, overrides: list[str], verb: str) -> Recipe:
    """The recipe with fields changed by arguments such as --pretrain.learning-rate 1e-3."""
    recipe = load_recipe(path)
    return tyro.cli(Recipe, default=recipe, args=overrides, prog=f"tmlm {verb} --recipe {path}")


@dataclass(frozen=True)
class Train(_Training):
    """Text to chat model: build the tokenizer, pretrain, fine-tune.

    Any field of the recipe is an option too: --data, --chat-data, --seed, --pretrain.tokens,
    --sft.learning-rate and so on; `tmlm train --recipe FILE --out DIR --fields` lists them.

    Example: tmlm train --recipe recipes/haiku-cpu.toml --data books/ --chat-data chats.jsonl
    --out runs/books
    """

    fields: bool = False
    """List the recipe's fields and their values, and stop."""

    def run(self, overrides: list[str]) -> None:
        self.go(overridden(self.recipe, [*overrides, *["--help"] * self.fields], "train"))


@dataclass(frozen=True)
class Pretrain(_Training):
    """Pretraining only: a completion model, in pretrain.pt.

    Any field of the recipe is an option too, as with `tmlm train`.

    Example: tmlm pretrain --recipe recipes/haiku-cpu.toml --data books/ --out runs/books
    """

    tokenizer: Path | None = None
    """A tokenizer.json to use instead of building one."""

    def run(self, overrides: list[str]) -> None:
        from tinymemorylm.tokenizer import Tokenizer

        recipe = overridden(self.recipe, overrides, "pretrain")
        recipe = replace(recipe, sft=replace(recipe.sft, tokens=0))
        tokenizer = Tokenizer.load(self.tokenizer) if self.tokenizer else None
        self.go(recipe, tokenizer=tokenizer)


@dataclass(frozen=True)
class Sft(_Training):
    """Instruction tuning only: starts from a model directory, writes model.pt.

    Any field of the recipe is an option too, as with `tmlm train`.

    Example: tmlm sft --recipe recipes/haiku-cpu.toml --model runs/books
    --chat-data chats.jsonl --out runs/books-chat
    """

    model: Path = Path("runs/quickstart")
    """The model directory to start from."""

    def run(self, overrides: list[str]) -> None:
        recipe = overridden(self.recipe, overrides, "sft")
        recipe = replace(recipe, pretrain=replace(recipe.pretrain, tokens=0))
        self.go(recipe, start_from=self.model)


@dataclass(frozen=True)
class Generate:
    """Continue a text, or with --chat answer it.

    Example: tmlm generate --model runs/quickstart --prompt "Once upon a time" --seed 3
    """

    prompt: str
    """The text to continue."""
    model: Path = Path("runs/quickstart")
    """A model directory."""
    weights: Weights | None = None
    """Pretrained or tuned weights; the tuned ones if there when left out."""
    chat: bool = False
    """Treat the prompt as a user's message and write the answer."""
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
    device: str = "cpu"
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        from tinymemorylm.decoding.reference import generate
        from tinymemorylm.decoding.sampling import Sampling
        from tinymemorylm.model_directory import load_model, read_log_boost
        from tinymemorylm.tokenizer import Message

        sampling = Sampling(
            self.temperature,
            self.top_k,
            self.top_p,
            self.min_p,
            self.repetition_penalty,
            self.seed,
        )
        model, tokenizer = load_model(self.model, self.weights, self.device)
        if self.chat:
            ids = tokenizer.encode_chat([Message("user", self.prompt)], add_generation_prompt=True)
        else:
            ids = [tokenizer.bos_id, *tokenizer.encode(self.prompt)]
        done = generate(
            model,
            tokenizer,
            ids,
            sampling,
            max_new_tokens=self.max_new_tokens,
            stop=self.stop,
            log_boost=read_log_boost(self.model, tokenizer, self.weights),
        )
        if self.json:
            values = asdict(done)
            values.pop("nll")
            print_json(values)
        else:
            print(done.text if self.chat else self.prompt + done.text)


Verb = (
    Annotated[Quickstart, tyro.conf.subcommand("quickstart")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Pretrain, tyro.conf.subcommand("pretrain")]
    | Annotated[Sft, tyro.conf.subcommand("sft")]
    | Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[
        Annotated[TokenizerTrain, tyro.conf.subcommand("train")]
        | Annotated[TokenizerInspect, tyro.conf.subcommand("inspect")],
        tyro.conf.subcommand("tokenizer", description="Build word/character tokenizers."),
    ]
    | Annotated[
        # tyro makes no level of a single verb: None, never shown, is the second.
        Annotated[Ablate, tyro.conf.subcommand("ablate")] | Annotated[None, tyro.conf.Suppress],
        tyro.conf.subcommand("lab", description="Settle choices by measurement."),
    ]
)
SETTINGS = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff)
WITH_OVERRIDES = ("train", "pretrain", "sft")


def main(arguments: list[str] | None = None) -> int:
    """Parse and run one command. Returns the exit code; `--debug` shows tracebacks."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        settings = {
            "args": arguments,
            "prog": "tmlm",
            "description": "Train, measure and run language models of under a million parameters.",
            "config": SETTINGS,
        }
        if arguments and arguments[0] in WITH_OVERRIDES:
            verb, rest = tyro.cli(Verb, return_unknown_args=True, **settings)  # type: ignore
            verb.run(rest)
        else:
            verb: Any = tyro.cli(Verb, **settings)  # type: ignore
            verb.run()
    except InputError as error:
        return failed(error, 2, debug)
    except (RunError, OSError) as error:
        from tinymemorylm.training.loop import InterruptedRunError

        return failed(error, 130 if isinstance(error, InterruptedRunError) else 1, debug)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def failed(error: Exception, code: int, debug: bool) -> int:
    if debug:
        raise error
    print(f"tmlm: {error}", file=sys.stderr)
    return code
