"""Recipes written to the test's own folder, and the errors they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from luthier.errors import UserError, UserErrors
from luthier.recipe.keys import all_keys
from luthier.recipe.load import load_recipe

# The outermost sections that are off unless a recipe has them.
_OFF = [name for name, key in all_keys().items() if key.sections and key.field.default is None]
OFF = [name for name in _OFF if not any(name.startswith(f"{other}.") for other in _OFF)]
MINIMAL = "name: demo\ndata:\n  source: rows.jsonl\n"

Failing = Callable[..., tuple[UserError, ...]]


@pytest.fixture
def failing() -> Failing:
    """Return a function that loads a recipe which must not load, and gives its errors."""

    def load(text: str | bytes, overrides: Mapping[str, Any] | None = None) -> tuple[UserError, ...]:
        path = Path("recipe.yaml")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(UserErrors) as caught:
            load_recipe(path, overrides)
        return caught.value.errors

    return load


@pytest.fixture
def minimal() -> Path:
    """Write the smallest recipe."""
    path = Path("recipe.yaml")
    path.write_text(MINIMAL)
    return path
