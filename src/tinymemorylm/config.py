"""What a model is (`ModelConfig`, presets) and how it is trained (`Recipe`, `Phase`).

In: a preset's name or a recipe's TOML. Out: frozen dataclasses; every default of the
project lives here and nowhere else.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tinymemorylm.errors import InputError, shown
from tinymemorylm.files import read_toml, shipped
from tinymemorylm.validation import FORBID_UNKNOWN, check_finite, from_mapping

MOST_PARAMETERS = 100_000_000
"""A hundred times what the project is for: nothing larger is even tried."""
MOST = {
    "vocab_size": 1 << 16,
    "d_model": 1 << 14,
    "d_ff": 1 << 16,
    "n_logical_layers": 1024,
    "context_length": 1 << 17,
    "rotary_dims": 256,
}
"""The largest value of a field, where the parameters don't bound it or are counted by it."""
MOST_HORIZONS = 64
MOST_CACHED = 1 << 30
"""Numbers in the keys and values of one full context: 4 GB."""


@dataclass(frozen=True)
class ModelConfig:
    """One architecture. The defaults are the card's table; presets say what they change.

    `haiku` shares one FFN among all blocks and factorises the embedding; `haiku-literal`
    is the table to the letter.
    """

    vocab_size: int = 2133
    d_model: int = 128
    n_heads: int = 4
    n_kv_heads: int = 2
    d_ff: int = 224
    n_logical_layers: int = 16
    n_unique_layers: int = 8
    n_unique_ffns: int = 8
    """Unique blocks share these feed-forward weights in turn: block i uses FFN i mod n."""
    repeat: Literal["cycle", "adjacent"] = "cycle"
    """Order of the tied blocks: 0..7,0..7 (cycle) or 0,0,1,1,.. (adjacent)."""
    embedding_rank: int | None = None
    """Factorise the tied embedding as (vocab_size, rank) x (rank, d_model); None: don't."""
    sliding_window: int = 512
    """A local layer's query i sees keys j with 0 <= i - j < sliding_window."""
    global_every: int = 3
    """Logical layers 3, 6, 9.. (1-based) see the whole past."""
    context_length: int = 2048
    rotary_dims: int = 8
    """RoPE turns the first 8 of a head's 32 dimensions (the card's 25%)."""
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    mtp_horizons: tuple[int, ...] = (2, 3, 4)
    mtp_rank: int | None = None
    """Rank of each horizon's adapter; None: a full (d_model, d_model) matrix."""

    __pydantic_config__ = FORBID_UNKNOWN

    def __post_init__(self) -> None:
        check_finite(self)
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, int) and value < 1:
                raise InputError(f"model {name} must be at least 1, not {value}")
            if isinstance(value, int) and value > MOST.get(name, value):
                raise InputError(f"model {name} must be at most {MOST[name]}, not {shown(value)}")
        for name in ("rope_theta", "norm_eps"):
            if getattr(self, name) <= 0:
                raise InputError(f"model {name} must be above 0, not {getattr(self, name)}")
        if self.d_model % self.n_heads:
            raise InputError(f"d_model {self.d_model} must be a multiple of n_heads {self.n_heads}")
        if self.n_heads % self.n_kv_heads:
            raise InputError(
                f"n_heads {self.n_heads} must be a multiple of n_kv_heads {self.n_kv_heads}"
            )
        if self.n_logical_layers % self.n_unique_layers:
            raise InputError(
                f"n_logical_layers {self.n_logical_layers} must be a multiple of "
                f"n_unique_layers {self.n_unique_layers}"
            )
        if self.n_unique_ffns > self.n_unique_layers:
            raise InputError(
                f"n_unique_ffns {self.n_unique_ffns} must be at most "
                f"n_unique_layers {self.n_unique_layers}"
            )
        if self.rotary_dims % 2 or self.rotary_dims > self.head_dim:
            raise InputError(
                f"rotary_dims {self.rotary_dims} must be even and at most head_dim {self.head_dim}"
            )
        horizons = self.mtp_horizons
        if any(not 2 <= k <= self.context_length for k in horizons):
            raise InputError(
                f"mtp_horizons {shown(horizons)} must be 2 or more each, and within the context"
            )
        if len({*horizons}) < len(horizons) or len(horizons) > MOST_HORIZONS:
            raise InputError(
                f"mtp_horizons {shown(horizons)} must differ, and be {MOST_HORIZONS} at most"
            )
        if self.n_parameters > MOST_PARAMETERS:
            raise InputError(
                f"a model of {self.n_parameters:,} parameters is too large: at most "
                f"{MOST_PARAMETERS:,}; see d_model, d_ff, vocab_size and the number of layers"
            )
        cached = 2 * self.n_kv_heads * self.head_dim * self.context_length * self.n_logical_layers
        if cached > MOST_CACHED:
            raise InputError(
                f"context_length {self.context_length} over {self.n_logical_layers} layers is too "
                "much to keep in memory; make one of them smaller"
            )

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads

    @property
    def n_parameters(self) -> int:
        """What `Transformer` will hold, MTP heads included, known before it is made."""
        d, kv = self.d_model, self.n_kv_heads * self.head_dim
        rank = self.embedding_rank
        embedding = self.vocab_size * (rank or d) + (rank * d if rank else 0) + 1
        block = d * (d + 2 * kv) + d * d + 2 * d
        adapter = d * d if self.mtp_rank is None else 2 * d * self.mtp_rank
        return (
            embedding
            + self.n_unique_layers * block
            + self.n_unique_ffns * 3 * d * self.d_ff
            + d
            + len(self.mtp_horizons) * (adapter + d)
        )

    def block_index(self, logical_layer: int) -> int:
        """The unique block that logical layer `logical_layer` (0-based) runs."""
        if self.repeat == "cycle":
            return logical_layer % self.n_unique_layers
        return logical_layer * self.n_unique_layers // self.n_logical_layers

    def is_global(self, logical_layer: int) -> bool:
        """Whether logical layer `logical_layer` (0-based) sees the whole past."""
        return (logical_layer + 1) % self.global_every == 0


PRESETS: dict[str, ModelConfig] = {
    "haiku": ModelConfig(n_unique_ffns=1, embedding_rank=96),
    "haiku-literal": ModelConfig(),
    "smoke": ModelConfig(
        vocab_size=512,
        d_model=32,
        n_heads=2,
        n_kv_heads=1,
        d_ff=64,
        n_logical_layers=6,
        n_unique_layers=3,
        n_unique_ffns=1,
        sliding_window=32,
        context_length=256,
        rotary_dims=4,
        mtp_horizons=(2, 3),
    ),
}


def preset(name: str, **changes: Any) -> ModelConfig:
    """The preset called `name`, with fields changed. Raises InputError for an unknown name."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; choose from {', '.join(PRESETS)}")
    return dataclasses.replace(PRESETS[name], **changes)


@dataclass(frozen=True)
class Architecture:
    """What a recipe changes in its preset: fields of `ModelConfig`; None keeps the preset's."""

    d_model: int | None = None
    n_heads: int | None = None
    n_kv_heads: int | None = None
    d_ff: int | None = None
    n_logical_layers: int | None = None
    n_unique_layers: int | None = None
    n_unique_ffns: int | None = None
    repeat: Literal["cycle", "adjacent"] | None = None
    embedding_rank: int | None = None
    """0: not factorised."""
    sliding_window: int | None = None
    global_every: int | None = None
    context_length: int | None = None
    rotary_dims: int | None = None
    rope_theta: float | None = None
    norm_eps: float | None = None
    mtp_horizons: tuple[int, ...] | None = None
    mtp_rank: int | None = None
    """0: full matrices."""

    __pydantic_config__ = FORBID_UNKNOWN

    def changes(self) -> dict[str, Any]:
        """The fields that differ from the preset, as `ModelConfig` takes them."""
        given = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return {
            k: v or None if k in ("embedding_rank", "mtp_rank") else v for k, v in given.items()
        }


@dataclass(frozen=True)
class Phase:
    """How one phase (pretraining or SFT) is trained. Defaults: the card's pretraining."""

    tokens: int = 20_000_000
    """Training tokens (targets seen, padding included) of the phase; 0 skips it."""
    batch_size: int = 48
    """Sequences per step at `sequence_length`; longer sequences make fewer, equal tokens."""
    sequence_length: int = 2048
    long_sequence_length: int = 2048
    """The phase ends at this length ..."""
    long_share: float = 0.0
    """... for this share of its tokens."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the trunk's matrices (at MUON_LR_SCALE times the rate), AdamW for the rest."""
    learning_rate: float = 8e-4
    min_learning_rate: float = 1e-5
    warmup_steps: int = 300
    weight_decay: float = 0.02
    adam_beta2: float = 0.95
    """AdamW's memory of squared gradients; small batches want a longer one, or rare tokens sink."""
    max_grad_norm: float = 1.0
    drill_share: float = 0.0
    """Pretraining: share of the sequences that are drills in copying instead of text."""
    one_pass_share: float = 0.0
    """Share of the phase, from its start, in which the tied blocks run once instead of as often as
    the architecture says: almost as good a step in half the time."""
    mtp_weight: float = 0.3
    mtp_every: int = 1
    """Further horizons learn at every n-th position, others each step."""
    word_boost: float = 3.0
    """Loss weight of targets that spell more than one character."""
    response_boost: float = 3.0
    """SFT: further weight on the first `response_boost_tokens` of each assistant turn."""
    response_boost_tokens: int = 20
    prompt_weight: float = 0.0
    """SFT: loss weight of what the assistant does not say; the card trains on answers alone."""
    boost_anneal: float | None = None
    """Share of the phase over which boosts fall linearly to 1; None: they stay."""
    relevance_weight: float = 0.0
    """SFT: weight of the relevance objective; 0: off."""
    relevance_negatives: int = 1
    relevance_groups: int = 8
    """Responses contrasted per step, each under its own and `relevance_negatives` prompts."""
    validate_every: int = 100
    checkpoint_every: int = 1000
    sample_every: int = 5000

    __pydantic_config__ = FORBID_UNKNOWN

    def __post_init__(self) -> None:
        check_finite(self)
        positive = (
            "batch_size",
            "sequence_length",
            "long_sequence_length",
            "learning_rate",
            "max_grad_norm",
            "word_boost",
            "response_boost",
            "validate_every",
            "checkpoint_every",
            "sample_every",
            "relevance_negatives",
            "relevance_groups",
            "mtp_every",
        )
        for name in positive:
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in (
            "tokens",
            "warmup_steps",
            "weight_decay",
            "mtp_weight",
            "relevance_weight",
            "prompt_weight",
        ):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        for name in ("long_share", "drill_share", "adam_beta2", "one_pass_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        if self.boost_anneal is not None and not 0 < self.boost_anneal <= 1:
            raise InputError(f"boost_anneal must be above 0, at most 1, not {self.boost_anneal}")
        if self.min_learning_rate > self.learning_rate:
            raise InputError(
                f"min_learning_rate {self.min_learning_rate} is above "
                f"learning_rate {self.learning_rate}"
            )

    @property
    def logit_adjustment(self) -> float | None:
        """The word boost its weights are left biased by, if it never falls to 1."""
        return self.word_boost if self.boost_anneal is None and self.word_boost != 1 else None


@dataclass(frozen=True)
class Recipe:
    """A whole training run: data, architecture and both phases."""

    name: str
    preset: str = "haiku"
    architecture: Architecture = field(default_factory=Architecture)
    """Changes to the preset."""
    seed: int = 0
    vocab_size: int = 2133
    data: tuple[str, ...] = ()
    """Text sources of pretraining (and of the tokenizer)."""
    chat_data: tuple[str, ...] = ()
    """Conversation sources of SFT (they join the tokenizer's corpus)."""
    data_notes: tuple[str, ...] = ()
    """Paragraphs for the model card: where the data is from, and its licences."""
    document_separator: str = "<|endoftext|>"
    validation_share: float = 0.02
    """Share of the documents (or conversations) held out."""
    spell_share: float = 0.02
    """Share of the words of each training text spelled out in characters wherever they occur."""
    copying_heads: bool = False
    """Start with heads that repeat what has been said (`model.start`)."""
    kindred_embedding: bool = False
    """Start with like embeddings for tokens that keep like company in the training text."""
    pretrain: Phase = field(default_factory=Phase)
    sft: Phase = field(default_factory=lambda: Phase(learning_rate=2e-4))
    sample_temperature: float = 0.7
    """Temperature of the samples drawn while pretraining ..."""
    chat_temperature: float = 0.7
    """... and of the answers drawn in SFT."""
    sample_prompts: tuple[str, ...] = ("Once upon a time", "The old man", "One day", "It was")
    chat_prompts: tuple[str, ...] = ("Hello!", "Who are you?", "What is a cat?", "I feel sad.")

    __pydantic_config__ = FORBID_UNKNOWN

    def __post_init__(self) -> None:
        check_finite(self)
        if not 0 <= self.seed < 1 << 63:
            raise InputError(f"seed must be 0 or more, below 2^63, not {shown(self.seed)}")
        if not 0 < self.validation_share <= 0.5:
            raise InputError(
                f"validation_share must be above 0, at most 0.5, not {self.validation_share}"
            )
        if not 0 <= self.spell_share <= 1:
            raise InputError(f"spell_share must be between 0 and 1, not {self.spell_share}")
        for name in ("sample_temperature", "chat_temperature"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if self.preset not in PRESETS:
            raise InputError(f"unknown preset {self.preset!r}; choose from {', '.join(PRESETS)}")
        run = [phase for phase in (self.pretrain, self.sft) if phase.tokens]
        if self.model().repeat != "cycle" and any(phase.one_pass_share for phase in run):
            raise InputError('one_pass_share needs blocks repeated as "cycle"; set it to 0')
        longest = max((phase.sequence_length for phase in run), default=0)
        if longest > self.model().context_length:
            raise InputError(
                f"sequence_length {longest} is above the context length "
                f"{self.model().context_length} of preset {self.preset}"
            )

    def model(self) -> ModelConfig:
        return preset(self.preset, vocab_size=self.vocab_size, **self.architecture.changes())


def shipped_recipe(name: str) -> Path:
    """Where recipe `name` of the project lies."""
    return shipped(f"recipes/{name}.toml")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe: a TOML file, or the name of one of the project's own.

    Raises InputError for a missing file, bad TOML or a bad field.
    """
    file = path if path.suffix == ".toml" else shipped_recipe(path.name)
    if not file.exists():
        own = ", ".join(sorted(p.stem for p in shipped_recipe("x").parent.glob("*.toml")))
        raise InputError(f"no recipe {path}; name a TOML file or one of: {own}")
    values = read_toml(file)
    return from_mapping(Recipe, {"name": file.stem, **values}, str(path))
