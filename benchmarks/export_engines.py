"""One model in several programs, asked the same things.

In: a model directory, and exports of it. Out: log-probabilities, greedy tokens, ids of text and of
chats, by each program.
"""

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tinymemorylm.decoding.reference import stream_tokens
from tinymemorylm.decoding.sampling import Sampling
from tinymemorylm.export.source import Source
from tinymemorylm.tokenizer import SPECIAL_TOKENS, Message

Floats = NDArray[np.float64]
N_CONTROL = len(SPECIAL_TOKENS)
PLAIN_ID = N_CONTROL + ord("a")
"""What llama.cpp is made to choose where probabilities are asked for (they are the model's all the
same): it gives none beside <eos> or a part of a character."""
TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"
"""The name of Transformers' warning; some odd strings are meant to be long."""


class Engine(Protocol):
    """A program that runs the model. Ids of text come without <bos>, those of a chat with it."""

    def logprobs(self, ids: Sequence[int]) -> Floats:
        """Log-probabilities of what follows each id, (len(ids), vocab_size)."""
        ...

    def greedy(self, ids: Sequence[int], n_new: int) -> list[int]:
        """The likeliest continuation, up to n_new tokens or a control token (left out)."""
        ...

    def encode(self, text: str) -> list[int]: ...

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """With the assistant's turn begun."""
        ...


def before_control(ids: Sequence[int]) -> list[int]:
    """The ids up to the first control token, with which our own decoding ends."""
    end = next((i for i, id in enumerate(ids) if id < N_CONTROL), len(ids))
    return list(ids[:end])


def log_softmax(logits: NDArray[np.floating]) -> Floats:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


class Ours:
    """The reference: our model in torch."""

    def __init__(self, source: Source) -> None:
        self.model, self.tokenizer = source.model, source.tokenizer

    @torch.no_grad()
    def logprobs(self, ids: Sequence[int]) -> Floats:
        return log_softmax(self.model.logits(self.model(torch.tensor([ids])))[0].numpy())

    def greedy(self, ids: Sequence[int], n_new: int) -> list[int]:
        tokens = stream_tokens(self.model, ids, Sampling(temperature=0))
        return before_control([id for _, (id, _) in zip(range(n_new), tokens, strict=False)])

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        return self.tokenizer.encode_chat(messages, add_generation_prompt=True)


class ByTransformersTokenizer:
    """The tokenizer files of a Transformers or ONNX export, as `AutoTokenizer` reads them."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.tokenizer.deprecation_warnings[TOO_LONG] = True

    def encode(self, text: str) -> list[int]:
        plain = {"add_special_tokens": False, "split_special_tokens": True}
        return self.tokenizer(text, **plain)["input_ids"]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        found = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True)
        return list(found["input_ids"])


class Transformers(ByTransformersTokenizer):
    """`AutoModelForCausalLM` on the directory of `tmlm export hf`."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        super().__init__(folder)
        logging.disable_progress_bar()
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder)

    @torch.no_grad()
    def logprobs(self, ids: Sequence[int]) -> Floats:
        return log_softmax(self.model(torch.tensor([ids])).logits[0].numpy())

    def greedy(self, ids: Sequence[int], n_new: int) -> list[int]:
        prompt = torch.tensor([ids])
        settings = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        mask = torch.ones_like(prompt)
        found = self.model.generate(
            prompt, attention_mask=mask, max_new_tokens=n_new, use_cache=True, **settings
        )
        return before_control(found[0, len(ids) :].tolist())


class OnnxRuntime(ByTransformersTokenizer):
    """onnxruntime on one of the graphs of `tmlm export onnx`, one thread."""

    def __init__(self, folder: Path, graph: str) -> None:
        import onnxruntime

        super().__init__(folder)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(folder / "onnx" / graph), settings)
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.past_shape = self.session.get_inputs()[-1].shape

    def logprobs(self, ids: Sequence[int]) -> Floats:
        return log_softmax(self._step(ids, 0, self._empty())[0][0])

    def greedy(self, ids: Sequence[int], n_new: int) -> list[int]:
        found: list[int] = []
        pending, seen, past = list(ids), 0, self._empty()
        while len(found) < n_new:
            logits, *past = self._step(pending, seen, past)
            seen += len(pending)
            pending = [int(logits[0, -1].argmax())]
            if pending[0] < N_CONTROL:
                break
            found += pending
        return found

    def _empty(self) -> list[NDArray[np.float32]]:
        _, n_kv_heads, _, head_dim = self.past_shape
        empty = np.zeros((1, n_kv_heads, 0, head_dim), np.float32)
        return [empty] * (len(self.inputs) - 3)

    def _step(self, ids: Sequence[int], seen: int, past: list[NDArray[np.float32]]) -> list[Any]:
        positions = np.arange(seen, seen + len(ids))[None]
        values = [np.array([ids]), np.ones((1, seen + len(ids)), np.int64), positions, *past]
        return self.session.run(None, dict(zip(self.inputs, values, strict=True)))


class LlamaCpp:
    """llama.cpp's server in this process, on a GGUF file: float32 cache, one thread."""

    def __init__(self, path: Path, context_length: int, vocab_size: int) -> None:
        import xllamacpp as llama

        self.vocab_size = vocab_size
        parameters = llama.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = context_length
        parameters.n_parallel = 1
        parameters.cache_type_k = parameters.cache_type_v = llama.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.swa_full = True  # else a prompt that shrinks would be read anew
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.warmup = False
        parameters.verbosity = -1
        self.server = llama.Server(parameters)

    def logprobs(self, ids: Sequence[int]) -> Floats:
        """A request for each position, which sees what came before in the cache."""
        found = np.full((len(ids), self.vocab_size), np.nan)
        for end in range(1, len(ids) + 1):
            wanted = {"n_predict": 1, "n_probs": self.vocab_size, "logit_bias": [[PLAIN_ID, 1e4]]}
            answer = self._complete(ids[:end], **wanted)
            for token in answer["completion_probabilities"][0]["top_logprobs"]:
                found[end - 1, token["id"]] = token["logprob"]
        return found

    def greedy(self, ids: Sequence[int], n_new: int) -> list[int]:
        return before_control(self._complete(ids, n_predict=n_new, return_tokens=True)["tokens"])

    def encode(self, text: str) -> list[int]:
        return self.ask("/tokenize", content=text, add_special=False, parse_special=False)["tokens"]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        text = self.ask("/apply-template", messages=turns)["prompt"]
        return self.ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]

    def _complete(self, ids: Sequence[int], **wanted: Any) -> dict[str, Any]:
        return self.ask("/completion", prompt=list(ids), temperature=0, **wanted)

    def ask(self, path: str, **content: Any) -> dict[str, Any]:
        """What the server answers."""
        request = urllib.request.Request(
            self.server.listening_address + path,
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
