"""`torchrun` and `accelerate launch` of an unchanged command: two processes train, one of them writes and tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from luthier import api
from tests.cli.conftest import Told

# accelerate starts several processes by torch.distributed.run for GPUs; without one they train on the CPU. Each start
# takes a free port (standalone, 0): on the usual one, those of two tests would meet.
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "accelerate": [
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
    ],
    "accelerate, divided": ["accelerate.commands.launch", "--config_file", "fsdp.yaml"],
}
BY_LOSS = ("--set", "training.curriculum.by=loss")
DIVIDED = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config: {fsdp_version: 2, fsdp_reshard_after_forward: true, fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP}
machine_rank: 0
main_process_port: 0
mixed_precision: 'no'
num_machines: 1
num_processes: 2
"""


def launched(name: str, folder: Path, *words: str | Path) -> Told:
    """Start two processes of the command line. A traceback of Luthier's own fails the test."""
    command = [sys.executable, "-m", *LAUNCHERS[name], "-m", "luthier", *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ, check=False)
    assert "luthier/cli" not in done.stderr, done.stderr
    return Told(done.returncode, done.stdout, done.stderr)


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "4-train" / "metrics.jsonl").read_text().splitlines()]
    return [line.get("loss", line.get("validation_loss")) for line in lines]


@pytest.mark.parametrize("launcher", ["accelerate", "accelerate, divided"])
def test_two_processes_make_the_run_that_one_makes(launcher: str, recipe: Path, own_folder: Path) -> None:
    """By accelerate, which starts torch's launcher; `tests/engine/test_together.py` has torch's own.

    The curriculum has rank 0 measure losses, for which the other one waits.
    """
    loaded = api.load_recipe(recipe, {"training.curriculum.by": "loss"})
    alone = api.run(loaded, runs=own_folder / "alone", until="train").path
    (own_folder / "fsdp.yaml").write_text(DIVIDED)
    told = launched(launcher, own_folder, "train", recipe, *BY_LOSS, "--runs", own_folder / "both")
    assert told.status == 0, told.err
    assert told.out.count("run: ") == 1
    assert told.err.count("train: ") == 1
    [both] = (own_folder / "both" / "small").iterdir()
    assert losses(both) == pytest.approx(losses(alone), abs=2e-5)
    report = json.loads((both / "4-train" / "train.json").read_text())
    assert report["world_size"] == 2
    assert report["adapter_proof"]["holds"]
    assert report["path"].get("divided", {}).get("processes") == (2 if launcher.endswith("divided") else None)
    stages = {stage["name"]: stage["status"] for stage in json.loads((both / "run.json").read_text())["stages"]}
    assert stages["train"] == "complete"
    assert not list(both.rglob(".writing-*"))


@pytest.mark.parametrize(
    ("setting", "word"), [("training.schedule.warmup=500", "warm-up"), ("adapter.share=9", "share")]
)
def test_an_error_is_told_once_and_ends_all(setting: str, word: str, recipe: Path, own_folder: Path) -> None:
    """One that rank 0 meets at work, and one that both meet in the recipe."""
    told = launched("torchrun", own_folder, "train", recipe, "--set", setting)
    assert told.status != 0
    assert told.err.count("what to do: ") == 1, told.err
    assert word in told.err
