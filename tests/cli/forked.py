"""Processes of the command line that begin where its imports end: a server imports once and forks for each start."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

IMPORTS = ("luthier.cli", "luthier.pipeline", "peft", "polars", "transformers.trainer")


def start(*arguments: str | Path, told: Path) -> BaseProcess:
    """Start `luthier` with arguments in this process's folder and environment.

    Args:
        told: file of what it tells on both streams.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTS))
    started = context.Process(target=_main, args=(list(map(str, arguments)), told, dict(os.environ)))
    started.start()
    return started


def _main(arguments: list[str], told: Path, environment: Mapping[str, str]) -> None:
    from luthier.cli import main

    with told.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["luthier", *arguments]
    main()
