"""Which title of its family each title is paired with in an epoch."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from luthier.kinds.embedding.rows import Example, Text


class Partners:
    """Which title of its family each title is paired with: a pure function of (seed, epoch).

    In each epoch every title is the partner of one other. The members of a family stand in a ring, in an order drawn
    from the seed; epoch e pairs each with the one e + 1 places on, so that partners repeat only when all were met.
    """

    def __init__(self, examples: Sequence[Example], seed: int) -> None:
        self._rings: defaultdict[int, list[Text]] = defaultdict(list)
        self._place: dict[str, int] = {}
        for example in examples:
            self._rings[example.family].append(example.texts[0])
        order = {
            family: np.random.default_rng([seed, family]).permutation(len(ring)).tolist()
            for family, ring in self._rings.items()
            if family >= 0
        }
        seen: defaultdict[int, int] = defaultdict(int)
        for example in examples:
            if example.family in order:
                self._place[example.id] = order[example.family][seen[example.family]]
                seen[example.family] += 1
        for family, places in order.items():
            ring = self._rings[family]
            self._rings[family] = [ring[at] for at in np.argsort(places).tolist()]

    def vary(self, example: Example, epoch: int) -> Example:
        """Return a title with its partner of an epoch (from 0): one that the tokenizer tells from it."""
        ring, place = self._rings[example.family], self._place[example.id]
        for further in range(len(ring) - 1):
            step = 1 + (epoch + further) % (len(ring) - 1)
            partner = ring[(place + step) % len(ring)]
            if partner.input_ids != example.input_ids:
                return dataclasses.replace(example, family=-1, texts=(example.texts[0], partner, *example.texts[1:]))
        raise AssertionError(f"no partner for {example.id}")  # encode leaves such titles out

    def family(self, example: Example) -> list[Text]:
        """Return the titles of the family of a title, itself too."""
        return self._rings[example.family]
