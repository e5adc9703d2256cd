"""Who runs a speedrun: our recipe, and a plain GPT over characters or byte-level BPE.

In: training documents, settings and a seed. Out: things that can be prepared, stepped and measured;
whoever holds the clock calls `prepare` and `step` on it, and `score` off it.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tinymemorylm.batches import TextBatches, TokenStream
from tinymemorylm.config import Recipe
from tinymemorylm.drills import Drills
from tinymemorylm.errors import InputError, RunError
from tinymemorylm.evaluation.bits_per_byte import TextScore, score_documents
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.lab.peers import GPT, GPTConfig, gpt_learning_rate, gpt_optimizer, gpt_step
from tinymemorylm.lab.tokenizers import train_subwords
from tinymemorylm.model.account import parameter_account
from tinymemorylm.packing import StreamWriter, spell_words
from tinymemorylm.tokenizer import WORD, train_tokenizer
from tinymemorylm.training.beginning import fresh_model
from tinymemorylm.training.machine import activation_budget
from tinymemorylm.training.optimizer import learning_rate, make_optimizer
from tinymemorylm.training.schedule import Schedule, layers_of_step
from tinymemorylm.training.step import TokenTable, train_step

MOST_PARAMETERS = 760_000
"""What ours may have, multi-token prediction included."""
EVALUATION_ROWS = 256


class Contestant(Protocol):
    """One side of a race. n_steps: what its settings ask for; a race by time may take others."""

    name: str
    parameters: int
    n_steps: int

    def prepare(self) -> None:
        """Everything before the first step: tokenizer, encoded text, weights."""
        ...

    def step(self, step: int, n_steps: float) -> int:
        """Train step `step` (from 0) of `n_steps`, maybe an estimate. Returns tokens seen."""
        ...

    def score(self, documents: Sequence[str]) -> TextScore: ...

    def last_words(self, documents: Sequence[str]) -> dict[str, Any]:
        """Further figures of the finished model."""
        ...


class Ours:
    """A recipe's pretraining phase, on the training machinery as it is."""

    name = "ours"

    def __init__(self, recipe: Recipe, documents: Sequence[str], folder: Path, seed: int) -> None:
        off = dataclasses.replace(recipe.sft, tokens=0)
        self.recipe = dataclasses.replace(recipe, seed=seed, sft=off)
        self.phase = recipe.pretrain
        self.documents, self.folder = documents, folder
        self.schedule = Schedule(self.phase)
        self.n_steps = self.schedule.n_steps
        self.parameters = parameter_account(recipe.model())["total"]
        if self.parameters > MOST_PARAMETERS:
            raise InputError(
                f"recipe {recipe.name} makes {self.parameters:,} parameters; a speedrun allows "
                f"{MOST_PARAMETERS:,}: take preset haiku, or a smaller [architecture]"
            )
        if not self.n_steps:
            raise InputError(f"recipe {recipe.name} pretrains on 0 tokens; nothing to race")

    def prepare(self) -> None:
        recipe, phase = self.recipe, self.phase
        self.tokenizer = tokenizer = train_tokenizer(self.documents, recipe.vocab_size)
        streams = self.folder / "shards" / "pretrain"
        writer = StreamWriter(streams, "train")
        rng = np.random.default_rng([recipe.seed, 1])
        for ids in tokenizer.encode_batch(self.documents):
            body = spell_words(ids, tokenizer, recipe.spell_share, rng)
            writer.add(np.concatenate(([tokenizer.bos_id], body, [tokenizer.eos_id])))
        writer.close()
        config = dataclasses.replace(recipe.model(), vocab_size=tokenizer.vocab_size)
        self.model = fresh_model(config, recipe, self.folder, tokenizer).train()
        self.optimizer = make_optimizer(self.model, phase)
        self.table = TokenTable(
            torch.from_numpy(tokenizer.classes == WORD),
            torch.from_numpy(tokenizer.byte_lengths.astype("int64")),
        )
        drills = Drills(tokenizer, phase.drill_share, recipe.seed) if phase.drill_share else None
        ahead = max((1, *config.mtp_horizons))
        stream = TokenStream(streams, "train")
        self.batches = [
            TextBatches(stream, tokenizer.bos_id, stage.seq, ahead, recipe.seed, drills)
            for stage in self.schedule.stages
            if stage.steps
        ]
        self.rows_seen = [0] * len(self.batches)
        self.memory_bytes = activation_budget(torch.device("cpu"))

    def step(self, step: int, n_steps: float) -> int:
        stages = [stage for stage in self.schedule.stages if stage.steps]
        # The long stage begins at its share of the steps, however many there come to be.
        long = step * self.n_steps >= self.schedule.stages[0].steps * n_steps
        which = len(stages) - 1 if long else 0
        stage = stages[which]
        batch = self.batches[which].batch(self.rows_seen[which], stage.rows)
        self.rows_seen[which] += stage.rows
        train_step(
            self.model,
            self.optimizer,
            batch,
            None,
            self.phase,
            self.table,
            seq=stage.seq,
            step=step,
            progress=step / max(1, n_steps - 1),
            n_layers=layers_of_step(self.phase, self.model.config, step, n_steps),
            learning_rate=learning_rate(self.phase, step, n_steps),
            memory_bytes=self.memory_bytes,
        )
        return stage.tokens_per_step

    def score(self, documents: Sequence[str]) -> TextScore:
        """By the project's protocol: <bos> or up to 1,024 tokens before each window of 1,024."""
        found = score_documents(Scorer(self.model.eval(), self.tokenizer), documents)
        self.model.train()
        return found

    def last_words(self, documents: Sequence[str]) -> dict[str, Any]:
        return {}


class Characters:
    """nanoGPT's character vocabulary: every character of the training text, sorted."""

    def __init__(self, documents: Sequence[str]) -> None:
        self.ids = {c: i for i, c in enumerate(sorted(set().union(*documents)))}
        self.vocab_size = len(self.ids)

    def encode(self, text: str) -> list[int]:
        """Raises InputError for a character the training text never had."""
        if unknown := set(text) - self.ids.keys():
            raise InputError(
                f"the held-out text has {min(unknown)!r}, which the training text never has; "
                "characters can't be raced on it"
            )
        return [self.ids[c] for c in text]


class PlainGPT:
    """A plain GPT trained on random windows. vocab_size None: characters, else byte-level BPE.

    Its text is one long sequence: documents follow each other, with BPE each after a <bos>.
    """

    def __init__(
        self,
        name: str,
        config: GPTConfig,
        documents: Sequence[str],
        seed: int,
        *,
        bpe: bool,
    ) -> None:
        self.name, self.documents, self.seed, self.bpe = name, documents, seed, bpe
        self.n_steps = config.iterations
        size = config.vocab_size if bpe else Characters(documents).vocab_size
        self.config = dataclasses.replace(config, vocab_size=size)
        with torch.device("meta"):
            self.parameters = sum(p.numel() for p in GPT(self.config).parameters())

    def prepare(self) -> None:
        if self.bpe:
            tokenizer = train_subwords(self.documents, "bpe", self.config.vocab_size)
            self.encode, bos = tokenizer.encode, [tokenizer.bos_id]
            parts = [bos + ids for ids in tokenizer.encode_batch(self.documents)]
        else:
            self.encode = Characters(self.documents).encode
            parts = [self.encode(document) for document in self.documents]
            bos = parts[-1][-1:]  # what stands before the held-out text
        self.before = bos
        self.text = torch.tensor([id for part in parts for id in part])
        if len(self.text) <= self.config.block + 1:
            raise InputError(f"the text is {len(self.text)} tokens, too few for a window")
        torch.manual_seed(self.seed)
        self.windows = torch.Generator().manual_seed(self.seed)
        self.model = GPT(self.config).train()
        self.optimizer = gpt_optimizer(self.model)

    def step(self, step: int, n_steps: float) -> int:
        tokens = self._random_windows(self.text, self.windows)
        rate = gpt_learning_rate(self.config, step, n_steps)
        loss = gpt_step(self.model, self.optimizer, tokens, rate)
        if not math.isfinite(loss):
            raise RunError(f"{self.name} diverged at step {step}: its loss is {loss}")
        return tokens.shape[0] * self.config.block

    def _random_windows(self, text: Tensor, generator: torch.Generator) -> Tensor:
        """(batch_size, block + 1) from anywhere in the text."""
        starts = torch.randint(
            len(text) - self.config.block, (self.config.batch_size,), generator=generator
        )
        return torch.stack([text[s : s + self.config.block + 1] for s in starts.tolist()])

    @torch.no_grad()
    def score(self, documents: Sequence[str], fresh: int | None = None) -> TextScore:
        """Windows of `block`, each scoring its last `fresh` tokens, the first one all of its own.

        fresh None: a whole block with characters (windows side by side, as nanoGPT's loss has
        them), half a block with BPE. Every token is scored once.
        """
        block = self.config.block
        fresh = fresh or (block // 2 if self.bpe else block)
        nats, n_bytes, n_tokens = 0.0, 0, 0
        for document in documents:
            ids = torch.tensor([*self.before, *self.encode(document)])
            n_bytes += len(document.encode())
            n_tokens += len(ids) - 1
            length, end, cut = min(block, len(ids) - 1), 0, []
            while end < len(ids) - 1:
                new = min(fresh if cut else length, len(ids) - 1 - end)
                end += new
                cut.append((end - length, new))
            for i in range(0, len(cut), EVALUATION_ROWS):
                group = cut[i : i + EVALUATION_ROWS]
                rows = torch.stack([ids[start : start + length + 1] for start, _ in group])
                logits = self.model(rows[:, :-1])
                nll = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
                new = torch.tensor([new for _, new in group])[:, None]
                scored = torch.arange(length) >= length - new
                nats += float(nll.view_as(scored)[scored].double().sum())
        return TextScore(nats, n_bytes, n_tokens)

    @torch.no_grad()
    def last_words(self, documents: Sequence[str]) -> dict[str, Any]:
        """Nats per character as nanoGPT prints them, and with half a block before each token."""
        if self.bpe:
            return {}
        text = torch.tensor([id for document in documents for id in self.encode(document)])
        generator = torch.Generator().manual_seed(self.seed)
        losses = []
        for _ in range(20):  # eval_iters of the published command
            rows = self._random_windows(text, generator)
            logits = self.model(rows[:, :-1])
            losses.append(F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).item())
        sliding = self.score(documents, self.config.block // 2)
        return {
            "nats_as_published": round(sum(losses) / len(losses), 4),
            "bits_per_byte_half_overlapping": round(sliding.bits_per_byte, 5),
        }
