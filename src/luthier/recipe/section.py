"""What every section of the schema is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _off(value: Any) -> Any:
    """Read the words off/none/false as absence: YAML 1.1 turns a bare `off` into False."""
    return None if value is False or value in ("off", "none") else value


OffOr = BeforeValidator(_off)


class ContradictionError(ValueError):
    """Values that do not go together: what is wrong, the key to point at, and what to do."""

    def __init__(self, words: str, key: str, remedy: str) -> None:
        super().__init__(words)
        self.key, self.remedy = key, remedy


class Section(BaseModel):
    """A part of a recipe: immutable, no unknown keys, numbers finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)
