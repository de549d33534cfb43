"""Bad input gives one clear message, no traceback, and loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.cli.conftest import Luthier

GOOD = [f'{{"prompt": "What is term {n} of list {n * n}?", "completion": "It is answer {n * 7}."}}' for n in range(20)]


def write_recipe(folder: Path, tiny_base: Path, source: str, **keys: str) -> Path:
    path = folder / "recipe.yaml"
    lines = [f"name: bad\nmodel: {{base: {tiny_base}}}\ndata:\n  source: {source}"]
    lines += [f"  {key}: {value}" for key, value in keys.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


REFUSED = {
    "missing": (None, ["rows.jsonl", "where:"]),
    "empty": (b"", ["empty", "rows.jsonl"]),
    "utf-16": ("\n".join(GOOD).encode("utf-16"), ["UTF-16", "rows.jsonl"]),
    "latin-1": ("\n".join(GOOD).replace("term", "t\xe9rm").encode("latin-1"), ["UTF-8", "rows.jsonl"]),
    "binary": (bytes(range(256)) * 20, ["rows.jsonl"]),
    "all rejected": (b'{"prompt": ""}\n{"prompt": "a", "completion": ""}\n' * 3, ["rejected"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_data_that_cannot_be_used_is_refused(name: str, luthier: Luthier, own_folder: Path, tiny_base: Path) -> None:
    content, words = REFUSED[name]
    if content is not None:
        (own_folder / "rows.jsonl").write_bytes(content)
    told = luthier("prepare", write_recipe(own_folder, tiny_base, "rows.jsonl"))
    assert told.status == 2, told.err
    message = told.err[told.err.index("luthier:") :]
    for word in words:
        assert word in message
    assert told.out == ""
    if name == "missing":
        assert not (own_folder / "runs").exists()


def prepared(luthier: Luthier, recipe: Path) -> tuple[dict[str, int], list[dict[str, object]], Path]:
    """Prepare, and return the counts, the rejected rows and the folder."""
    told = luthier("prepare", recipe, "--json")
    assert told.status == 0, told.err
    folder = Path(told.json["run"]) / "1-data"
    rejected = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    counts = json.loads((folder / "report.json").read_text())["rows"]
    assert counts["found"] == counts["rejected"] + counts["train"] + counts["validation"] + counts["test"]
    assert counts["rejected"] == len(rejected)
    return counts, rejected, folder


def test_a_byte_order_mark_does_no_harm(luthier: Luthier, own_folder: Path, tiny_base: Path) -> None:
    (own_folder / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n".join(GOOD).encode())
    counts, _, _ = prepared(luthier, write_recipe(own_folder, tiny_base, "rows.jsonl"))
    assert (counts["found"], counts["rejected"]) == (20, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "cut off', "malformed"),
        ('{"prompt": "no answer"}', "missing-field"),
        ('{"prompt": "blank", "completion": "  "}', "empty"),
        (GOOD[3], "duplicate"),
        ('{"prompt": "a list", "completion": ["b"]}', "malformed"),
    ],
)
def test_a_bad_line_is_kept_with_its_reason(
    line: str, reason: str, luthier: Luthier, own_folder: Path, tiny_base: Path
) -> None:
    (own_folder / "rows.jsonl").write_text("\n".join([*GOOD[:9], line, *GOOD[9:]]) + "\n")
    counts, rejected, _ = prepared(luthier, write_recipe(own_folder, tiny_base, "rows.jsonl"))
    assert counts["found"] == 21
    [one] = rejected
    assert one["line"] == 10
    assert one["reason"] == reason
    assert one["raw"]


def test_ragged_lines_of_a_table_are_kept_with_their_line(luthier: Luthier, own_folder: Path, tiny_base: Path) -> None:
    lines = ["prompt,completion", *(f"what is {n}?,it is {n * n}" for n in range(20)), "only one", "one,two,three"]
    (own_folder / "rows.csv").write_text("\n".join(lines) + "\n")
    _, rejected, _ = prepared(luthier, write_recipe(own_folder, tiny_base, "rows.csv"))
    assert [(row["line"], row["reason"]) for row in rejected] == [(22, "ragged"), (23, "ragged")]


def test_a_truncated_array_names_its_line(luthier: Luthier, own_folder: Path, tiny_base: Path) -> None:
    (own_folder / "rows.json").write_text("[\n" + ",\n".join(GOOD)[:-20])
    told = luthier("prepare", write_recipe(own_folder, tiny_base, "rows.json"))
    assert told.status == 2
    assert "rows.json" in told.err
    assert "line" in told.err or ":21" in told.err


def test_a_missing_field_names_the_fields_found(luthier: Luthier, own_folder: Path, tiny_base: Path) -> None:
    (own_folder / "rows.jsonl").write_text("\n".join(GOOD))
    told = luthier("prepare", write_recipe(own_folder, tiny_base, "rows.jsonl", fields="{prompt: qestion}"))
    assert told.status == 2
    assert "qestion" in told.err
    assert "completion" in told.err


def test_duplicate_ids_are_kept_with_their_reason(luthier: Luthier, own_folder: Path, tiny_base: Path) -> None:
    lines = [line.replace("{", f'{{"id": "{min(n, 18)}", ', 1) for n, line in enumerate(GOOD)]
    (own_folder / "rows.jsonl").write_text("\n".join(lines))
    _, rejected, _ = prepared(luthier, write_recipe(own_folder, tiny_base, "rows.jsonl"))
    assert [(row["line"], row["reason"]) for row in rejected] == [(20, "duplicate-id")]


def test_one_row_is_explained(luthier: Luthier, own_folder: Path, tiny_base: Path) -> None:
    (own_folder / "rows.jsonl").write_text(GOOD[0])
    counts, _, folder = prepared(luthier, write_recipe(own_folder, tiny_base, "rows.jsonl"))
    assert (counts["train"], counts["test"]) == (1, 0)
    assert json.loads((folder / "report.json").read_text())["warnings"]


def test_one_class_is_no_problem(luthier: Luthier, own_folder: Path, tiny_base: Path) -> None:
    (own_folder / "rows.jsonl").write_text("\n".join(line[:-1] + ', "topic": "one"}' for line in GOOD))
    recipe = write_recipe(own_folder, tiny_base, "rows.jsonl", split="{stratify: topic}")
    counts, _, _ = prepared(luthier, recipe)
    assert (counts["train"], counts["validation"], counts["test"]) == (14, 3, 3)


UNKNOWN_TO_THE_SCHEMA = {
    "training.learning_rate=1e3": "training.learning_rate must be a number above 0 and below 1, not 1e3",
    "training.steps=0": "training.steps must be a whole number of at least 1, or off, not 0",
    "training.max_grad_norm=-1": "training.max_grad_norm must be a number above 0, not -1",
    "training.guards.on_spike=pray": "training.guards.on_spike must be one of skip, return or stop, not 'pray'",
    "training.guards.factor=0": "training.guards.factor must be a number above 0 and at most 1, not 0",
}


def test_settings_out_of_bounds_are_refused_all_at_once(luthier: Luthier, own_folder: Path, tiny_base: Path) -> None:
    settings = [word for setting in UNKNOWN_TO_THE_SCHEMA for word in ("--set", setting)]
    told = luthier("train", write_recipe(own_folder, tiny_base, "rows.jsonl"), *settings)
    assert told.status == 2, told.err
    assert told.err.count("what to do:") == len(UNKNOWN_TO_THE_SCHEMA)
    for message in UNKNOWN_TO_THE_SCHEMA.values():
        assert message in told.err
    assert not (own_folder / "runs").exists()


@pytest.mark.parametrize("verb", ["plan", "train"])
@pytest.mark.parametrize(("value", "given"), [("[]", "an empty list"), ("[q_proj, '']", "['q_proj', '']")])
def test_targets_that_name_nothing_are_refused(
    verb: str, value: str, given: str, luthier: Luthier, own_folder: Path, tiny_base: Path
) -> None:
    (own_folder / "rows.jsonl").write_text("\n".join(GOOD))
    told = luthier(verb, write_recipe(own_folder, tiny_base, "rows.jsonl"), "--set", f"adapter.targets={value}")
    assert told.status == 2, told.err
    assert told.err.count("luthier:") == told.err.count("what to do:") == 1
    assert "adapter.targets must be all-linear, or a list with at least one item" in told.err
    assert f", not {given}." in told.err
    assert not (own_folder / "runs").exists()


@pytest.mark.parametrize("rate", ["0", "-1e-4"])
def test_a_learning_rate_that_teaches_nothing_is_refused(rate: str, own_folder: Path, tiny_base: Path) -> None:
    from luthier.errors import UserError
    from luthier.recipe.load import load_recipe

    recipe = write_recipe(own_folder, tiny_base, "rows.jsonl")
    with pytest.raises(UserError, match=r"training\.learning_rate must be a number above 0"):
        load_recipe(recipe, {"training.learning_rate": rate})


DOES_NOT_FIT = {
    "training.schedule.warmup=500": ["warm-up of 500 steps", "training.schedule.warmup"],
    "adapter.r=1000": ["larger than the layer", "adapter.r"],
    "adapter.targets=[embed_tokens]": ["embed_tokens is an embedding", "adapter.targets"],
}


def test_a_training_that_does_not_fit_is_refused_in_one_message(
    luthier: Luthier, own_folder: Path, tiny_base: Path
) -> None:
    (own_folder / "rows.jsonl").write_text("\n".join(GOOD))
    recipe = write_recipe(own_folder, tiny_base, "rows.jsonl")
    for setting, words in DOES_NOT_FIT.items():
        told = luthier("train", recipe, "--set", setting)
        assert told.status == 2, told.err
        message = told.err[told.err.index("luthier:") :]
        assert message.count("what to do:") == 1
        for word in words:
            assert word in message
    assert not list(own_folder.rglob("checkpoint-*"))


def test_a_batch_larger_than_the_data_is_told(process: Luthier, own_folder: Path, tiny_base: Path) -> None:
    (own_folder / "rows.jsonl").write_text("\n".join(GOOD))
    settings = ("--set", "training.batch_size=5000", "--set", "training.learning_rate=0.01")
    told = process("train", write_recipe(own_folder, tiny_base, "rows.jsonl"), *settings)
    assert told.status == 0, told.err
    assert told.err.count("batch_size is 5000 and there are 14 training rows: one step is one epoch") == 1


def test_what_a_training_notes_is_told(
    luthier: Luthier, own_folder: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each note of train.json stands on standard error, once, whether it was known before the training or after."""
    ticks = count()
    monkeypatch.setattr("luthier.engine.threads._busy", lambda: (tick := next(ticks), tick))  # every core is busy
    (own_folder / "rows.jsonl").write_text("\n".join(GOOD))
    settings = {
        "data.max_length": "28", "training.steps": "6", "training.checkpoint_every": "2",
        "training.learning_rate": "0.01", "training.schedule.plateau": "{patience: 1, threshold: 9}",
        "training.batch_size": "50",
    }  # fmt: skip
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    told = luthier("train", write_recipe(own_folder, tiny_base, "rows.jsonl"), *words)
    assert told.status == 0, told.err
    [report] = (own_folder / "runs").rglob("train.json")
    notes = json.loads(report.read_text())["notes"]
    for part in ("other programs use", "training rows lost", "batch_size is 50", "the learning rate was reduced"):
        assert any(part in note for note in notes), notes
    lines = told.err.splitlines()
    assert [lines.count(f"  {note}") for note in notes] == [1] * len(notes)


ASKED = "Why does the river bank near the old mill flood in spring, and who pays the bill?"
SAID = (
    "Snow melts in the hills above it and the weir is too low to hold the water back, so it rises over the path within "
    "two days; the county pays for the wall, the miller for the gate, and nobody for the road that it washes away"
)


def row(asked: str, said: str) -> str:
    return json.dumps({"prompt": asked, "completion": said})


LEAKS = {
    "exact": row(ASKED, SAID),
    "near": row(ASKED, SAID.replace("washes", "carries")),
    "n-gram": row(
        "Tell me of trains, of cats, and of whatever else you know about mills?", f"I heard: {SAID[:170]} once."
    ),
}


@pytest.mark.parametrize("kind", LEAKS)
def test_a_planted_leak_stops_the_run_unless_allowed(
    kind: str, luthier: Luthier, own_folder: Path, tiny_base: Path
) -> None:
    (own_folder / "train.jsonl").write_text("\n".join([*GOOD[:14], row(ASKED, SAID)]))
    (own_folder / "test.jsonl").write_text("\n".join([*GOOD[14:], LEAKS[kind]]))
    recipe = write_recipe(own_folder, tiny_base, "{train: train.jsonl, test: test.jsonl}")
    told = luthier("prepare", recipe)
    assert told.status == 3, told.err
    assert "data.overlap.allow" in told.err
    [folder] = (own_folder / "runs" / "bad").iterdir()
    assert json.loads((folder / "1-data" / "report.json").read_text())["leaks"]
    assert not (folder / "1-data" / "manifest.json").exists()
    assert luthier("prepare", recipe, "--set", "data.overlap.allow=true").status == 0


def test_without_a_leak_the_same_files_pass(luthier: Luthier, own_folder: Path, tiny_base: Path) -> None:
    (own_folder / "train.jsonl").write_text("\n".join([*GOOD[:14], row(ASKED, SAID)]))
    (own_folder / "test.jsonl").write_text("\n".join(GOOD[14:]))
    assert luthier("prepare", write_recipe(own_folder, tiny_base, "{train: train.jsonl, test: test.jsonl}")).status == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 128 KiB, where this machine lets us."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("this machine does not let us mount a disk; tests/run/test_atomic.py has the rest")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_told_and_the_run_goes_on_later(
    luthier: Luthier, own_folder: Path, tiny_base: Path, small_disk: Path
) -> None:
    words = [f"{n}th word of many" for n in range(400)]
    lines = [json.dumps({"prompt": f"What is {n}?", "completion": " ".join(words[n : n + 90])}) for n in range(150)]
    (own_folder / "rows.jsonl").write_text("\n".join(lines))
    recipe = write_recipe(own_folder, tiny_base, "rows.jsonl", near_duplicates="off", overlap="{allow: true}")
    told = luthier("prepare", recipe, "--runs", small_disk)
    assert told.status == 1, told.err
    assert "disk is full" in told.err
    assert not list(small_disk.rglob("manifest.json"))
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert luthier("prepare", recipe, "--runs", small_disk).status == 0
