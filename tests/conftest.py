"""Every test runs in a folder and a home of its own, with no network and one thread.

Coverage is asked of the packages in `MEASURED`, whose own tests reach it. The others run untraced: tracing makes all
Python half as slow again, that of torch and transformers too.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: tests run side by side
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import gc
import pkgutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from coverage import Coverage

HERE = Path(__file__).parent
MEASURED = ("data", "recipe", "run")


@contextmanager
def untraced() -> Iterator[None]:
    """Let coverage, where it is at work, not look."""
    tracing = Coverage.current()
    if tracing is None:
        yield
        return
    tracing.stop()
    try:
        yield
    finally:
        tracing.start()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the measured packages traced, and with the tests all else untraced."""
    for package in MEASURED if Coverage.current() else ():
        found = import_module(f"luthier.{package}")
        for module in pkgutil.walk_packages(found.__path__, f"luthier.{package}."):
            import_module(module.name)
    with untraced():
        return (yield)


def pytest_collection_finish() -> None:
    """Leave out of later garbage collections what is imported: a training makes two, which took half a second each."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Trace the tests of the measured packages only."""
    if item.path.relative_to(HERE).parts[0] in MEASURED:
        return (yield)
    with untraced():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give what several tests share a home that is not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty working folder and home."""
    folder = tmp_path_factory.mktemp("work")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("LUTHIER_RUNS", raising=False)
    return folder


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the machine for a moment only: how fast it multiplies, and how busy others keep it."""
    monkeypatch.setattr("luthier.models.rate.SECONDS", 0.01)
    monkeypatch.setattr("luthier.engine.threads.PROBE_SECONDS", 0.01)
