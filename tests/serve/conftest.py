"""One trained run for all tests of the doors."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.serve.load import RunModel, load
from tests import finished


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs: coach, and another."""
    folder = tmp_path_factory.mktemp("runs")
    finished.make(folder, "coach")
    finished.make(folder, "other", seed=1)
    return folder


@pytest.fixture(scope="session")
def coach(runs: Path) -> RunModel:
    return load("coach/latest", runs)
