"""The command line as users call it, in the test's folder: its own `main`, or a process of its own.

A process imports torch anew, which takes longer than most verbs. Where only the words and files of a verb matter,
`luthier` is enough; each verb has one test at least that starts it as a `process`.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Told:
    """What a call of the command line ended with."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Luthier = Callable[..., Told]


@pytest.fixture
def luthier() -> Luthier:
    """Return a function that calls the command line's `main` with arguments and returns what it told."""
    from luthier.cli import main

    def call(*arguments: str | Path, **environment: str) -> Told:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["luthier", *map(str, arguments)])
            for name, value in environment.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        status = ended.value.code or 0
        assert isinstance(status, int), status
        return Told(status, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def process(own_folder: Path) -> Luthier:
    """Return a function that starts `luthier` with arguments and returns what it told. A traceback fails the test."""

    def call(*arguments: str | Path, **environment: str) -> Told:
        command = [sys.executable, "-m", "luthier", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=own_folder, env={**os.environ, **environment}, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Told(done.returncode, done.stdout, done.stderr)

    return call


TOPICS = ("trees", "networks", "statistics")


@pytest.fixture
def questions(own_folder: Path) -> Path:
    """Write 60 distinct questions in three topics and return the CSV file."""
    words = [f"{first}{last}" for first in ("ba", "do", "ki", "lu", "me") for last in ("lar", "nix", "tor", "vem")]
    lines = ["question,answer,topic"]
    for number in range(60):
        one, two, three = (words[(number * step + step) % 20] for step in (1, 3, 7))
        asked = f"How does {one} number {number} change {two} when {three} grows?"
        said = f"It makes {three} {number} times as {two} as {one} was on day {number * 7}, see rule {number * number}."
        lines.append(f"{asked},{said.replace(',', ';')},{TOPICS[number % 3]}")
    path = own_folder / "questions.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def recipe(own_folder: Path, questions: Path, tiny_base: Path) -> Path:
    """Write a recipe over those questions and return its file."""
    path = own_folder / "recipe.yaml"
    path.write_text(
        f"name: small\nmodel: {{base: {tiny_base}}}\n"
        "data:\n  source: questions.csv\n  max_length: 256\n  split: {stratify: topic}\n"
        "training: {epochs: 1, batch_size: 8, learning_rate: 0.01}\nevaluation: {max_new_tokens: 8}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny Llama with a tokenizer and a chat template."""
    from tests.tiny import make

    return make("llama", tmp_path_factory.mktemp("tiny") / "llama")
