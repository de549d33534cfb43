"""Processes that train together learn what one learns alone."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.starter import member


def together(members: int) -> list[dict[str, object]]:
    """What each member of a group prints, started as ``torch.distributed.run`` would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(members), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(member.__file__))]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **meeting, "RANK": str(rank)})
        for rank in range(members)
    ]
    return [json.loads(process.communicate(timeout=120)[0]) for process in started]


def test_two_processes_learn_what_one_does() -> None:
    alone = member.learn()
    first, second = together(2)
    assert first == second, "members agree to the bit"
    assert first["losses"] == pytest.approx(alone["losses"], abs=1e-4)
    assert first["held_out"] == pytest.approx(alone["held_out"], abs=1e-4)
    assert first["agreed"] == 7.0
