"""One request to an endpoint, and what its response means: an answer, a reason to try again, or a reason to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from luthier.errors import UserError

LARGEST = 1 << 20  # bytes of a response that are read; a chat answer is thousands of times smaller
LONGEST_WAIT = 60.0  # seconds between two tries
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
OPTIONAL = (
    "response_format",
    "seed",
    "temperature",
)  # what an endpoint may not take
Hidden = Callable[[str], str]
RENAMED = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Outcome:
    """What came of one request.

    Attributes:
        text: the answer, or None. failed: why there is none.
        usage: tokens as counted by the endpoint. None: the request was refused or never arrived, and costs nothing.
        wait: seconds to wait before the next try, as the endpoint asks; None: it does not say.
        unreachable: no connection was made. unknown: the parameter of the request that the endpoint does not take.
    """

    text: str | None = None
    failed: str = ""
    usage: Mapping[str, Any] | None = None
    wait: float | None = None
    unreachable: bool = False
    unknown: str = ""


def completed(body: bytes, hidden: Hidden) -> Outcome:
    """Return what the body of a response with status 200 holds; without an answer it was probably paid all the same."""
    import orjson

    if len(body) > LARGEST:
        return Outcome(failed=f"the response has more than {LARGEST >> 20} MiB", usage={})
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Outcome(failed="the response is no JSON", usage={})
    counted = found.get("usage") if isinstance(found, dict) else None
    usage = _plain(counted) if isinstance(counted, dict) else {}
    try:
        text = found["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return Outcome(failed="the response is no chat completion", usage=usage)
    if not isinstance(text, str) or not text.strip():
        return Outcome(failed="the response holds no text", usage=usage)
    return Outcome(hidden(text.encode("utf-8", "replace").decode()), usage=usage)


def refused(
    status: int, headers: Mapping[str, str], body: bytes, sent: Mapping[str, Any], host: str, hidden: Hidden
) -> Outcome:
    """Return what a status other than 200 means, where another try may help.

    Args:
        status, headers, body: of the response. sent: the request. host: of the endpoint.
        hidden: a text without the key.

    Raises:
        UserError: no other try can help.
    """
    said = hidden(_said(body))[:300]
    told = f"status {status}{f' ({said})' if said else ''}"
    if status in AGAIN:
        return Outcome(failed=told, wait=_asked_to_wait(headers.get("retry-after")))
    if status in (401, 403):
        remedy = "Check the key, and that it may use this model."
        raise UserError(f"{host} refuses the key (status {status}).", "teacher.key", remedy)
    if 300 <= status < 400:
        raise UserError(
            f"{host} answers with a redirect (status {status}), which is not followed.",
            "teacher.url",
            "Give the address that it leads to, if you trust it.",
        )
    unknown = _unknown_parameter(said, sent) if status in (400, 422) else ""
    if unknown:
        return Outcome(failed=told, unknown=unknown)
    remedy = "Check teacher.url (it usually ends in /v1), teacher.model and what the endpoint says."
    raise UserError(f"{host} refuses the request: {told}.", "teacher", remedy)


def without(request: Mapping[str, Any], unknown: Mapping[str, None]) -> dict[str, Any]:
    """Return a request without what the endpoint does not take; a limit of tokens goes by its other name."""
    body = {name: value for name, value in request.items() if name not in unknown}
    if RENAMED[0] in unknown:
        body[RENAMED[1]] = request[RENAMED[0]]
    return body


def _unknown_parameter(said: str, sent: Mapping[str, Any]) -> str:
    """Return the parameter that an error names, else the one that the fewest endpoints know; "" when none is left."""
    if RENAMED[0] in sent and RENAMED[1] in said:
        return RENAMED[0]
    named = [name for name in OPTIONAL if name in sent and name in said.replace("json_schema", "response_format")]
    left = [name for name in OPTIONAL[:1] if name in sent]
    return (named or left or [""])[0]


def _asked_to_wait(told: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number or a date."""
    if not told:
        return None
    try:
        seconds = float(told) if told.strip()[:1].isdigit() else parsedate_to_datetime(told).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, min(seconds, LONGEST_WAIT))


def _said(body: bytes) -> str:
    """Return what an endpoint says of an error, short and printable."""
    import orjson

    try:
        found = orjson.loads(body[:LARGEST])
        error = found.get("error", found.get("detail", found.get("message")))
        said = error.get("message") if isinstance(error, dict) else error
    except (orjson.JSONDecodeError, AttributeError):
        return ""
    return "".join(character if character.isprintable() else " " for character in str(said or ""))


def _plain(usage: Mapping[str, Any]) -> dict[str, int]:
    names = ("prompt_tokens", "completion_tokens")
    return {
        name: usage[name]
        for name in names
        if isinstance(usage.get(name), int) and not isinstance(usage[name], bool) and 0 <= usage[name] < 2**31
    }
