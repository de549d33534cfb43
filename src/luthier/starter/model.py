"""The starter's network: a Llama decoder in plain PyTorch, flat and lean enough to train on a CPU.

Parameter names and mathematics are those of ``transformers.LlamaForCausalLM``, so that ``state_dict`` loads there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

IGNORE = -100
"""The target of positions that carry no loss."""


@dataclass(frozen=True)
class Shape:
    """The size of a Llama decoder; widths in features, ``context`` in tokens."""

    vocabulary: int = 8192
    hidden: int = 256
    layers: int = 6
    heads: int = 8
    kv_heads: int = 4
    feed_forward: int = 768
    context: int = 1024
    rope_theta: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        """Features per attention head."""
        return self.hidden // self.heads

    def llama_config(self) -> dict[str, Any]:
        """The same as keyword arguments of ``transformers.LlamaConfig``."""
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.epsilon,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "tie_word_embeddings": True,
        }


class Norm(nn.Module):
    """Root-mean-square normalisation with a learned gain."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight


def rotary(length: int, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (length, head_size), of rotary positions (the half-split convention of Llama)."""
    frequencies = 1.0 / theta ** (torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn queries or keys (batch, heads, time, head_size) by their positions."""
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine


class Attention(nn.Module):
    """Grouped-query causal attention."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        size = shape.head_size
        self.q_proj = nn.Linear(shape.hidden, shape.heads * size, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * size, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * size, bias=False)
        self.o_proj = nn.Linear(shape.heads * size, shape.hidden, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor | None) -> Tensor:
        """Mix positions of (batch, time, hidden); causal where there is no mask."""
        batch, time, _ = x.shape
        shape = self.shape
        q = self.q_proj(x).view(batch, time, shape.heads, shape.head_size).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, shape.kv_heads, shape.head_size).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, shape.kv_heads, shape.head_size).transpose(1, 2)
        q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        group = shape.heads // shape.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        out: Tensor = self.o_proj(y.transpose(1, 2).reshape(batch, time, -1))
        return out


class FeedForward(nn.Module):
    """The SwiGLU block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden, shape.epsilon)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden, shape.epsilon)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor | None) -> Tensor:
        """One layer."""
        x = x + self.self_attn(self.input_layernorm(x), cosine, sine, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Trunk(nn.Module):
    """Everything below the head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.epsilon)

    def forward(self, tokens: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor | None) -> Tensor:
        """Normalised features (batch, time, hidden) of token ids (batch, time)."""
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cosine, sine, mask)
        out: Tensor = self.norm(x)
        return out


class _TiedCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropy of ``x @ embedding.T``, in chunks of rows, its gradients computed on the way forward.

    The logits of a whole micro-batch (4,096 tokens × 8,192 entries × 4 bytes = 134 MB) never exist at once, and
    nothing is computed twice.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, embedding: Tensor, targets: Tensor, chunk: int, dtype: torch.dtype) -> Tensor:
        total = x.new_zeros((), dtype=torch.float32)
        dx, dw, head = torch.empty_like(x), torch.zeros_like(embedding), embedding.to(dtype)
        for start in range(0, x.shape[0], chunk):
            rows, labels = x[start : start + chunk].to(dtype), targets[start : start + chunk]
            ignored = (labels == IGNORE).nonzero().squeeze(1)
            index = labels.clamp(min=0).unsqueeze(1)
            # In place after one fused pass: the logits are the largest tensor of the step, and each pass costs.
            scores = functional.log_softmax((rows @ head.T).float(), 1)
            total -= scores.gather(1, index).squeeze(1).index_fill(0, ignored, 0.0).sum()
            gradient = scores.exp_().scatter_add_(1, index, scores.new_full(index.shape, -1.0))
            gradient = gradient.index_fill_(0, ignored, 0.0).to(dtype)
            dx[start : start + chunk] = gradient @ head
            dw += gradient.T @ rows
        ctx.save_for_backward(dx, dw)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        dx, dw = ctx.saved_tensors
        return dx * grads[0], dw * grads[0], None, None, None


class Decoder(nn.Module):
    """A causal language model; ``loss`` for training, ``logits`` for everything else."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.model = Trunk(shape)
        self._positions = rotary(shape.context, shape.head_size, shape.rope_theta)
        self._initialise(seed)

    def _initialise(self, seed: int) -> None:
        """Normal weights scaled by fan-in; zero where a block writes to the stream, so that it begins as identity."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(weight)
            elif name.endswith("embed_tokens.weight"):
                nn.init.normal_(weight, std=0.02, generator=generator)
            else:
                nn.init.normal_(weight, std=0.5 / math.sqrt(weight.shape[1]), generator=generator)

    def _hidden(self, tokens: Tensor, documents: Tensor | None) -> Tensor:
        time = tokens.shape[1]
        cosine, sine = (table[:time].to(tokens.device) for table in self._positions)
        mask = None
        if documents is not None:
            same = documents.unsqueeze(2) == documents.unsqueeze(1)
            mask = same.tril().unsqueeze(1)
        hidden: Tensor = self.model(tokens, cosine, sine, mask)
        return hidden

    def loss(
        self,
        tokens: Tensor,
        targets: Tensor,
        documents: Tensor | None = None,
        chunk: int = 512,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Summed negative log-likelihood in nats of (batch, time) targets; attention stays within ``documents``.

        ``dtype`` is the precision of the matrix products.
        """
        with torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            hidden = self._hidden(tokens, documents).float()
        flat = hidden.reshape(-1, self.shape.hidden)
        head = self.model.embed_tokens.weight
        total: Tensor = _TiedCrossEntropy.apply(flat, head, targets.reshape(-1), chunk, dtype)  # type: ignore[no-untyped-call]
        return total

    def logits(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """Unnormalised log-probabilities of the next token, (batch, time, vocabulary)."""
        return self._hidden(tokens, documents) @ self.model.embed_tokens.weight.T
