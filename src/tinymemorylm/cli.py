"""The command line: the verbs of `commands/` in one app, and what an error looks like.

In: arguments. Out: exit code 0, 1 for a failure, 2 for bad input, 130 when interrupted. Rooms
are imported inside `run`, so that help is instant.
"""

import os
import sys
from typing import Annotated, Any

import tyro

from tinymemorylm.commands.bench import BenchTrain
from tinymemorylm.commands.evaluate import Evaluate
from tinymemorylm.commands.export import ExportGguf, ExportHf, ExportOnnx, ImportHf, Push
from tinymemorylm.commands.generation import Chat, Generate
from tinymemorylm.commands.info import Info
from tinymemorylm.commands.lab import Ablate, Speedrun
from tinymemorylm.commands.score import ScoreText
from tinymemorylm.commands.tokenizer import TokenizerInspect, TokenizerTrain
from tinymemorylm.commands.training import Pretrain, Quickstart, Sft, Train
from tinymemorylm.errors import InputError, RunError

Verb = (
    Annotated[Quickstart, tyro.conf.subcommand("quickstart")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Pretrain, tyro.conf.subcommand("pretrain")]
    | Annotated[Sft, tyro.conf.subcommand("sft")]
    | Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Chat, tyro.conf.subcommand("chat")]
    | Annotated[ScoreText, tyro.conf.subcommand("score")]
    | Annotated[Evaluate, tyro.conf.subcommand("eval")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[
        Annotated[TokenizerTrain, tyro.conf.subcommand("train")]
        | Annotated[TokenizerInspect, tyro.conf.subcommand("inspect")],
        tyro.conf.subcommand("tokenizer", description="Build word/character tokenizers."),
    ]
    | Annotated[
        Annotated[ExportHf, tyro.conf.subcommand("hf")]
        | Annotated[ExportGguf, tyro.conf.subcommand("gguf")]
        | Annotated[ExportOnnx, tyro.conf.subcommand("onnx")],
        tyro.conf.subcommand("export", description="Write a model for other programs."),
    ]
    | Annotated[
        # tyro makes no level of a single verb: None, never shown, is the second.
        Annotated[ImportHf, tyro.conf.subcommand("hf")] | Annotated[None, tyro.conf.Suppress],
        tyro.conf.subcommand("import", description="Bring an exported model back."),
    ]
    | Annotated[Push, tyro.conf.subcommand("push")]
    | Annotated[
        Annotated[Ablate, tyro.conf.subcommand("ablate")]
        | Annotated[Speedrun, tyro.conf.subcommand("speedrun")],
        tyro.conf.subcommand("lab", description="Settle choices by measurement."),
    ]
    | Annotated[
        Annotated[BenchTrain, tyro.conf.subcommand("train")] | Annotated[None, tyro.conf.Suppress],
        tyro.conf.subcommand("bench", description="Time this machine."),
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
        sys.stdout.flush()
    except InputError as error:
        return failed(error, 2, debug)
    except BrokenPipeError:  # whoever read our output has left: nothing more to say to them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
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
    if not getattr(error, "said", False):
        print(f"tmlm: {error}", file=sys.stderr)
    return code
