"""Chat: commands, history, pipes, and a real terminal in which Ctrl-C stops the answer and not the program."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from luthier.cli import talk
from luthier.errors import UserError
from luthier.models.engines import TransformersAnswerer
from luthier.serve.chat import Chat, Settings, read_through
from luthier.serve.load import RunModel, load
from tests import finished

QUESTION = "What is overfitting?"
PROGRAM = "import typer; from luthier.cli import talk; app = typer.Typer(); talk.register(app); app()"


class Screen:
    """What a chat wrote."""

    def __init__(self) -> None:
        self.said = ""
        self.told: list[str] = []

    def say(self, piece: str) -> None:
        self.said += piece


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def chat(coach: RunModel, runs: Path, screen: Screen) -> Chat:
    return Chat(coach, Settings(12), screen.say, screen.told.append, lambda name: load(name, runs))


def test_a_first_answer_is_that_of_the_model_alone(chat: Chat, coach: RunModel, screen: Screen) -> None:
    chat.take(QUESTION)
    assert [screen.said.strip()] == coach.answer([QUESTION])
    assert chat.messages[0] == {"role": "user", "content": QUESTION}


def test_history_is_sent_and_forgotten(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[list[str]] = []
    encode = chat.model.encode
    monkeypatch.setattr(
        chat.model, "encode", lambda messages: sent.append([one["content"] for one in messages]) or encode(messages)
    )
    chat.take("one")
    answer = chat.messages[-1]["content"]
    chat.take("two")
    assert sent[-1] == [finished.SYSTEM, "one", answer, "two"]
    chat.take("/reset")
    chat.take("//three")
    assert sent[-1] == [finished.SYSTEM, "/three"]


def test_models_are_changed(chat: Chat, coach: RunModel, screen: Screen) -> None:
    chat.take("/base")
    chat.take(QUESTION)
    assert [screen.said.strip()] == coach.answer([QUESTION], base=True)
    chat.take("/model")
    chat.take("/model tuned")
    assert (screen.told[-2].endswith("base model"), screen.told[-1].endswith("tuned model")) == (True, True)
    chat.take("/model other/latest")
    assert chat.model.name.startswith("other/")
    with pytest.raises(UserError, match="No run"):
        chat.take("/model nobody/latest")
    assert chat.model.name.startswith("other/")


def test_system_and_settings(chat: Chat, screen: Screen) -> None:
    chat.take("/system")
    assert finished.SYSTEM in screen.told[-1]
    chat.take("/system Be brief.")
    assert chat.system == "Be brief."
    chat.take("/system none")
    assert chat.system is None
    chat.take("/set temperature 0.7")
    chat.take("/set max-new-tokens=5")
    assert (chat.settings.temperature, chat.settings.max_new_tokens) == (0.7, 5)
    assert "temperature 0.7" in screen.told[-1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/sistem x", "'system'"),
        ("/set temperatur 1", "'temperature'"),
        ("/set temperature warm", "no number"),
        ("/set temperature -1", "not between"),
        ("/set max_new_tokens 0", "at least 1"),
        ("/save", "name of a file"),
        ("word " * 900, "room for 512"),
    ],
)
def test_what_cannot_be_is_told_and_changes_nothing(chat: Chat, line: str, words: str) -> None:
    settings = chat.settings
    with pytest.raises(UserError) as raised:
        chat.take(line)
    assert words in str(raised.value)
    assert (chat.settings, chat.messages) == (settings, [])


def test_conversations_are_saved(chat: Chat, tmp_path: Path) -> None:
    chat.take("/set max_new_tokens 3")
    chat.take(QUESTION)
    for suffix in ("json", "jsonl", "txt"):
        chat.take(f"/save {tmp_path / 'talk'}.{suffix}")
    whole = json.loads((tmp_path / "talk.json").read_text())
    assert (whole["model"], whole["settings"]["max_new_tokens"]) == ("tuned", 3)
    assert [one["role"] for one in whole["messages"]] == ["system", "user", "assistant"]
    assert json.loads((tmp_path / "talk.jsonl").read_text()) == {"messages": whole["messages"]}
    assert (tmp_path / "talk.txt").read_text().startswith(f"you: {QUESTION}\n\ntuned: ")
    chat.take(f"/save {tmp_path / 'talk.json'}")  # its own file may be written again
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="already"):
        chat.take(f"/save {tmp_path / 'mine.txt'}")
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_old_turns_leave_when_there_is_no_room(chat: Chat, screen: Screen) -> None:
    chat.settings = Settings(20)
    for place in range(8):
        chat.take(f"{place} " + "word " * 90)
    assert any("room for the last" in line for line in screen.told)
    assert sum(message["role"] == "user" for message in chat.messages) == 8


def test_an_interrupted_answer_keeps_what_was_said(chat: Chat, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = TransformersAnswerer.stream

    def interrupted(self: TransformersAnswerer, *rest: object) -> Iterator[int]:
        for place, token in enumerate(stream(self, *rest)):  # type: ignore[arg-type]
            if place == after:
                raise KeyboardInterrupt
            yield token

    monkeypatch.setattr(TransformersAnswerer, "stream", interrupted)
    after = 0
    chat.take(QUESTION)
    assert chat.messages == []  # nothing was said: the question can be asked again
    after = 9
    chat.take(QUESTION)
    assert len(chat.messages) == 2
    assert chat.messages[1]["content"] == screen.said.strip() != ""
    assert screen.told == ["\n(stopped)"] * 2


def test_piped_lines(chat: Chat, coach: RunModel, screen: Screen) -> None:
    out = io.StringIO()
    chat.say = out.write
    errors = read_through(chat, io.StringIO(f"{QUESTION}\n\n/nonsense\n/reset\n{QUESTION}\n/quit\nnever\n"), out)
    assert out.getvalue().splitlines() == coach.answer([QUESTION])[0].splitlines() * 2
    assert [error.problem for error in errors] == ["No command /nonsense."]


def test_the_verb_on_pipes(runs: Path) -> None:
    app = typer.Typer()
    talk.register(app)
    told = CliRunner().invoke(
        app, ["chat", "coach/latest", "--runs", str(runs), "--json"], input=f"{QUESTION}\n/nonsense\n"
    )
    assert told.exit_code == 2
    found = json.loads(told.stdout)
    assert [one["role"] for one in found["messages"]] == ["system", "user", "assistant"]
    assert found["errors"] == ["No command /nonsense."]


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, command: list[str]) -> None:
        import pty

        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # as a shell does; tests in the background have it ignored
            os.environ["TERM"] = "dumb"
            os.execv(command[0], command)
        self.shown = ""

    def wait_for(self, text: str, seconds: float = 90) -> str:
        """Return what was shown up to and with `text`."""
        until = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < until, f"no {text!r} in {self.shown!r}"
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self.fd, 4096).decode("utf-8", "replace")
                except OSError:  # Linux says so when the program has left
                    break
        assert text in self.shown, self.shown
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def interrupt(self, text: str) -> None:
        """Press Ctrl-C until `text` is shown: a first one may come between the prompt and its waiting for a key."""
        for _ in range(20):
            self.type("\x03")
            with suppress(AssertionError):
                self.wait_for(text, 3)
                return
        raise AssertionError(f"Ctrl-C did nothing: {self.shown!r}")

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_ctrl_c_stops_the_answer_and_ctrl_d_leaves(runs: Path) -> None:
    settings = ["--temperature", "1", "--seed", "4", "--max-new-tokens", "450"]
    terminal = Terminal([sys.executable, "-c", PROGRAM, "chat", "coach/latest", "--runs", str(runs), *settings])
    terminal.wait_for("you> ")
    terminal.interrupt("Ctrl-D or /quit leaves")  # at the prompt it only says so
    terminal.wait_for("you> ")
    terminal.type(f"{QUESTION}\n")
    terminal.wait_for("tuned> ")
    while not terminal.shown.strip():
        terminal.shown += os.read(terminal.fd, 64).decode("utf-8", "replace")
    terminal.interrupt("(stopped)")
    terminal.wait_for("you> ")
    terminal.type("/set max_new_tokens 3\n")  # it is alive and listens
    terminal.wait_for("max_new_tokens 3,")
    terminal.wait_for("you> ")
    terminal.type("\x04")
    assert terminal.status() == 0
