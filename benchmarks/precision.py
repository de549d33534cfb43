"""One update of a small Falcon in float32 and in bfloat16, and where the two part.

    OMP_NUM_THREADS=1 python benchmarks/precision.py
    OMP_NUM_THREADS=1 python benchmarks/precision.py --part attention     # a few seconds: eager attention beside SDPA

Models have 6 layers, hidden size 256 and random weights that bfloat16 holds exactly, and LoRA r 8: on Falcon's four
linear layers, on all of Llama. They see 8 rows of random tokens and take one step of AdamW. Each seed draws other
weights and rows. Where a CPU has no bfloat16 instructions, an update in bfloat16 takes seconds.

    update       how far the loss falls in each precision, and its difference from float32 before and after
    rounding     how much of LoRA's output is left after the update where layers return bfloat16
    padding      float32: what the side of the padding, and batches of one row, change
    attention    float32: eager attention beside SDPA, before the update
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import transformers as t
from transformers.models.falcon import modeling_falcon as falcon

from luthier.kinds.causal_lm import learn
from luthier.kinds.causal_lm.loss import find_head
from luthier.kinds.causal_lm.rows import Example
from luthier.models import lora
from luthier.models.lean import lean_lora
from shapes import FALCON_TARGETS

Batch = dict[str, torch.Tensor]

ROWS, SHORTEST, LONGEST, VOCABULARY = 8, 24, 48, 1024
SIZE: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}
FALCON: dict[str, Any] = {"bias": True, "multi_query": False, "parallel_attn": False}
RANK, ALPHA, RATE = 8, 16, 2e-4
MODELS = ("Falcon, ALiBi", "Falcon, rotary", "Llama")
COMPUTED: dict[str, tuple[torch.dtype, bool, bool]] = {  # dtype of the weights, autocast, FalconLinear's output rounded
    "float32": (torch.float32, False, False),
    "autocast": (torch.float32, True, False),
    "weights in bfloat16": (torch.bfloat16, False, False),
    "autocast, output rounded": (torch.float32, True, True),
}


def build(kind: str, seed: int, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> Any:
    """Return one of MODELS, its base in `dtype` and its LoRA in float32."""
    torch.manual_seed(seed)
    llama = t.LlamaConfig(**SIZE, intermediate_size=1024)
    config = llama if kind == "Llama" else t.FalconConfig(**SIZE, **FALCON, alibi=kind == "Falcon, ALiBi")
    model: Any = t.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    model.to(torch.bfloat16).to(dtype)
    targets: Any = "all-linear" if kind == "Llama" else FALCON_TARGETS
    return lora.attach(model, "lora", RANK, ALPHA, 0.0, targets, seed)


def batches(seed: int, laid: str = "right") -> list[Batch]:
    """Return rows of random tokens: one batch padded on the "right" or "left", or eight batches of one row, "apart"."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (ROWS,), generator=random).tolist()
    drawn = [torch.randint(4, VOCABULARY, (length,), generator=random).tolist() for length in lengths]
    rows = [Example(str(place), ids, [-100, *ids[1:]]) for place, ids in enumerate(drawn)]
    if laid == "apart":
        return [learn.collate([row], 0) for row in rows]
    batch = learn.collate(rows, 0)
    if laid == "left":
        places = torch.arange(max(lengths)) - max(lengths) + torch.tensor(lengths)[:, None]  # below 0: from the end
        batch = {name: part.gather(1, places % max(lengths)) for name, part in batch.items()}
    return [batch]


@contextmanager
def computed(model: Any, how: str) -> Iterator[None]:
    """Compute so within the block: one forward, as autocast keeps its copies of the weights until it ends."""
    _, autocast, rounded = COMPUTED[how]
    plain = falcon.FalconLinear.forward
    forward = (lambda layer, x: plain(layer, x).bfloat16()) if rounded else plain
    swapped = patch.object(falcon.FalconLinear, "forward", forward)
    with swapped, lean_lora(model), torch.autocast("cpu", torch.bfloat16, autocast):
        yield


def forward_backward(model: Any, how: str, read: Sequence[Batch]) -> float:
    """Return the mean loss of all trained tokens, after adding up its gradients where they are asked for."""
    head: Any = find_head(model)
    count = sum(int((batch["labels"] != -100).sum()) for batch in read)
    total = 0.0
    for batch in read:
        with computed(model, how):
            loss = learn.loss_sum(model, batch, head)[0] / count
        if torch.is_grad_enabled():
            loss.backward()
        total += loss.item()
    return total


def update(model: Any, how: str, read: Sequence[Batch]) -> tuple[float, float]:
    """Take one step; return the loss before and after it."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = forward_backward(model, how, read)
    torch.optim.AdamW(trained, RATE, weight_decay=0.0).step()
    with torch.no_grad():
        return before, forward_backward(model, how, read)


def mean_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the mean of our losses less the mean of theirs."""
    return statistics.mean(one - other for one, other in zip(ours, theirs, strict=True))


def updates(seeds: Sequence[int]) -> None:
    """Print how far the loss falls in each precision, and its difference from float32 before and after."""
    print(f"{'model':16s}{'computed in':26s}{'fall':>8s}{'before':>9s}{'after':>9s}   after, of each seed")
    for kind in MODELS:
        plain: list[tuple[float, ...]] = []
        for how, (dtype, _, rounded) in COMPUTED.items():
            if kind == "Llama" and rounded:
                continue
            before, after = zip(*(update(build(kind, seed, dtype), how, batches(seed)) for seed in seeds), strict=True)
            plain = plain or [before, after]
            told = f"{mean_difference(before, after):8.4f}{mean_difference(before, plain[0]):+9.4f}"
            each = " ".join(f"{one - other:+.4f}" for one, other in zip(after, plain[1], strict=True))
            print(f"{kind:16s}{how:26s}{told}{mean_difference(after, plain[1]):+9.4f}   {each}", flush=True)


def rounding(seeds: Sequence[int]) -> None:
    """Print what rounding a layer's output to bfloat16 leaves of LoRA's part in it after one update."""
    moved: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []

    def look(layer: Any, given: tuple[torch.Tensor], _: torch.Tensor) -> None:
        base = layer.base_layer(given[0]).bfloat16().float()
        part = layer.scaling["default"] * layer.lora_B["default"](layer.lora_A["default"](given[0]))
        moved.append(part.flatten())
        kept.append(((base + part).bfloat16().float() - base).flatten())

    for seed in seeds:
        model = build("Falcon, ALiBi", seed)
        update(model, "float32", batches(seed))
        for layer in (module for module in model.modules() if hasattr(module, "lora_A")):
            layer.register_forward_hook(look)
        with torch.no_grad():
            for row in batches(seed, "apart"):
                model(**row)
    asked, left = torch.cat(moved), torch.cat(kept)
    lost, share = (left == 0).float().mean().item(), (left @ asked / (asked @ asked)).item()
    print(f"of LoRA's outputs {lost:.1%} are rounded away; of all of them together {share:.1%} are left")


def padding(seeds: Sequence[int]) -> None:
    """Print the largest difference of the loss, before or after one update, from one batch padded on the right."""
    for kind in MODELS[:2]:
        plain = [loss for seed in seeds for loss in update(build(kind, seed), "float32", batches(seed))]
        for name, laid in (("padded on the left", "left"), ("8 batches of 1", "apart")):
            made = [loss for seed in seeds for loss in update(build(kind, seed), "float32", batches(seed, laid))]
            most = max(abs(one - other) for one, other in zip(made, plain, strict=True))
            print(f"{kind:16s}{name:20s}{most:.1e}", flush=True)


def attention(seeds: Sequence[int]) -> None:
    """Print how eager attention differs from SDPA, and from SDPA with ALiBi twice as steep."""
    for seed in seeds:
        eager, gradient = attended(seed, "eager")
        for name, times in (("SDPA", 1), ("SDPA with twice the ALiBi", 2)):
            loss, other = attended(seed, "sdpa", times)
            apart = ((gradient - other).norm() / other.norm()).item()
            print(f"seed {seed}, eager - {name:26s} loss {eager - loss:+.1e}   gradient of B {apart:.1e}", flush=True)


def attended(seed: int, how: str, times: int = 1) -> tuple[float, torch.Tensor]:
    """Return the loss and the gradient of LoRA's B, ALiBi being so many times as steep."""
    plain = falcon.build_alibi_tensor
    model = build("Falcon, ALiBi", seed, attention=how)
    with patch.object(falcon, "build_alibi_tensor", lambda *given, **named: times * plain(*given, **named)):
        loss = forward_backward(model, "float32", batches(seed))
    return loss, torch.cat([part.grad.flatten() for name, part in model.named_parameters() if "lora_B" in name])


def main() -> None:
    """Measure what the command line asks for."""
    parts = {"update": updates, "rounding": rounding, "padding": padding, "attention": attention}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", choices=parts, help="default: all")
    asked = parser.parse_args()
    for name, part in parts.items():
        if asked.part in (None, name):
            part(range(asked.seeds))


if __name__ == "__main__":
    main()
