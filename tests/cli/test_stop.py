"""SIGTERM and Ctrl-C as a process hears them: what is done is saved, and the same command goes on from there."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from luthier import api
from luthier.engine import checkpoints
from tests.cli import forked

SETTINGS = ("--set", "training.steps=40", "--set", "training.checkpoint_every=1000")


def interrupted(number: int, recipe: Path, folder: Path, after: int, times: int = 1) -> tuple[int, str]:
    """Train until metrics.jsonl has so many lines, signal, and return exit status and what was told."""
    file = folder / "told.txt"
    process = forked.start("train", recipe, *SETTINGS, told=file)
    assert process.pid is not None
    patience = time.monotonic() + 120
    while time.monotonic() < patience and process.is_alive():
        metrics = list(folder.glob("runs/small/*/4-train/metrics.jsonl"))
        if metrics and metrics[0].read_bytes().count(b"\n") >= after:
            break
        time.sleep(0.002)
    for _ in range(times):
        os.kill(process.pid, number)
    process.join(120)
    told = file.read_text()
    assert "Traceback" not in told, told
    assert process.exitcode is not None, told
    return process.exitcode, told


def stage_of(run: Path) -> tuple[str, str | None]:
    record = json.loads((run / "run.json").read_text())
    [stage] = [stage for stage in record["stages"] if stage["name"] == "train"]
    return stage["status"], stage.get("error")


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(recipe: Path, own_folder: Path) -> None:
    status, told = interrupted(signal.SIGTERM, recipe, own_folder, 3)
    assert status == 143
    assert "this step is finished and saved first" in told
    [run] = (own_folder / "runs" / "small").iterdir()
    lines = [json.loads(line) for line in (run / "4-train" / "metrics.jsonl").read_text().splitlines()]
    assert checkpoints.steps_on_disk(run / "4-train")[0] == lines[-1]["step"] < 40
    assert stage_of(run) == ("stopped", "interrupted by a signal; the same command goes on from here")
    status, told = interrupted(signal.SIGINT, recipe, own_folder, lines[-1]["step"] + 3, times=2)
    assert status == 130
    assert f"going on after step {lines[-1]['step']} of 40" in told
    assert "The same command goes on" in told
    assert stage_of(run) == ("stopped", "interrupted from the keyboard; the same command goes on from here")
    settings = {"training.steps": 40, "training.checkpoint_every": 1000}
    loaded = api.load_recipe(recipe, settings)
    ended = api.run(loaded, runs=own_folder / "runs", until="train").path
    undisturbed = api.run(loaded, runs=own_folder / "other", until="train").path
    weights = Path("4-train/adapter/adapter_model.safetensors")
    assert ended == run
    assert stage_of(run) == ("complete", None)
    assert (ended / weights).read_bytes() == (undisturbed / weights).read_bytes()
