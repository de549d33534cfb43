"""JSON within other text, as models write it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

STARTS = 50  # places in a text where JSON may begin that are tried


def objects(text: str) -> Iterator[Any]:
    """Yield the JSON objects of a text in order; what is around them, such as a code fence or thoughts, is passed over.

    Gives up after 50 places where one may begin.
    """
    decoder, at = json.JSONDecoder(), text.find("{")
    for _ in range(STARTS):
        if at < 0:
            return
        try:
            found, end = decoder.raw_decode(text, at)
            yield found
        except (json.JSONDecodeError, RecursionError):
            end = at + 1
        at = text.find("{", end)
