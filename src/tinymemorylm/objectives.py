"""What training minimises, as pure functions of states, targets and weights.

In: what the heads unembed, (n, width), and target ids (n,). Out: sums and means in nats.
Logits exist for CHUNK positions at a time, however large the batch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 512
"""Positions unembedded at once: 4.4 MB of float32 logits at 2,133 tokens."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy of `hidden @ unembedding.T`, its gradients made in the same pass.

    Since the weighted sum is linear in each position's loss, the backward pass only has to
    scale what the forward pass made: no logits are kept and none are computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, unembedding: Tensor, targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        nll = torch.empty_like(weights)
        hidden_grad = torch.empty_like(hidden)
        unembedding_grad = torch.zeros_like(unembedding, dtype=torch.float32)
        matrix = unembedding.to(hidden.dtype)
        for start in range(0, len(targets), CHUNK):
            part = slice(start, start + CHUNK)
            rows, index = hidden[part], targets[part, None]
            logits = (rows @ matrix.T).float()  # (chunk, vocab_size)
            logits -= logits.amax(dim=-1, keepdim=True)
            wanted = logits.gather(1, index)
            odds = logits.exp_()  # log_softmax would take three times as long on a CPU
            total = odds.sum(dim=-1, keepdim=True)
            nll[part] = (total.log() - wanted)[:, 0]
            logits_grad = odds.mul_(weights[part, None] / total)
            logits_grad.scatter_add_(1, index, -weights[part, None].to(odds.dtype))
            hidden_grad[part] = logits_grad.to(hidden.dtype) @ matrix
            unembedding_grad.addmm_(logits_grad.T, rows.float())
        ctx.save_for_backward(hidden_grad, unembedding_grad)
        ctx.mark_non_differentiable(nll)
        return (nll * weights).sum(), nll

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, unembedding_grad = ctx.saved_tensors
        return hidden_grad * grads[0], unembedding_grad * grads[0], None, None


def linear_cross_entropy(
    hidden: Tensor, unembedding: Tensor, targets: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted sum of -log softmax(hidden @ unembedding.T)[target], and the unweighted terms.

    hidden: (n, width); unembedding: (vocab_size, width); targets, weights: (n,). Returns a
    scalar to differentiate and the nll (n,), in nats, to report. Positions of weight 0 cost
    nothing if the caller leaves them out.
    """
    return _LinearCrossEntropy.apply(hidden, unembedding, targets, weights)  # type: ignore


def token_nll(
    hidden: Tensor, unembedding: Tensor, targets: Tensor, log_boost: Tensor | None = None
) -> Tensor:
    """nll of each target (n,), differentiable, logits recomputed in the backward pass.

    log_boost: (vocab_size,) log of the weight each token had in training, subtracted from the
    logits: undoes the bias of a weighted loss (logit adjustment, Menon et al. 2020).
    """

    def of_chunk(rows: Tensor, matrix: Tensor, index: Tensor) -> Tensor:
        logits = (rows @ matrix.T).float()
        if log_boost is not None:
            logits = logits - log_boost
        return F.cross_entropy(logits, index, reduction="none")

    chunks = range(0, len(targets), CHUNK)
    if not chunks:
        return hidden.new_zeros(0)
    return torch.cat(
        [
            checkpoint(
                of_chunk,
                hidden[i : i + CHUNK],
                unembedding,
                targets[i : i + CHUNK],
                use_reentrant=False,
            )
            for i in chunks
        ]  # type: ignore
    )


def horizon_targets(
    tokens: Tensor, segments: Tensor, seq: int, horizon: int
) -> tuple[Tensor, Tensor]:
    """Targets t + horizon of positions 0..seq-1, and which lie in the same document.

    tokens, segments: (batch, seq + longest horizon). Returns two (batch, seq).
    """
    ahead = slice(horizon, horizon + seq)
    return tokens[:, ahead], segments[:, ahead] == segments[:, :seq]


def annealed(boost: float, anneal: float | None, progress: float) -> float:
    """The boost at `progress` (0..1) of the phase: falls linearly to 1 at share `anneal`."""
    if anneal is None:
        return boost
    return 1 + (boost - 1) * max(0.0, 1 - progress / anneal)


def target_weights(
    targets: Tensor,
    valid: Tensor,
    is_word: Tensor,
    word_boost: float,
    response_index: Tensor | None = None,
    response_boost: float = 1.0,
    response_boost_tokens: int = 20,
    prompt_weight: float = 0.0,
) -> Tensor:
    """Loss weight of each target: card, 'word-token loss boost' and 'response-start boost'.

    targets, valid: (...); is_word: (vocab_size,) bool. response_index, shaped as targets: 0
    where no assistant speaks (weight `prompt_weight`), else 1, 2, 3.. from the token after
    <|assistant|>.
    """
    weights = 1 + (word_boost - 1) * is_word[targets].float()
    if response_index is not None:
        starts = torch.where(response_index <= response_boost_tokens, response_boost, 1.0)
        weights = weights * torch.where(response_index > 0, starts, prompt_weight)
    return weights * valid


def relevance_loss(log_likelihood: Tensor) -> Tensor:
    """How much likelier a response is under its own prompt than under others.

    log_likelihood: (groups, 1 + K), length-normalised log p(response | prompt), the true
    prompt first. Returns the mean cross-entropy of picking it. This is our reading of the
    card's 'context-aware relevance modeling', which its authors never defined.
    """
    return -log_likelihood.log_softmax(dim=-1)[:, 0].mean()


def response_log_likelihood(nll: Tensor, is_response: Tensor) -> Tensor:
    """Length-normalised log p(response | prompt): nll, is_response (rows, seq) -> (rows,)."""
    return -(nll * is_response).sum(1) / is_response.sum(1).clamp(min=1)
