"""Our models in lm-evaluation-harness, under the name `tinymemorylm`.

In: its requests. Out: log-likelihoods and texts. It knows only models registered before it starts:
`python -m tinymemorylm.evaluation.lm_eval` registers ours and hands over to its command line.
"""

import sys
from collections.abc import Sequence
from typing import Any

import torch

from tinymemorylm.errors import InputError

try:
    from lm_eval.api.model import TemplateLM  # type: ignore
    from lm_eval.api.registry import register_model  # type: ignore
except ImportError:
    advice = "lm-evaluation-harness is not installed: pip install 'tinymemorylm[eval]'"
    if __name__ == "__main__":
        sys.exit(f"tmlm: {advice}")
    raise ImportError(advice) from None

from tinymemorylm.decoding.reference import generate
from tinymemorylm.decoding.sampling import Sampling
from tinymemorylm.evaluation.bits_per_byte import documents_nll
from tinymemorylm.evaluation.scoring import Window, by_length
from tinymemorylm.language_model import LanguageModel
from tinymemorylm.progress import Progress

SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")


@register_model("tinymemorylm")
class TinyMemoryLM(TemplateLM):
    """`model_args`: pretrained=DIR, and weights=pretrain or weights=model where wanted.

    A context begins with <bos>, once; an empty one is <bos> alone.
    """

    def __init__(
        self,
        pretrained: str,
        weights: Any = None,
        device: str | None = None,
        batch_size: object = None,  # the harness passes these; batches are ours
        max_batch_size: object = None,
    ) -> None:
        super().__init__()
        if (device or "cuda").startswith("cuda") and not torch.cuda.is_available():
            device = "cpu"  # the harness asks for cuda:0 where the user asks for nothing
        self.lm = LanguageModel.load(str(pretrained), weights, device or "cpu")

    @property
    def eot_token_id(self) -> int:
        return self.lm.tokenizer.eos_id

    @property
    def prefix_token_id(self) -> int:
        return self.lm.tokenizer.bos_id

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: object
    ) -> list[int]:
        ids = self.lm.tokenizer.encode(string)
        return ids if add_special_tokens is False else [self.lm.tokenizer.bos_id, *ids]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[object, list[int], list[int]]], **kwargs: object
    ) -> list[tuple[float, bool]]:
        """Of each continuation after its context, whose beginning is cut where both don't fit.

        Raises InputError for a continuation beyond the context length.
        """
        windows = [self._window(context, new) for _, context, new in requests]
        found = by_length(windows, self.lm.scorer.nll_and_greedy, "log-likelihoods")
        return [(-nats, is_greedy) for nats, is_greedy in found]

    def _window(self, context: list[int], continuation: list[int]) -> Window:
        length = self.lm.context_length
        if len(continuation) > length:
            raise InputError(
                f"a continuation of {len(continuation)} tokens exceeds the context of {length}"
            )
        tokens = [*context, *continuation]
        return Window(tokens[-length - 1 :], len(continuation))  # the last one is not read

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Of each text, in the windows of `bits_per_byte`, so that its figures agree with ours."""
        found = []
        with Progress("texts", len(requests)) as progress:
            for request in requests:
                (text,) = request.args
                nats = documents_nll(self.lm.scorer, [self.lm.tokenizer.encode(text)])
                found.append(-sum(float(nll.sum()) for nll in nats))
                progress.update(len(found), f"{len(found)} of {len(requests)}")
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy unless do_sample is true. Raises InputError for an option not known here."""
        found = []
        with Progress("texts", len(requests)) as progress:
            for request in requests:
                context, options = request.args
                found.append(self._continued(context, dict(options)))
                progress.update(len(found), f"{len(found)} of {len(requests)}")
        return found

    def _continued(self, context: str, options: dict[str, Any]) -> str:
        until = options.pop("until", None) or []
        max_new_tokens = int(options.pop("max_gen_toks", 256))
        greedy = {} if options.pop("do_sample", False) else {"temperature": 0.0}
        if unknown := sorted(options.keys() - set(SAMPLING_OPTIONS)):
            known = ", ".join(("until", "max_gen_toks", "do_sample", *SAMPLING_OPTIONS))
            raise InputError(f"unknown generation option {unknown[0]!r}: there are {known}")
        room = max(1, self.lm.context_length - max_new_tokens)
        return generate(
            self.lm.model,
            self.lm.tokenizer,
            self.tok_encode(context)[-room:],
            Sampling(**{"temperature": 1.0, "top_p": 1.0, **options, **greedy}),
            max_new_tokens=max_new_tokens,
            stop=[until] if isinstance(until, str) else [stop for stop in until if stop],
            log_boost=self.lm.log_boost,
        ).text


def main() -> int:
    """The harness's own command line. Returns the exit code: 2 for what our side can't use."""
    from lm_eval.__main__ import cli_evaluate  # type: ignore

    try:
        cli_evaluate()
    except InputError as error:
        print(f"tmlm: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
