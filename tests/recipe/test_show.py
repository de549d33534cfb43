"""The resolved recipe as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from luthier.recipe.keys import all_keys
from luthier.recipe.load import digest, load_recipe
from luthier.recipe.show import as_json, render, rows

from .conftest import MINIMAL, OFF


def test_rows_stand_in_the_order_of_the_schema_and_miss_nothing(minimal: Path) -> None:
    loaded = load_recipe(minimal)
    keys = [key for key, _, _ in rows(loaded)]
    leaves = [key for key, one in all_keys().items() if not one.sections]
    assert [key for key in keys if key not in OFF] == [
        key for key in leaves if not any(key.startswith(f"{off}.") for off in OFF)
    ]
    assert set(OFF) <= set(keys)
    assert loaded.origins.keys() == set(keys)


def test_the_table() -> None:
    Path("recipe.yaml").write_text(
        f"{MINIMAL}  fields: {{prompt: question, topic: 'off'}}\n  augment: {{target: 9}}\nlora_r: 4\n"
        f"model:\n  system: |\n    {'words ' * 30}\n    more\n"
    )
    loaded = load_recipe("recipe.yaml", {"adapter.targets": ["a", "b"]})
    told = render(loaded).splitlines()
    assert told[0].split() == ["key", "value", "origin"]
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in told if line}
    assert lines["adapter.r"] == "4 recipe.yaml:6 (alias lora_r)"
    assert lines["adapter.targets"] == "[a, b] --set"
    assert lines["data.fields.prompt"] == "question recipe.yaml:4"
    assert lines["data.augment.target"] == "9 recipe.yaml:5"
    assert lines["data.augment.method"] == "rules default"
    assert lines["training.steps"] == "off default"
    assert lines["model.system"].startswith("words words")
    assert "… recipe.yaml:8" in lines["model.system"]
    assert "\n" not in lines["model.system"]
    assert told[-1] == "lora_r is adapter.r here"


def test_no_notes_no_tail(minimal: Path) -> None:
    assert render(load_recipe(minimal)).splitlines()[-1].startswith("report.formats")


def test_json(minimal: Path) -> None:
    loaded = load_recipe(minimal)
    told = json.loads(json.dumps(as_json(loaded)))
    assert told["path"] == str(minimal.absolute())
    assert told["digest"] == digest(loaded.recipe)
    assert {"key": "kind", "value": "causal-lm", "origin": "default"} in told["values"]
    assert told["notes"] == []
