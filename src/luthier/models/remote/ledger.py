"""What a teacher was asked, what it said and what that cost: each answer is paid once, and a cap is obeyed.

One file for each endpoint and model, in the cache folder. A line says what is about to be sent and what it may cost at
most; another line holds the answer and what it did cost, and is on the disk before the answer is used. A killed run
therefore asks only what is missing, and what was under way when it was killed stays booked at its highest price.
Several processes may share the file: each reads what the others wrote before it sends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from luthier.errors import UserError
from luthier.run.atomic import explained


@dataclass(frozen=True)
class Prices:
    """What a teacher costs. Units are those of the cap: any currency.

    Attributes:
        prompt, completion: for a million tokens. cap: what may be spent in all; None: no bound.
    """

    prompt: float = 0.0
    completion: float = 0.0
    cap: float | None = None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the price of so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class CapReached(Exception):  # noqa: N818 - it is a reason to stop, told as a UserError by the client
    """The next request may cost more than is left."""


class Ledger:
    """Answers by request, and what was spent. Safe to use from several threads and processes.

    Args:
        path: the file. prices: see `Prices`.

    Attributes:
        spent: by this object. total: by all, ever, what is under way at its bound. asked: answers that were paid.
        unusable: requests that were booked and gave no answer. remembered: answers found in the file.

    Raises:
        UserError: the folder cannot be written to, or the file is not a ledger.
    """

    def __init__(self, path: Path, prices: Prices) -> None:
        self._path, self._prices = path, prices
        self._lock = threading.Lock()
        self._kept: dict[str, str] = {}
        self._read_to = 0
        self.spent = self.total = 0.0
        self.asked = self.unusable = self.remembered = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.chmod(0o700)
        except OSError as error:
            raise explained(error, path) from error
        with self._held():
            pass

    def recall(self, key: str) -> str | None:
        """Return the kept answer to a request, None when it was never answered."""
        with self._lock:
            found = self._kept.get(key)
            self.remembered += found is not None
            return found

    def reserve(self, key: str, size: int, max_tokens: int) -> float:
        """Book what a request may cost at most, before it is sent; return it for `settle`.

        Args:
            key: of the request. size: of its body in bytes. A token is a byte at least, so it has no more tokens.
            max_tokens: of the answer.

        Raises:
            CapReached: it may cost more than is left under the cap, all earlier spending in this file counted.
        """
        bound = self._prices.cost(size, max_tokens)
        with self._held() as file:
            cap = self._prices.cap
            if cap is not None and self.total + bound > cap:
                raise CapReached
            self._append(file, {"key": key, "sent": bound})
        return bound

    def settle(self, key: str, text: str | None, usage: Mapping[str, Any] | None, bound: float) -> None:
        """Keep an answer and book its cost in place of the bound.

        Args:
            key: of the request. text: its answer; None: there is none.
            usage: tokens as the endpoint counts them; where it does not, the request costs its bound. None: the
                request was refused or never sent, and costs nothing.
            bound: from `reserve`.
        """
        cost = 0.0 if usage is None else self._cost(usage, bound)
        line: dict[str, Any] = {"key": key, "cost": cost, "bound": bound}
        if text is not None:
            line |= {"text": text, "usage": dict(usage or {})}
        with self._held() as file:
            self.spent += cost
            self.asked += text is not None
            self.unusable += text is None and usage is not None
            self._append(file, line)

    def _cost(self, usage: Mapping[str, Any], bound: float) -> float:
        counted = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        known = [one for one in counted if isinstance(one, int) and not isinstance(one, bool) and one >= 0]
        return self._prices.cost(*known) if len(known) == 2 else bound

    @contextmanager
    def _held(self) -> Iterator[IO[bytes]]:
        """Hold the file for this thread and process, with all that others wrote read."""
        with self._lock:
            try:
                with open(os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    self._catch_up(file)
                    yield file
            except OSError as error:
                raise explained(error, self._path) from error

    def _catch_up(self, file: IO[bytes]) -> None:
        file.seek(self._read_to)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # a kill has torn the last line; nobody writes now
            file.truncate(self._read_to + whole)
        for line in content[:whole].splitlines():
            try:
                self._take(orjson.loads(line))
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise UserError(
                    "The kept answers of the teacher are damaged.", str(self._path), "Mend the file, or remove it."
                ) from error
        self._read_to += whole

    def _take(self, line: Mapping[str, Any]) -> None:
        if "sent" in line:
            self.total += float(line["sent"])
            return
        self.total += float(line["cost"]) - float(line["bound"])
        if "text" in line:
            self._kept[str(line["key"])] = str(line["text"])

    def _append(self, file: IO[bytes], line: Mapping[str, Any]) -> None:
        content = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())
        self._read_to += len(content)
        self._take(line)


def key_of(request: Mapping[str, Any]) -> str:
    """Return the sha256 of a request: equal requests are asked once."""
    return hashlib.sha256(orjson.dumps(dict(request), option=orjson.OPT_SORT_KEYS)).hexdigest()
