"""Errors that a user can mend.

Everything a user can put right (a key, a file, a row, a full disk) is raised as a `UserError`. The command line prints
it without a traceback. Any other exception is a fault of Luthier and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Something the user can mend: what is wrong, where, and what to do about it.

    Args:
        problem: what is wrong, one sentence, in the words of the recipe or the data.
        place: where: a file, `file:line`, a recipe key, a folder. Empty when there is no such place.
        remedy: what to do next, one sentence. Empty when the problem says it already.

    Attributes:
        exit_status: what the command line exits with: 2, the user's input is wrong.
    """

    exit_status = 2

    def __init__(self, problem: str, place: str = "", remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        lines = [self.problem]
        if self.place:
            lines.append(f"  where: {self.place}")
        if self.remedy:
            lines.append(f"  what to do: {self.remedy}")
        return "\n".join(lines)


class UserErrors(UserError):  # noqa: N818
    """Several user errors found together, so that a file is mended once and not error by error.

    Args:
        errors: the single errors, in the order in which they stand in the file. At least one.
    """

    def __init__(self, errors: Sequence[UserError]) -> None:
        super().__init__(f"{len(errors)} problems" if len(errors) > 1 else errors[0].problem)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class GateError(UserError):
    """A proof or gate said no: the input is well-formed, but going on would mislead. Exit status 3."""

    exit_status = 3


class StageError(UserError):
    """The work failed while it ran, for a reason outside the input: a full disk, a killed worker. Exit status 1."""

    exit_status = 1


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a remedy sentence that names the closest known words, or `otherwise` when nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(word) for word in close)}?" if close else otherwise
