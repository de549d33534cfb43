"""Rows hold every token once a pass, targets stay within documents, and the position restores."""

import numpy as np
import torch

from luthier.starter.model import IGNORE
from luthier.starter.packing import Packer, Stream

DOCUMENTS = [np.arange(n * 100, n * 100 + size, dtype=np.uint16) for n, size in enumerate((7, 30, 12, 19), 1)]


def test_a_pass_yields_every_document_whole() -> None:
    stream = Stream(DOCUMENTS, seed=0)
    taken: list[int] = []
    while stream.epoch == 0:
        taken.extend(stream.take(10).tolist())
    assert sorted(taken) == sorted(np.concatenate(DOCUMENTS).tolist())


def test_targets_are_the_next_token_of_the_same_document() -> None:
    batch = Packer(DOCUMENTS, [], seed=0).batch(4, 16)
    kept = batch.targets != IGNORE
    assert torch.equal(batch.targets[kept], batch.tokens[kept] + 1)
    changes = batch.documents[:, 1:] != batch.documents[:, :-1]
    assert (batch.targets[:, :-1][changes] == IGNORE).all()
    assert (batch.targets[:, -1] == IGNORE).all()


def test_every_pass_has_its_own_order_and_the_seed_decides_it() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return Stream(DOCUMENTS * 10, seed, epoch)._order.tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_position_restores() -> None:
    chats = [np.array([9, 8, 7], dtype=np.uint16)] * 3
    packer = Packer(DOCUMENTS, chats, seed=3)
    for _ in range(5):
        packer.batch(3, 16, 0.5)
    state = packer.state()
    expected = packer.batch(8, 16, 0.5).tokens
    other = Packer(DOCUMENTS, chats, seed=3)
    other.restore(state)
    assert torch.equal(other.batch(8, 16, 0.5).tokens, expected)
    assert (expected == 9).any() and (expected >= 100).any(), "both kinds of row"
