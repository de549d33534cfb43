"""A teacher through the doors users use: prepare, augment, run; killed, repeated, and with a key that nobody sees."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Luthier
from tests.scripted import Answer, Endpoint, Request, endpoint, prompt_of

KEY = "sk-nobody-sees-4f9a81"
FAMILIES = ("nurse", "driver", "cook", "roofer", "analyst", "teacher", "welder", "porter")


def variations(request: Request, _number: int) -> Answer:
    """Write one good variation, one of another family, one too far away, and one in no category."""
    title = json.loads(prompt_of(request).partition("Title: ")[2].splitlines()[0])
    made = [
        (f"Senior {title}", "seniority"),
        (f"{title} (full time)", "context"),
        ("Xyzzy", "keywords"),
        (f"{title} on call", "whatever"),
    ]
    content = json.dumps({"variations": [{"text": text, "category": category} for text, category in made]})
    return Answer(f"Here you are, {KEY}:\n```json\n{content}\n```", wait=0.02)


def write_recipe(own_folder: Path, server: Endpoint, more: str = "", target: int = 60) -> Path:
    lines = ["title,family", *(f"{name.capitalize()} {word},{name}" for name in FAMILIES for word in ("One", "Two"))]
    (own_folder / "titles.csv").write_text("\n".join(lines))
    path = own_folder / "recipe.yaml"
    path.write_text(
        "name: taught\nkind: embedding\nmodel: {base: minilm}\n"
        "data:\n  source: titles.csv\n  split: {group: family, train: 0.5, validation: 0.25, test: 0.25}\n"
        f"  augment: {{method: teacher, target: {target}}}\n"
        f"teacher: {{url: {server.url}, model: big, key: OWN_API_KEY, prices: {{prompt: 1, completion: 2}}, "
        f"cap: 3{more}}}\n"
    )
    return path


def test_prepare_lists_what_the_teacher_wrote_and_asks_once(luthier: Luthier, process: Luthier, own_folder: Path):
    with endpoint(variations) as server:
        path = write_recipe(own_folder, server)
        told = process("prepare", path, OWN_API_KEY=KEY)
        assert told.status == 0, told.err
        asked = len(server.asked)
        assert asked == 8 * 3
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        (table,) = own_folder.rglob("jittered_titles.csv")
        with table.open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == 16
        assert {line["category"] for line in lines} == {"seniority", "context"}
        assert {(line["source"], line["model"]) for line in lines} == {("teacher", "big")}
        assert {len(line["prompt_hash"]) for line in lines} == {16}
        report = json.loads((table.parent / "report.json").read_text())
        assert report["augmentation"]["refused"]["category"] == 24
        assert report["augmentation"]["refused"]["too-far"] == 24
        assert any("The teacher wrote 16 of the 52" in warning for warning in report["warnings"])
        first = (table.parent / "train.jsonl").read_bytes()
        again = luthier("augment", path, "--json", OWN_API_KEY=KEY)
        assert [line["variation"] for line in again.json["variations"]] == [line["variation"] for line in lines]
        assert luthier("prepare", path, "--new", OWN_API_KEY=KEY).status == 0
        assert len(server.asked) == asked
    newest = sorted(own_folder.rglob("train.jsonl"))[-1]
    assert newest.parent != table.parent
    assert newest.read_bytes() == first
    assert KEY not in told.out + told.err + again.out + again.err
    kept = [file for file in own_folder.rglob("*") if file.is_file()]
    assert any("teacher" in str(file) for file in kept)
    assert [file for file in kept if KEY.encode() in file.read_bytes()] == []


def test_killed_in_the_middle_the_next_run_asks_what_is_missing(luthier: Luthier, own_folder: Path):
    def slow(request: Request, number: int) -> Answer:
        time.sleep(0.15)
        return variations(request, number)

    with endpoint(slow) as server:
        path = write_recipe(own_folder, server, ", concurrency: 2")
        command = [sys.executable, "-m", "luthier", "prepare", str(path), "--quiet"]
        process = subprocess.Popen(command, env={**os.environ, "OWN_API_KEY": KEY})
        while len(server.asked) < 9:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert luthier("prepare", path, OWN_API_KEY=KEY).status == 0
        assert len(server.asked) <= 24 + 2  # those under way when it was killed
        prompts = [json.dumps(one, sort_keys=True) for one in server.asked]
        assert len(set(prompts)) == 24


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (Answer(status=401, body=json.dumps({"error": f"bad key {KEY}"}).encode()), 2, "refuses the key"),
        (
            Answer(status=404, body=json.dumps({"error": {"message": f"no model for {KEY}"}}).encode()),
            2,
            "no model for",
        ),
        (Answer(status=301, headers={"Location": "http://169.254.169.254/"}), 2, "redirect"),
    ],
)
def test_an_endpoint_that_refuses_is_one_message(answer, status, words, luthier: Luthier, own_folder: Path):
    with endpoint(lambda *_: answer) as server:
        told = luthier("prepare", write_recipe(own_folder, server), OWN_API_KEY=KEY)
    assert told.status == status
    assert words in told.err
    assert [file for file in own_folder.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()] == []
    assert KEY not in told.out + told.err


def test_nobody_listens_no_key_and_a_foreign_host(luthier: Luthier, own_folder: Path):
    with endpoint(variations) as server:
        path = write_recipe(own_folder, server, ", tries: 1")
    told = luthier("augment", path, OWN_API_KEY=KEY)
    assert (told.status, "does not answer" in told.err) == (1, True)
    told = luthier("augment", path)
    assert (told.status, "OWN_API_KEY holds no key" in told.err) == (2, True)
    told = luthier("augment", path, "--set", "teacher.url=https://elsewhere.example/v1", OWN_API_KEY=KEY)
    assert (told.status, "LUTHIER_TEACHER_HOSTS=elsewhere.example" in told.err) == (2, True)
    told = luthier("augment", path, "--set", "data.augment.prompt=absent.txt", OWN_API_KEY=KEY)
    assert (told.status, "template cannot be read" in told.err) == (2, True)


def test_a_template_of_ones_own_is_sent_and_decides_freshness(luthier: Luthier, own_folder: Path):
    ask = own_folder / "ask.txt"
    ask.write_text("Vary it.\n- context: elsewhere\n- seniority: older\nTitle: {source}\n")
    with endpoint(variations) as server:
        path = write_recipe(own_folder, server, target=12)
        settings = ("--set", f"data.augment.prompt={ask}")
        assert luthier("prepare", path, *settings, OWN_API_KEY=KEY).status == 0
        asked = len(server.asked)
        assert prompt_of(server.asked[0]).startswith("Vary it.\n")
        assert luthier("prepare", path, *settings, OWN_API_KEY=KEY).status == 0
        assert len(server.asked) == asked
        ask.write_text(ask.read_text().replace("older", "much older"))
        told = luthier("prepare", path, *settings, OWN_API_KEY=KEY)
        assert told.status == 0
        assert len(server.asked) > asked


@pytest.mark.skipif("LUTHIER_TEST_SERVER" not in os.environ, reason="LUTHIER_TEST_SERVER names no real endpoint")
def test_a_real_server_is_asked_once(luthier: Luthier, own_folder: Path):
    """LUTHIER_TEST_SERVER=http://127.0.0.1:8000/v1 LUTHIER_TEST_MODEL=name; any small model does."""
    server = Endpoint(os.environ["LUTHIER_TEST_SERVER"])
    path = write_recipe(own_folder, server, ", max_tokens: 64, concurrency: 2, timeout: 120", target=10)
    settings = ("--set", "teacher.key=off", "--set", f"teacher.model={os.environ.get('LUTHIER_TEST_MODEL', 'model')}")
    told = luthier("augment", path, "--json", *settings)
    assert told.status == 0, told.err
    again = luthier("augment", path, "--json", *settings)
    assert again.json == told.json
    assert " 0 answers asked for" in again.err
