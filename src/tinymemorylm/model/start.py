"""How a model starts: random weights, and on request two things it need not learn any more.

In: a fresh `Transformer`. Out: the same with its weights filled, from a seed alone or with what
the training text tells. `copying_heads` makes it continue a repetition before its first step;
`kindred_embedding` gives tokens of like company like rows.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from tinymemorylm.config import ModelConfig
from tinymemorylm.errors import InputError
from tinymemorylm.model.block import Block
from tinymemorylm.model.transformer import Transformer

EMBEDDING_STD = 0.05
INPUT_RMS = 3.0
"""Size of the residual stream at the start: above 1 learns faster (docs/lab-notes.md)."""


def initialise(model: Transformer, seed: int) -> Transformer:
    """Fill the weights from `seed`: variance-preserving, residual outputs scaled down.

    The embedding starts small so that first logits are near uniform; the input scale makes up
    for it in the trunk.
    """
    generator = torch.Generator().manual_seed(seed)
    residual = 1 / math.sqrt(2 * model.config.n_logical_layers)
    for name, parameter in model.named_parameters():
        if name == "embedding.weight":
            nn.init.normal_(parameter, std=EMBEDDING_STD, generator=generator)
        elif parameter.dim() == 2:
            std = 1 / math.sqrt(parameter.shape[1])
            if name.endswith(("out.weight", "down.weight")):
                std *= residual
            nn.init.normal_(parameter, std=std, generator=generator)
        elif name == "embedding_scale":
            nn.init.constant_(parameter, INPUT_RMS / EMBEDDING_STD)
        else:
            nn.init.ones_(parameter)
    return model


CONSTANT = 3.0
"""Coordinate 0 of the residual stream: the same for all tokens, this much of INPUT_RMS."""
POINTING = (9.0, 12.0)
"""Strength of the first two rotary pairs by which a head points at a fixed distance."""
MATCHING = 14.0
"""Attention logit of a key whose past is what the query sees."""


@torch.no_grad()
def copying_heads(model: Transformer, seed: int) -> Transformer:
    """Plant heads that find how the present went on before, and repeat it.

    Induction heads (Olsson et al. 2022) take a tiny model long to find, and all copying from a
    prompt waits for them. Block 1 writes the previous token, and in a second group of heads the
    one before it, to coordinates kept free; a later block looks for the key whose previous tokens
    are the query's own last ones and adds that key's token to the output. All of it can be
    trained away again. Raises InputError for an architecture without room for them.
    """
    config = model.config
    n_content = _n_content(config)
    n_free = config.d_model - n_content
    n_plain = config.head_dim - config.rotary_dims  # dimensions of a head that don't turn
    if config.n_unique_layers < 3 or n_plain < 4 or n_free < 4 or config.rotary_dims < 4:
        raise InputError("this architecture has no room for copying heads; set copying_heads false")
    n_last, n_before = min(n_plain, n_free * 5 // 8), min(n_plain // 2, n_free - n_free * 5 // 8)
    model.embedding.weight[:, n_content:] = 0
    model.embedding.weight[:, 0] = CONSTANT * EMBEDDING_STD
    if config.embedding_rank is not None:
        nn.init.eye_(model.embedding_projection.weight)

    generator = torch.Generator().manual_seed(seed)
    sight = torch.zeros(n_last, config.d_model)  # what of a token is written ahead
    sight[:, 1:n_content] = _orthonormal(n_last, n_content - 1, generator)
    ones = torch.eye(config.d_model)
    last = ones[n_content : n_content + n_last]  # where: the last token, (n_last, d_model),
    before = ones[n_content + n_last : n_content + n_last + n_before]  # and the one before it
    _point_back(model, 0, sight, last)
    _find_and_repeat(model, 0, sight, last, n_last)
    if config.n_kv_heads > 1:
        near = min(n_last, n_plain - n_before)
        _point_back(model, 1, sight[:n_before], before)
        wanted = torch.cat((sight[:near], last[:n_before]))
        _find_and_repeat(model, 1, wanted, torch.cat((last[:near], before)), n_last)
    return model


def _first_norm(config: ModelConfig) -> tuple[float, float]:
    """What the first norm makes of the stream: coordinate 0, and a typical other one."""
    rms = math.sqrt((CONSTANT**2 + _n_content(config) - 1) / config.d_model)
    return CONSTANT / rms, 1 / rms


def _point_back(model: Transformer, group: int, sight: Tensor, place: Tensor) -> None:
    """Block 1: a head looks `group` + 1 positions back and writes `sight` of it to `place`.

    sight, place: (seen, d_model). The head's rotary pairs turn by a fixed angle a position.
    """
    config, plain = model.config, model.config.rotary_dims
    constant, typical = _first_norm(config)
    q, k, v, out = _head(model, 1, group)
    q.zero_()
    k[:plain].zero_()
    for i, amplitude in enumerate(POINTING):
        angle = (group + 1) * config.rope_theta ** (-2 * i / plain)
        q[i, 0] = amplitude / constant
        k[i, 0] = amplitude / constant * math.cos(angle)
        k[i + plain // 2, 0] = amplitude / constant * math.sin(angle)
    v[plain : plain + len(sight)] = sight
    out.zero_()
    out[:, plain : plain + len(sight)] = place.T * INPUT_RMS / typical


def _find_and_repeat(
    model: Transformer, group: int, wanted: Tensor, offered: Tensor, n_last: int
) -> None:
    """A later block: a head finds the key whose `offered` is the query's `wanted`, repeats it.

    wanted, offered: (compared, d_model). n_last: dimensions a whole match of one token has. Each
    group repeats other coordinates of the key's token.
    """
    config, plain = model.config, model.config.rotary_dims
    _, typical = _first_norm(config)
    strength = math.sqrt(MATCHING * math.sqrt(config.head_dim) / (n_last * typical**2))
    q, k, v, out = _head(model, _finder_block(config), group)
    for part in (q, k, v, out):
        part.zero_()
    q[plain : plain + len(wanted)] = strength * wanted
    k[plain : plain + len(offered)] = strength * offered
    first = 1 + group * config.head_dim
    copied = torch.eye(config.d_model)[first : min(first + config.head_dim, _n_content(config))]
    v[: len(copied)] = copied
    out[:, : len(copied)] = copied.T * INPUT_RMS / typical


def _n_content(config: ModelConfig) -> int:
    """Columns of the embedding that tell tokens apart; copying heads keep the others free."""
    return min(config.embedding_rank or config.d_model, 3 * config.d_model // 4)


def _finder_block(config: ModelConfig) -> int:
    """A block past the middle, one that is global in its first run if there is, to see far."""
    late = range(max(2, config.n_unique_layers // 2), config.n_unique_layers)
    order = [config.block_index(layer) for layer in range(config.n_logical_layers)]
    return next((block for block in late if config.is_global(order.index(block))), late[0])


def _head(model: Transformer, block: int, group: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of q, k, v (head_dim, d_model) and out (d_model, head_dim) of a group's first head."""
    config = model.config
    attention = cast(Block, model.blocks[block]).attention
    size, n_queries = config.head_dim, config.d_model
    n_keys = config.n_kv_heads * size
    head = group * (config.n_heads // config.n_kv_heads) * size
    at = group * size
    qkv, out = attention.qkv.weight, attention.out.weight
    return (
        qkv[head : head + size],
        qkv[n_queries + at : n_queries + at + size],
        qkv[n_queries + n_keys + at : n_queries + n_keys + at + size],
        out[:, head : head + size],
    )


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """(rows, columns), rows of length 1 at right angles; rows <= columns."""
    return torch.linalg.qr(torch.randn(columns, rows, generator=generator))[0].T


@torch.no_grad()
def kindred_embedding(model: Transformer, follows: Tensor, seed: int) -> Transformer:
    """Fill half of the embedding's columns from the company tokens keep in the training text.

    follows: (vocab_size, vocab_size), how often token j follows token i. Leading singular vectors
    of their positive pointwise mutual information (Levy and Goldberg 2014) both ways, so that
    what a frequent word learns serves the rare ones like it from the first step.
    """
    weight = model.embedding.weight
    n_content = _n_content(model.config)
    n = n_content // 2
    both = torch.cat((_mutual_information(follows), _mutual_information(follows.T)), dim=1)
    generator = torch.Generator().manual_seed(seed)
    rows = nn.functional.normalize(_leading(both.double(), n, generator), dim=1)
    rows = rows.mul(2**20).round().div(2**20)  # the same bits whatever order sums are taken in
    weight[:, n_content - n : n_content] = rows.float() * math.sqrt(n) * EMBEDDING_STD
    return model


def _mutual_information(counts: Tensor) -> Tensor:
    """max(0, log p(i, j) / p(i) p(j)), the columns' counts smoothed by the power 3/4."""
    rows = counts.sum(1, keepdim=True).clamp(min=1)
    columns = counts.sum(0, keepdim=True) ** 0.75
    odds = counts / rows / (columns / columns.sum()).clamp(min=1e-12)
    return odds.clamp(min=1).log()


def _leading(matrix: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """About the n leading left singular vectors times the roots of their values, (rows, n).

    Subspace iteration (Halko et al. 2011). They come turned among themselves, by a rotation that
    small errors change little, as they would not do for single vectors of nearly equal values.
    """
    basis = matrix @ torch.randn(matrix.shape[1], n, generator=generator).double()
    for _ in range(4):
        basis = matrix @ (matrix.T @ torch.linalg.qr(basis)[0])
    basis = torch.linalg.qr(basis)[0]
    inner = basis.T @ matrix
    squares, vectors = torch.linalg.eigh(inner @ inner.T)
    return basis @ (vectors * squares.clamp(min=0) ** 0.25) @ vectors.T
