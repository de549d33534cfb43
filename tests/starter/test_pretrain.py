"""The script: from a folder of text to a transformers folder, killed and resumed, alone and as a group."""

import json
from pathlib import Path

import pytest
import torch
from tests.starter.conftest import TINY

from luthier.starter.pretrain import main
from luthier.starter.settings import Progress, Settings


def arguments(text: Path, out: Path, *more: str) -> list[str]:
    return ["--text", str(text), "--out", str(out), "--threads", "1", *TINY, *more]


@pytest.fixture(scope="module")
def finished(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    main(arguments(text_folder, out))
    return out


def test_learns_and_logs(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 9))
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert {"held_out_loss", "held_out_bits_per_byte"} <= steps[-1].keys()
    assert [line["rate"] for line in steps] == [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert json.loads((finished / "config.json").read_text())["shape"]["hidden"] == 32


def test_resume_gives_the_same_bytes(finished: Path, text_folder: Path, tmp_path: Path) -> None:
    for stop in ("3", "5", "7", "0"):  # in the stable phase, in the decay, among the longer rows, to the end
        main(arguments(text_folder, tmp_path, "--stop-after", stop))
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "model" / name).read_bytes() == (finished / "model" / name).read_bytes()


def test_refuses_a_checkpoint_of_other_settings(finished: Path, text_folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"other \['seed'\]"):
        main(arguments(text_folder, finished, "--seed", "1"))


def test_rates_may_change_on_resume_and_the_log_says_so(text_folder: Path, tmp_path: Path) -> None:
    main(arguments(text_folder, tmp_path, "--stop-after", "3"))
    main(arguments(text_folder, tmp_path, "--stop-after", "4", "--matrix-rate", "0.001"))
    starts = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines() if "started" in line]
    assert [(line["started_at_step"], line["matrix_rate"]) for line in starts] == [(0, 0.009), (3, 0.001)]


def test_says_when_there_is_too_little_text(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("A single document, long enough to be kept by the reader of folders.")
    with pytest.raises(SystemExit, match="too few"):
        main(arguments(tmp_path, tmp_path / "out"))


def test_time_decides_the_number_of_steps() -> None:
    settings = Settings(minutes=10, decay_share=0.3, last_share=0.1, long_rows_cost=1.5)
    progress = Progress(step=41, seconds=410)
    assert not progress.decide(settings, 10.0)  # 420 of 600 seconds are for the stable phase
    progress.step, progress.seconds = 42, 420
    assert progress.decide(settings, 10.0)
    # 180 seconds are left: 120 at 10 s a step, 60 at 15 s a step.
    assert (progress.decay, progress.last, progress.steps) == (16, 4, 58)
    assert progress.decaying and not progress.long_rows and not progress.finished
    progress.step = 54
    assert progress.long_rows
    assert not progress.decide(settings, 99.0), "decided once"


def test_bfloat16_only_where_it_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    from luthier.starter import run

    flags = {"yes": "flags: fma avx512_bf16", "no": "flags: fma avx2"}
    for answer, text in flags.items():
        monkeypatch.setattr(Path, "read_text", lambda *_, text=text, **__: text)
        assert run.native_bfloat16("cpu") is (answer == "yes")
    assert torch.get_default_dtype() == torch.float32
