"""The client of a teacher: nothing lost, nothing paid twice, the cap obeyed, the key told to nobody."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson
import pytest

from luthier.errors import StageError, UserError
from luthier.models.remote import client as module
from luthier.models.remote.client import Prices, Question, Settings, Teacher
from luthier.models.remote.exchange import LARGEST
from tests.scripted import Answer, Request, endpoint, prompt_of

KEY = "sk-hidden/0123456789abcdef"
SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}


def ask(url: str, folder: Path, prompts: list[str], accept: Callable[[str], str | None] | None = None, **settings: Any):
    """Ask the prompts; return replies, the waits between tries, and the ledger."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    values = {"timeout": 5.0, "tries": 3, "key": None} | settings
    teacher = Teacher(Settings(url, "m", **values), folder, sleep)
    questions = [Question(({"role": "user", "content": prompt},), SCHEMA, 7) for prompt in prompts]
    return teacher.ask(questions, accept or (lambda _: None)), waits, teacher.ledger


def echo(request: Request, _number: int) -> Answer:
    return Answer(f"about {prompt_of(request)}")


def test_answers_come_in_the_order_of_the_questions_and_are_kept(tmp_path):
    prompts = [f"question {n}" for n in range(20)]
    with endpoint(lambda request, number: Answer(f"about {prompt_of(request)}", wait=0.03 * (number % 3))) as server:
        replies, _, ledger = ask(server.url, tmp_path, prompts, concurrency=6)
        assert [reply.text for reply in replies] == [f"about {prompt}" for prompt in prompts]
        assert 2 <= server.at_once <= 6
        assert (len(server.asked), ledger.asked, ledger.remembered) == (20, 20, 0)
        again, _, ledger = ask(server.url, tmp_path, prompts[::-1], concurrency=6)
        assert [reply.text for reply in again] == [f"about {prompt}" for prompt in prompts[::-1]]
        assert all(reply.remembered for reply in again)
        assert (len(server.asked), ledger.asked, ledger.remembered) == (20, 0, 20)
        assert server.asked[0] == {
            "model": "m",
            "messages": [{"role": "user", "content": prompt_of(server.asked[0])}],
            "temperature": 0.7,
            "max_tokens": 512,
            "seed": 7,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
            },
            "path": "/v1/chat/completions",
        }
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_equal_questions_are_asked_once(tmp_path):
    with endpoint(echo) as server:
        replies, _, _ = ask(server.url, tmp_path, ["same"] * 9, concurrency=4)
    assert [reply.text for reply in replies] == ["about same"] * 9
    assert len(server.asked) == 1


def test_another_model_or_setting_is_another_answer(tmp_path):
    with endpoint(echo) as server:
        ask(server.url, tmp_path, ["q"])
        ask(server.url, tmp_path, ["q"], temperature=0.1)
        assert len(server.asked) == 2


RETRIED = {
    "429 with seconds": (Answer(status=429, headers={"Retry-After": "7"}), [7.0]),
    "429 with a date": (Answer(status=429, headers={"Retry-After": formatdate(time.time() + 30, usegmt=True)}), None),
    "429 with nonsense": (Answer(status=429, headers={"Retry-After": "soon"}), None),
    "429 with a year": (Answer(status=429, headers={"Retry-After": "31536000"}), [60.0]),
    "500": (Answer(status=500, body=b"<html>oops</html>", headers={"Content-Type": "text/html"}), None),
    "truncated JSON": (Answer(body=b'{"choices": [{"message": {"content": "ha'), None),
    "connection cut": (Answer("x" * 1000, cut=20), None),
    "wrong content type": (Answer(body=b"hello", headers={"Content-Type": "text/plain"}), None),
    "no choices": (Answer(body=b'{"choices": []}'), None),
    "null content": (Answer(None), None),
    "content of another type": (Answer([{"type": "text", "text": "hi"}]), None),
    "empty content": (Answer("  "), None),
    "a list": (Answer(body=b"[1, 2]"), None),
    "deep nesting": (Answer(body=b"[" * 100_000), None),
    "no UTF-8": (Answer(body=b'{"choices": "\xff\xfe"}'), None),
}


@pytest.mark.parametrize("name", RETRIED)
def test_what_another_try_may_mend_is_tried_again(name, tmp_path):
    bad, expected = RETRIED[name]
    with endpoint(lambda request, number: bad if number == 0 else echo(request, number)) as server:
        replies, waits, ledger = ask(server.url, tmp_path, ["q"])
    assert replies[0].text == "about q"
    assert len(server.asked) == 2
    assert ledger.asked == 1
    assert ledger.unusable == (1 if bad.status == 200 else 0)  # what was sent in full was probably paid
    if expected is None:
        assert 0 <= waits[0] <= 31
    else:
        assert waits == expected


def test_waits_grow_and_have_a_bound(tmp_path):
    with endpoint(lambda *_: Answer(status=503)) as server:
        replies, waits, _ = ask(server.url, tmp_path, ["q"], tries=12)
    assert replies[0].text is None
    assert "503" in replies[0].failed
    assert len(server.asked) == 12
    assert all(0.5 * min(60, 2**n) <= wait <= min(60, 2**n) for n, wait in enumerate(waits))


@pytest.mark.parametrize(
    "slow", [Answer("late", wait=3.0), Answer("drip" * 100, drip=0.05)], ids=["hangs", "drips its body"]
)
def test_a_request_takes_no_longer_than_its_timeout(slow, tmp_path):
    began = time.monotonic()
    with endpoint(lambda request, number: slow if number == 0 else echo(request, number)) as server:
        replies, _, ledger = ask(server.url, tmp_path, ["q"], timeout=0.4, prices=Prices(1.0, 1.0))
    assert time.monotonic() - began < 2.5
    assert replies[0].text == "about q"
    assert ledger.unusable == 1
    assert ledger.spent > 512 / 1e6  # the lost one at its bound


def test_a_huge_response_is_not_read_to_its_end(tmp_path):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with endpoint(lambda request, number: Answer(stream=100) if number == 0 else echo(request, number)) as server:
        replies, _, _ = ask(server.url, tmp_path, ["q"])
    assert replies[0].text == "about q"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB
    with endpoint(lambda *_: Answer(body=b"x" * (LARGEST + 1))) as server:
        replies, _, _ = ask(server.url, tmp_path / "other", ["q"])
    assert "more than 1 MiB" in replies[0].failed


@pytest.mark.parametrize(
    ("answer", "words", "place"),
    [
        (Answer(status=401, body=b'{"error": {"message": "Incorrect API key: %s"}}' % KEY.encode()), "key", "key"),
        (Answer(status=403), "key", "key"),
        (Answer(status=404, body=b'{"error": {"message": "no such model"}}'), "no such model", "teacher"),
        (Answer(status=404, body=b"gone"), "404", "teacher"),
        (Answer(status=302, headers={"Location": "http://169.254.169.254/latest"}), "redirect", "teacher.url"),
        (Answer(status=307, headers={"Location": "http://127.0.0.1:1/v1"}), "redirect", "teacher.url"),
        (Answer(status=418, body=json.dumps({"error": f"tea with {KEY}"}).encode()), "tea with [key]", "teacher"),
        (Answer(status=418, body=b'{"error": "tea with sk-hidden\\/0123456789abcdef"}'), "tea with [key]", "teacher"),
    ],
)
def test_what_no_try_can_mend_is_told_at_once(answer, words, place, tmp_path, monkeypatch):
    monkeypatch.setenv("OWN_API_KEY", KEY)
    with endpoint(lambda *_: answer) as server, pytest.raises(UserError) as caught:
        ask(server.url, tmp_path, ["q"], key="OWN_API_KEY", prices=Prices(1.0, 1.0, 5.0))
    assert words in caught.value.problem
    assert place in caught.value.place
    assert KEY not in str(caught.value)
    assert len(server.asked) == 1
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_the_answers_before_an_error_are_kept(tmp_path):
    def script(request: Request, number: int) -> Answer:
        return Answer(status=401) if number == 5 else Answer(f"about {prompt_of(request)}", wait=0.05)

    prompts = [f"q{n}" for n in range(12)]
    with endpoint(script) as server:
        with pytest.raises(UserError):
            ask(server.url, tmp_path, prompts, concurrency=3)
        sent = len(server.asked)
        assert sent < 12
        ask(server.url, tmp_path, prompts, concurrency=3)
        assert len(server.asked) == 13  # the refused one twice, all others once


def test_nobody_listens(tmp_path):
    with endpoint(echo) as server:
        pass
    with pytest.raises(StageError, match="does not answer") as caught:
        ask(server.url, tmp_path, ["q"])
    assert caught.value.exit_status == 1


def test_an_endpoint_that_fails_question_after_question_is_given_up(tmp_path):
    with endpoint(lambda *_: Answer(status=500)) as server, pytest.raises(StageError):
        ask(server.url, tmp_path, [f"q{n}" for n in range(100)], tries=1, concurrency=1)
    assert len(server.asked) == module.FAILED_IN_A_ROW


@pytest.mark.parametrize(
    ("message", "left_out", "instead"),
    [
        ("'response_format' of type 'json_schema' is not supported", "response_format", None),
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "max_tokens", 512),
        ("Unsupported value: 'temperature' does not support 0.7", "temperature", None),
        ("Unexpected keys in the request: {'seed'}", "seed", None),
        ("bad request", "response_format", None),
    ],
)
def test_an_endpoint_may_know_fewer_parameters(message, left_out, instead, tmp_path):
    def script(request: Request, number: int) -> Answer:
        return (
            echo(request, number)
            if left_out not in request
            else Answer(status=400, body=orjson.dumps({"error": {"message": message}}))
        )

    with endpoint(script) as server:
        replies, waits, _ = ask(server.url, tmp_path, ["q1", "q2", "q3"], concurrency=3)
    assert [reply.text for reply in replies] == ["about q1", "about q2", "about q3"]
    assert waits == []
    assert server.asked[-1].get("max_completion_tokens") == instead


def test_a_bad_request_ends_when_nothing_is_left_to_leave_out(tmp_path):
    with endpoint(lambda *_: Answer(status=400)) as server, pytest.raises(UserError):
        ask(server.url, tmp_path, ["q"])
    assert len(server.asked) == 2


def test_a_refused_answer_is_asked_for_again_with_another_seed_and_kept_too(tmp_path):
    def accept(text: str) -> str | None:
        return "not good" if text.startswith("bad") else None

    def script(request: Request, _number: int) -> Answer:
        good = prompt_of(request) == "mends" and request["seed"] == 9
        return Answer("good" if good else f"bad {request['seed']}")

    with endpoint(script) as server:
        replies, _, ledger = ask(server.url, tmp_path, ["mends", "never"], accept)
        assert [reply.text for reply in replies] == ["good", None]
        assert "not good" in replies[1].failed
        assert ledger.asked == len(server.asked) == 6
        replies, _, ledger = ask(server.url, tmp_path, ["mends", "never"], accept)
        assert [reply.text for reply in replies] == ["good", None]
        assert len(server.asked) == 6


def test_the_cap_is_obeyed_by_many_requests_at_once_and_over_runs(tmp_path):
    prices = Prices(prompt=10.0, completion=1000.0, cap=0.3)
    used = {"prompt_tokens": 100, "completion_tokens": 50}
    prompts = [f"q{n}" for n in range(50)]
    with endpoint(lambda request, _: Answer(f"a {prompt_of(request)}", used, wait=0.02)) as server:
        with pytest.raises(UserError, match=r"cap of 0\.3 is reached") as caught:
            ask(server.url, tmp_path, prompts, concurrency=8, max_tokens=60, prices=prices)
        assert caught.value.place == "teacher.cap"
        paid = len(server.asked) * prices.cost(100, 50)
        assert 0.15 < paid <= 0.3
        with pytest.raises(UserError, match="cap"):
            ask(server.url, tmp_path, prompts, concurrency=8, max_tokens=60, prices=prices)
        assert len(server.asked) * prices.cost(100, 50) <= 0.3
        replies, _, ledger = ask(
            server.url, tmp_path, prompts, concurrency=8, max_tokens=60, prices=Prices(10.0, 1000.0, 10.0)
        )
    assert len(server.asked) == 50
    assert len({reply.text for reply in replies}) == 50
    assert ledger.total == pytest.approx(50 * prices.cost(100, 50))


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": -5, "completion_tokens": 1}, {"prompt_tokens": "9", "completion_tokens": True}],
)
def test_without_a_count_of_tokens_an_answer_costs_its_bound(usage, tmp_path):
    prices = Prices(0.0, 100.0, 0.125)  # 60 tokens: 0.006 an answer
    script = lambda request, _: Answer(f"a {prompt_of(request)}", usage)  # noqa: E731
    with endpoint(script) as server, pytest.raises(UserError, match="cap"):
        ask(server.url, tmp_path, [f"q{n}" for n in range(40)], max_tokens=60, prices=prices)
    assert len(server.asked) == 20


def test_unusable_responses_count_towards_the_cap(tmp_path):
    prices = Prices(0.0, 100.0, 0.05)  # 60 tokens: 0.006 a request
    with endpoint(lambda *_: Answer(body=b"{}")) as server, pytest.raises(UserError, match="cap"):
        ask(server.url, tmp_path, ["q1", "q2", "q3", "q4"], max_tokens=60, prices=prices, tries=5, concurrency=1)
    assert len(server.asked) == 8


def test_refused_requests_cost_nothing(tmp_path):
    prices = Prices(0.0, 100.0, 0.05)
    with endpoint(lambda request, number: Answer(status=429) if number % 2 == 0 else echo(request, number)) as server:
        _, _, ledger = ask(
            server.url, tmp_path, [f"q{n}" for n in range(7)], prices=prices, concurrency=1, max_tokens=60
        )
    assert ledger.spent == pytest.approx(7 * 50 * 100 / 1e6)


KILLED = """
    import sys
    from pathlib import Path
    from luthier.models.remote.client import Prices, Question, Settings, Teacher
    settings = Settings(sys.argv[1], "m", key=None, concurrency=3, prices=Prices(1.0, 1.0, 1.0))
    teacher = Teacher(settings, Path(sys.argv[2]))
    questions = [Question(({"role": "user", "content": f"q{n}"},)) for n in range(40)]
    replies = teacher.ask(questions, lambda _: None)
    print([reply.text for reply in replies] == [f"about q{n}" for n in range(40)], teacher.ledger.total)
"""


def test_killed_in_the_middle_nothing_is_lost_and_nothing_paid_twice(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(KILLED)]
    answered: set[str] = set()

    def script(request: Request, _number: int) -> Answer:
        return Answer(f"about {prompt_of(request)}", wait=0.03)

    folder = tmp_path / "kept"
    with endpoint(script) as server:
        process = subprocess.Popen([*command, server.url, str(folder)])
        while len(server.asked) < 15:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (file,) = folder.iterdir()
        for line in file.read_bytes().splitlines():
            found = orjson.loads(line)
            if "text" in found:
                answered.add(found["text"])
        before = len(server.asked)
        assert 5 <= len(answered) <= before <= len(answered) + 4
        done = subprocess.run([*command, server.url, str(folder)], capture_output=True, text=True, check=True)
        told, total = done.stdout.split()
        assert told == "True"
        assert len(server.asked) - before == 40 - len(answered)
        second = {f"about {prompt_of(one)}" for one in server.asked[before:]}
        assert not second & answered
    lost = before - len(answered)
    assert float(total) >= (40 + lost) * 150 / 1e6  # what was under way when it was killed stays booked


def test_a_torn_last_line_is_dropped_and_a_damaged_file_told(tmp_path):
    with endpoint(echo) as server:
        ask(server.url, tmp_path, ["q1", "q2"])
        (file,) = tmp_path.iterdir()
        with file.open("ab") as torn:
            torn.write(b'{"key": "abc", "te')
        replies, _, ledger = ask(server.url, tmp_path, ["q1", "q2", "q3"])
        assert (len(replies), ledger.asked, ledger.remembered) == (3, 1, 2)
        assert all(orjson.loads(line) for line in file.read_bytes().splitlines())
        file.write_bytes(b"no json\n" + file.read_bytes())
        with pytest.raises(UserError, match="damaged"):
            ask(server.url, tmp_path, ["q1"])


def test_two_processes_share_one_cap(tmp_path):
    prices = Prices(0.0, 100.0, 0.0625)  # 60 tokens: 0.006 a request: ten in all
    with endpoint(lambda request, _: Answer("a", None, wait=0.01)) as server:
        teachers = [Teacher(Settings(server.url, "m", None, max_tokens=60, prices=prices), tmp_path) for _ in range(2)]
        for number, teacher in enumerate(teachers):
            questions = [Question(({"role": "user", "content": f"{number} {n}"},)) for n in range(8)]
            try:
                teacher.ask(questions, lambda _: None)
            except UserError as error:
                assert number == 1
                assert "cap" in error.problem
    assert len(server.asked) == 10


def test_the_key_is_nowhere(tmp_path, monkeypatch, caplog):
    import logging

    monkeypatch.setenv("OWN_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with endpoint(lambda *_: Answer(f"your key is {KEY}")) as server:
        replies, _, ledger = ask(server.url, tmp_path, ["q"], key="OWN_API_KEY")
        assert replies[0].text == "your key is [key]"
        teacher = Teacher(Settings(server.url, "m", "OWN_API_KEY"), tmp_path)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr((teacher, teacher.settings, ledger, replies))
    assert KEY not in caplog.text
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_works_inside_a_running_loop(tmp_path):
    async def notebook() -> str | None:
        return ask(server.url, tmp_path, ["q"])[0][0].text

    with endpoint(echo) as server:
        assert asyncio.run(notebook()) == "about q"
