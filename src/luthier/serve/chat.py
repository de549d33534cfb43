"""A conversation in the terminal: answers appear word by word, Ctrl-C stops the answer and not the program.

Piped in, one prompt a line, answers alone go to standard output and everything else to standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from luthier.errors import UserError, did_you_mean
from luthier.models.engines import Sampling, TextStream
from luthier.run.atomic import write_json, write_text
from luthier.serve import commands
from luthier.serve.load import Message, RunModel, too_long

HELP = """\
/tuned, /base          let the tuned model answer, or its base
/model [RUN]           say which model answers, or change to another run
/system [TEXT]         say or set the system message; "none" takes it away
/set [NAME VALUE]      say or set temperature, top_p, max_new_tokens, seed
/reset                 forget the conversation
/save FILE             write the conversation: .json with settings, .jsonl as a training row, else as text
/help, /quit           this list; leave (Ctrl-D does too). Ctrl-C stops an answer.
A line that begins with // is sent without its first slash."""


@dataclass(frozen=True)
class Settings:
    """How answers are made. `max_new_tokens`: of one answer; the others as in `models.engines.Sampling`."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError("max_new_tokens is at least 1.", "max_new_tokens")
        Sampling(self.temperature, self.top_p, self.seed)  # says what is out of range

    def changed(self, name: str, value: str) -> Settings:
        """Return the settings with one of them read from text.

        Raises:
            UserError: there is no such setting, or the value does not fit it.
        """
        name = name.replace("-", "_")
        known: dict[str, Callable[[str], float]] = {
            "temperature": float,
            "top_p": float,
            "max_new_tokens": int,
            "seed": int,
        }
        if name not in known:
            raise UserError(
                f"No setting {name!r}.", "/set", did_you_mean(name, known, f"There are {', '.join(known)}.")
            )
        try:
            return replace(self, **{name: known[name](value)})  # type: ignore[arg-type]
        except ValueError:
            raise UserError(
                f"{value!r} is no number for {name}.", "/set", "For example: /set temperature 0.7"
            ) from None


@dataclass
class Chat:
    """One conversation.

    Attributes:
        model: what answers. settings: how. say: writes a piece of an answer. tell: writes a line about the chat itself.
        open_run: loads another run by name. base: the base answers, not the tuned model.
        messages: what was said, the system message apart. answers: how many answers there were, which moves the seed.
    """

    model: RunModel
    settings: Settings
    say: Callable[[str], None]
    tell: Callable[[str], None]
    open_run: Callable[[str], RunModel]
    base: bool = False
    messages: list[Message] = field(default_factory=list)
    answers: int = 0

    def __post_init__(self) -> None:
        self.system = self.model.system
        self._saved: set[Path] = set()

    @property
    def who(self) -> str:
        """Which of the two models answers."""
        return "base" if self.base else "tuned"

    def take(self, line: str) -> bool:
        """Take one line, a prompt or a command. Returns False when the user leaves.

        Raises:
            UserError: the line asks for something that cannot be; the conversation is as it was before.
        """
        handlers: dict[str, Callable[[str], None]] = {
            "base": self._base,
            "tuned": self._tuned,
            "model": self._model,
            "system": self._system,
            "set": self._set,
            "reset": self._reset,
            "save": self._save,
            "help": lambda _: self.tell(HELP),
        }
        return commands.take(line, self.reply, handlers)

    def reply(self, text: str) -> str:
        """Answer `text` piece by piece and keep both in the conversation. Ctrl-C ends the answer where it stands.

        An answer that was stopped before its first word leaves no trace, so that the question can be asked again.
        """
        asked = [*self.messages, {"role": "user", "content": text}]
        pieces: list[str] = []
        try:
            for piece in self._pieces(asked):
                pieces.append(piece)
                self.say(piece)
        except KeyboardInterrupt:
            self.tell("\n(stopped)")
        said = "".join(pieces).strip()
        if said:
            self.messages = [*asked, {"role": "assistant", "content": said}]
            self.answers += 1
        return said

    def _pieces(self, asked: list[Message]) -> Iterator[str]:
        settings, text = self.settings, TextStream(self.model.tokenizer)
        sampling = Sampling(settings.temperature, settings.top_p, settings.seed + self.answers)
        with self.model.answering(self.base) as answerer:
            ids = self._fitting(asked, answerer)
            begun = False
            for token in answerer.stream(ids, settings.max_new_tokens, sampling):
                piece = text.add(token)
                piece = piece if begun else piece.lstrip()
                if piece:
                    begun = True
                    yield piece
            yield text.rest()

    def _fitting(self, asked: list[Message], answerer: Any) -> list[int]:
        """Return the tokens of the conversation, its oldest turns left out where the model has no room for them."""
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        sent = list(asked)
        while True:
            ids = self.model.encode([*system, *sent])
            wanted = self.settings.max_new_tokens
            if len(sent) <= 1 or answerer.room(len(ids), wanted) >= wanted:
                break
            sent = sent[2:]
        if problem := too_long(answerer, len(ids)):
            raise UserError(problem, "", "Shorten it.")
        if len(sent) < len(asked):
            self.tell(f"(the model has room for the last {len(sent)} of {len(asked)} messages)")
        return ids

    def _base(self, _: str) -> None:
        self.base = True
        self._model("")

    def _tuned(self, _: str) -> None:
        self.base = False
        self._model("")

    def _model(self, name: str) -> None:
        if name in ("base", "tuned"):
            self.base = name == "base"
        elif name:
            self.model = self.open_run(name)
            self.system = self.model.system
        self.tell(f"{self.model.name}, {self.who} model")

    def _system(self, text: str) -> None:
        if text:
            self.system = None if text == "none" else text
        self.tell(f"system message: {self.system or '(none)'}")

    def _set(self, words: str) -> None:
        if words:
            name, _, value = words.replace("=", " ", 1).partition(" ")
            self.settings = self.settings.changed(name, value.strip())
        now = self.settings
        self.tell(
            f"temperature {now.temperature:g}, top_p {now.top_p:g}, "
            f"max_new_tokens {now.max_new_tokens}, seed {now.seed}"
        )

    def _reset(self, _: str) -> None:
        self.messages = []
        self.answers = 0
        self.tell("(a new conversation)")

    def _save(self, name: str) -> None:
        if not name:
            raise UserError("/save needs the name of a file.", "", "For example: /save talk.jsonl")
        path = Path(name).expanduser().absolute()
        if path.exists() and path not in self._saved:
            raise UserError("There is a file of that name already.", str(path), "Choose another name.")
        if path.suffix == ".json":
            write_json(path, self.transcript())
        elif path.suffix == ".jsonl":
            import orjson

            row = {"messages": self.transcript()["messages"]}
            write_text(path, orjson.dumps(row).decode() + "\n")
        else:
            names = {"user": "you", "assistant": self.who}
            write_text(path, "".join(f"{names[one['role']]}: {one['content']}\n\n" for one in self.messages))
        self._saved.add(path)
        self.tell(f"saved to {path}")

    def transcript(self) -> dict[str, Any]:
        """Return the conversation and how it came about, as JSON."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        settings = {name: getattr(self.settings, name) for name in ("temperature", "top_p", "max_new_tokens", "seed")}
        return {
            "run": self.model.name,
            "model": self.who,
            "settings": settings,
            "messages": [*system, *(dict(one) for one in self.messages)],
        }


def talk(chat: Chat, out: TextIO) -> None:
    """Converse on a terminal until Ctrl-D or /quit, with line editing and history where the system has readline."""
    with suppress(ImportError):  # Windows: the console edits lines itself
        import readline  # noqa: F401  (importing it gives input() history and editing)
    while True:
        try:
            line = input("you> ")
        except KeyboardInterrupt:
            chat.tell("\n(Ctrl-D or /quit leaves)")
            continue
        except EOFError:
            chat.tell("")
            return
        try:
            if commands.is_prompt(line):
                out.write(f"{chat.who}> ")
                out.flush()
            if not chat.take(line):
                return
            if commands.is_prompt(line):
                out.write("\n")
        except UserError as error:
            chat.tell(str(error))
        except KeyboardInterrupt:
            chat.tell("\n(stopped)")


def read_through(chat: Chat, lines: TextIO, out: TextIO) -> list[UserError]:
    """Take piped lines one after another; each prompt's answer, empty or not, ends with a line break.

    Returns:
        What could not be done, line by line.
    """
    errors = []
    for line in lines:
        try:
            if not chat.take(line):
                break
        except UserError as error:
            chat.tell(str(error))
            errors.append(error)
        if commands.is_prompt(line):
            out.write("\n")
            out.flush()
    return errors
