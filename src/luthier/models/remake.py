"""What a norm or an activation made is made again in the backward pass, instead of being kept for it.

Autograd keeps the input of a norm, a GELU or a gate. A LoRA layer behind it would keep the output as well, for the
gradient of A: a quarter of all that a step keeps. Making it again by the same operations gives the same bits (as
activation checkpointing does, Chen et al. 2016), and costs one pass over memory and no product.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NAME = "_luthier_remake"


class Remake:
    """How to make a tensor again.

    Args:
        make: what made it. of: from what; kept by autograd anyway.
    """

    def __init__(self, make: Callable[..., Tensor], of: tuple[Tensor, ...]) -> None:
        self._make, self._of = make, tuple(one.detach() for one in of)
        self._takers = self._left = 0
        self._made: Tensor | None = None

    def take(self) -> Remake:
        """Note one more layer that will ask for it in the backward pass."""
        self._takers += 1
        self._left = self._takers
        return self

    def again(self) -> Tensor:
        """Return the tensor: made at the first asking, let go at that of the last taker."""
        with torch.no_grad():
            made = self._make(*self._of) if self._made is None else self._made
        self._left -= 1
        self._made = made if self._left else None
        self._left = self._left or self._takers
        return made


def remade(made: Tensor, make: Callable[..., Tensor], *of: Tensor) -> Tensor:
    """Return `made`, with the note of how it came to be: `make(*of)`."""
    if made.requires_grad:
        setattr(made, NAME, Remake(make, of))
    return made


def how_to_remake(x: Tensor) -> Remake | None:
    """Return the note on a tensor, None where there is none."""
    found: Remake | None = getattr(x, NAME, None)
    return found
