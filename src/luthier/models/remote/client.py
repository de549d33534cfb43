"""Asks a teacher: many requests at once, each tried again where that can help, each answer kept before it is used."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import StageError, UserError
from luthier.models.rate import cache_folder
from luthier.models.remote.address import AUTO, Resolve, check, resolve_name, secret
from luthier.models.remote.exchange import LARGEST, LONGEST_WAIT, Outcome, completed, refused, without
from luthier.models.remote.ledger import CapReached, Ledger, Prices, key_of
from luthier.run.progress import Advance, Progress, Silent

if TYPE_CHECKING:
    import httpx2

PUT_AGAIN = 3  # times a question is put whose answer cannot be used
FAILED_IN_A_ROW = 8  # questions without an answer after which the endpoint is taken to be down
Check = Callable[[str], str | None]  # text of an answer → what is wrong with it, None when nothing is
Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True)
class Settings:
    """How a teacher is asked.

    Attributes:
        url: base address, such as http://127.0.0.1:11434/v1. model: as the endpoint names it.
        key: name of the environment variable that holds the key; "auto": that of the public service; None: no key.
        temperature: of its answers. max_tokens: of an answer at most. concurrency: requests at once.
        timeout: seconds a request may take in all. tries: of one request, before it is given up.
        prices: of its tokens, and the cap.
    """

    url: str
    model: str
    key: str | None = AUTO
    temperature: float = 0.7
    max_tokens: int = 512
    concurrency: int = 4
    timeout: float = 120.0
    tries: int = 5
    prices: Prices = field(default_factory=Prices)


@dataclass(frozen=True)
class Question:
    """What a teacher is asked: `messages` (role, content), a JSON schema for its answer or none, and a seed."""

    messages: tuple[Mapping[str, str], ...]
    schema: Mapping[str, Any] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Reply:
    """What came of a question: `text`, or None and the reason in `failed`. `remembered`: it was answered before."""

    text: str | None
    failed: str = ""
    remembered: bool = False


class Teacher:
    """A model behind an OpenAI-compatible endpoint (OpenAI, vLLM, Ollama, the llama-cpp server).

    Args:
        settings: see `Settings`. folder: of the kept answers. sleep: waits so many seconds between tries.
        resolve: host and port to numeric addresses.

    Raises:
        UserError: the address is not allowed, or the key's variable is not set.
    """

    def __init__(
        self, settings: Settings, folder: Path, sleep: Sleep = asyncio.sleep, resolve: Resolve = resolve_name
    ) -> None:
        self.settings, self._sleep = settings, sleep
        self._address = check(settings.url, resolve)
        self._secret = secret(settings.key, self._address)
        name = key_of({"url": self._address.url, "model": settings.model})[:16]
        self.ledger = Ledger(folder / f"{name}.jsonl", settings.prices)
        self._unknown: dict[str, None] = {}  # parameters that the endpoint does not take
        self._at = 0  # place in Address.connect
        self._failed_in_a_row = 0

    @property
    def told(self) -> str:
        """What this object asked and what that cost, in a few words."""
        ledger = self.ledger
        words = f"{ledger.asked:,} answers asked for, {ledger.remembered:,} known from before"
        if ledger.unusable:
            words += f", {ledger.unusable:,} requests without an answer"
        prices = self.settings.prices
        if prices.prompt or prices.completion:
            words += f"; spent {ledger.spent:.4g}, with all earlier runs {ledger.total:.4g}"
        return words + (f" of {prices.cap:g}" if prices.cap is not None else "")

    def ask(
        self, questions: Sequence[Question], accept: Check, progress: Progress | None = None, what: str = "teacher"
    ) -> list[Reply]:
        """Answer every question, in their order; a question that cannot be answered has its reason.

        Kept answers are not asked again. An answer that `accept` refuses is kept as well, and the question is put again
        with the next seed, `PUT_AGAIN` times in all. Equal questions are asked once.

        Raises:
            UserError: the key is refused, the model is unknown, or the cap is reached; what was paid is kept.
            StageError: the endpoint cannot be reached, or fails question after question.
        """
        different = list({key_of(self._request(one, 0)): one for one in questions}.values())
        task = (progress or Silent()).task(what, total=len(different), unit="questions")
        with task as advance:
            replies = _run(self._all(different, accept, advance))
        by_key = {key_of(self._request(one, 0)): reply for one, reply in zip(different, replies, strict=True)}
        return [by_key[key_of(self._request(one, 0))] for one in questions]

    async def _all(self, questions: Sequence[Question], accept: Check, advance: Advance) -> list[Reply]:
        """Ask with so many workers; the first error stops them once what is under way is answered and kept."""
        import httpx2

        replies: list[Reply | None] = [None] * len(questions)
        waiting = iter(range(len(questions)))
        errors: list[Exception] = []
        encrypted = self._address.url.startswith("https:")
        async with httpx2.AsyncClient(
            verify=httpx2.create_ssl_context() if encrypted else False,  # the owner's SSL_CERT_FILE is heeded
            limits=httpx2.Limits(max_connections=self.settings.concurrency),
            timeout=self.settings.timeout,
            follow_redirects=False,
            trust_env=False,
            proxy=self._address.proxy,
        ) as client:

            async def work() -> None:
                for place in waiting:
                    if errors:
                        return
                    try:
                        replies[place] = await self._answer(client, questions[place], accept)
                    except Exception as error:
                        errors.append(error)
                        return
                    advance(1)

            await asyncio.gather(*(work() for _ in range(self.settings.concurrency)))
        if errors:
            raise errors[0]
        return [reply for reply in replies if reply is not None]

    async def _answer(self, client: httpx2.AsyncClient, question: Question, accept: Check) -> Reply:
        failed = ""
        for again in range(PUT_AGAIN):
            request = self._request(question, again)
            key = key_of(request)
            text = self.ledger.recall(key)
            remembered = text is not None
            if text is None:
                text, failed = await self._tried(client, request, key)
            if text is None:
                return Reply(None, failed)
            wrong = accept(text)
            if wrong is None:
                return Reply(text, remembered=remembered)
            failed = f"the answer cannot be used: {wrong}"
        return Reply(None, failed)

    async def _tried(self, client: httpx2.AsyncClient, request: Mapping[str, Any], key: str) -> tuple[str | None, str]:
        """Return (text, why not), after as many tries as it takes."""
        outcome, attempt = Outcome(), 0
        while attempt < self.settings.tries:
            outcome = await self._paid(client, request, key)
            if outcome.text is not None:
                self._failed_in_a_row = 0
                return outcome.text, ""
            if outcome.unknown:  # without that parameter it may be taken; they are few
                self._unknown[outcome.unknown] = None
                continue
            attempt += 1
            if attempt < self.settings.tries:
                backoff = min(LONGEST_WAIT, 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
                await self._sleep(backoff if outcome.wait is None else outcome.wait)
        self._failed_in_a_row += 1
        if outcome.unreachable or self._failed_in_a_row >= FAILED_IN_A_ROW:
            raise StageError(
                f"{self._address.host} does not answer: {outcome.failed}.",
                "teacher.url",
                "Is it running, and is that its port? Run again when it is: what was answered is kept.",
            )
        return None, outcome.failed

    async def _paid(self, client: httpx2.AsyncClient, request: Mapping[str, Any], key: str) -> Outcome:
        """Send one request, with its price booked before it leaves; what was sent and gave no answer stays booked."""
        import orjson

        body = without(request, self._unknown)
        try:
            bound = self.ledger.reserve(key, len(orjson.dumps(body)), self.settings.max_tokens)
        except CapReached:
            raise UserError(
                f"The spending cap of {self.settings.prices.cap:g} is reached: {self.ledger.total:.4g} spent, and the "
                "next request may cost more than is left.",
                "teacher.cap",
                "Raise teacher.cap and run again: what was answered is kept and not paid twice.",
            ) from None
        outcome = Outcome(usage={})  # of a request that was cut off: it may have been paid
        try:
            outcome = await self._sent(client, body)
        except (UserError, StageError):
            outcome = Outcome()
            raise
        finally:
            self.ledger.settle(key, outcome.text, outcome.usage, bound)
        return outcome

    async def _sent(self, client: httpx2.AsyncClient, body: Mapping[str, Any]) -> Outcome:
        import httpx2

        at = self._at
        try:
            async with asyncio.timeout(self.settings.timeout):
                status, headers, content = await self._exchanged(client, body, self._address.connect[at])
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            if self._at == at:  # the first of those under way moves all of them to the next address
                self._at = (at + 1) % len(self._address.connect)
            return Outcome(failed=f"no connection ({str(error)[:120] or type(error).__name__})", unreachable=True)
        except (httpx2.TimeoutException, TimeoutError):
            return Outcome(failed=f"no answer within {self.settings.timeout:g} s", usage={})
        except httpx2.HTTPError as error:
            return Outcome(failed=f"the connection broke ({type(error).__name__})", usage={})
        if status == 200:
            return completed(content, self._hidden)
        return refused(status, headers, content, body, self._address.host, self._hidden)

    async def _exchanged(
        self, client: httpx2.AsyncClient, body: Mapping[str, Any], to: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and at most little more than `LARGEST` bytes of the body."""
        headers = {"Host": self._address.name, "Accept-Encoding": "identity"}
        if self._secret:
            headers["Authorization"] = f"Bearer {self._secret}"
        name = {"sni_hostname": self._address.host}
        async with client.stream(
            "POST", f"{to}/chat/completions", json=dict(body), headers=headers, extensions=name
        ) as response:
            held = bytearray()
            async for piece in response.aiter_bytes():
                held += piece
                if len(held) > LARGEST:
                    break
            return response.status_code, response.headers, bytes(held)

    def _hidden(self, text: str) -> str:
        """Return a text without the key, which some endpoints repeat."""
        return text.replace(self._secret, "[key]") if self._secret else text

    def _request(self, question: Question, again: int) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self.settings.model,
            "messages": [dict(message) for message in question.messages],
            "temperature": self.settings.temperature,
            "max_tokens": self.settings.max_tokens,
            "seed": question.seed + again,
        }
        if question.schema is not None:
            named = {"name": "answer", "strict": True, "schema": dict(question.schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": named}
        return request


def teacher_of(asking: Mapping[str, Any], paying: Mapping[str, float | None]) -> Teacher:
    """Return a teacher whose answers are kept in the user's cache folder.

    Args:
        asking: the settings without prices, by name. paying: prices and cap, by name.
    """
    return Teacher(Settings(**asking, prices=Prices(**paying)), cache_folder() / "teacher")  # type: ignore[arg-type]


def _run(work: Coroutine[Any, Any, list[Reply]]) -> list[Reply]:
    """Run a coroutine to its end, also where a loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    started: list[Callable[[], object]] = []

    async def watched() -> list[Reply]:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None  # noqa: S101 - this runs in one
        started.append(lambda: loop.call_soon_threadsafe(task.cancel))
        return await work

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: asyncio.run(watched()))
        try:
            return future.result()
        except BaseException:
            if started and not future.done():
                started[0]()
            raise
