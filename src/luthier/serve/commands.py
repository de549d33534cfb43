"""Lines typed into a session: a prompt, or a command that begins with a slash; two slashes begin a prompt with one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from luthier.errors import UserError, did_you_mean

LEAVE = ("quit", "exit")


def is_prompt(line: str) -> bool:
    """Tell a prompt from a command and from an empty line."""
    line = line.strip()
    return bool(line) and (not line.startswith("/") or line.startswith("//"))


def take(line: str, prompted: Callable[[str], object], commands: Mapping[str, Callable[[str], None]]) -> bool:
    """Take one line. Returns False when the user leaves.

    Args:
        prompted: is given a prompt. commands: by name without the slash, each given what follows it.

    Raises:
        UserError: there is no such command, or what the command raises.
    """
    line = line.strip()
    if not line:
        return True
    if is_prompt(line):
        prompted(line[1:] if line.startswith("//") else line)
        return True
    word, _, rest = line[1:].partition(" ")
    if word in LEAVE:
        return False
    if word not in commands:
        remedy = did_you_mean(word, [*commands, LEAVE[0]], "/help lists them.")
        raise UserError(f"No command /{word}.", "", remedy)
    commands[word](rest.strip())
    return True
