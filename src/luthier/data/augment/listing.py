"""What augmentation made, as lines of a table: each source beside its variations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from luthier.data.augment import Augmented
from luthier.data.rows import Row, question

COLUMNS = ("title", "variation", "category", "source", "model", "prompt_hash")


def listed(train: Sequence[Row], made: Augmented, method: str) -> Iterator[tuple[str, ...]]:
    """Yield a line of `COLUMNS` for each row that was made.

    Args:
        train: the rows that were varied.
        made: what was made of them.
        method: who made it: rules, or a teacher, whose rows are labelled with its model and the hash of its prompt.
    """
    text_of = {row.id: question(row) for row in train}
    for row in made.rows:
        by = [str(row.labels.get(name, "")) if method == "teacher" else "" for name in COLUMNS[4:]]
        yield (text_of[str(row.made_from)], question(row), made.categories[row.id], method, *by)
