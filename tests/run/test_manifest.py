"""A stage is unchanged when its fingerprint is, and complete when its manifest is there and its outputs are whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.run import manifest as module
from luthier.run.manifest import (
    Fingerprint,
    adopt,
    damaged_outputs,
    digest_code,
    digest_outputs,
    digest_value,
    read_manifest,
    write_manifest,
)

BEFORE = Fingerprint({"data": "1"}, {"rows.csv": "2"}, {"output of prepare": "3"}, {"data": "4"})


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    folder = tmp_path / "1-data"
    (folder / "inner").mkdir(parents=True)
    (folder / "rows.jsonl").write_text('{"a": 1}\n')
    (folder / "inner" / "more.txt").write_text("more")
    write_manifest(folder, "prepare", BEFORE, 1.25)
    return folder


def test_a_whole_stage_has_no_damage(stage: Path) -> None:
    manifest = read_manifest(stage)
    assert manifest is not None
    assert set(manifest["outputs"]) == {"rows.jsonl", "inner/more.txt"}
    assert damaged_outputs(stage, manifest) == []
    assert BEFORE.differences(manifest) == []


@pytest.mark.parametrize("harm", ["remove", "truncate", "change"])
def test_damage_is_seen(stage: Path, harm: str) -> None:
    rows = stage / "rows.jsonl"
    if harm == "remove":
        rows.unlink()
    else:
        rows.write_text("" if harm == "truncate" else '{"a": 2}\n')
    manifest = read_manifest(stage)
    assert manifest is not None
    assert damaged_outputs(stage, manifest) == ["rows.jsonl"]


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"stage": "prepare"}'])
def test_without_a_readable_manifest_a_stage_is_not_complete(stage: Path, content: str | None) -> None:
    (stage / "manifest.json").unlink()
    if content is not None:
        (stage / "manifest.json").write_text(content)
    assert read_manifest(stage) is None


def test_each_changed_part_is_named() -> None:
    now = Fingerprint({"data": "x", "seed": "0"}, {"rows.csv": "x"}, {"output of prepare": "x"}, {"data": "x"})
    assert now.differences(BEFORE.to_json()) == [
        "recipe key data",
        "recipe key seed",
        "file rows.csv",
        "output of prepare",
        "Luthier's own data",
    ]


def test_an_adopted_stage_is_equal_and_independent(stage: Path, tmp_path: Path) -> None:
    target = tmp_path / "other" / "1-data"
    target.mkdir(parents=True)
    (target / "stale.txt").write_text("from a killed run")
    adopt(stage, target)
    manifest = read_manifest(target)
    assert manifest == read_manifest(stage)
    assert manifest is not None
    assert damaged_outputs(target, manifest) == []
    assert not (target / "stale.txt").exists()
    module.write_json(target / "rows.jsonl", "changed")
    original = read_manifest(stage)
    assert original is not None
    assert damaged_outputs(stage, original) == []


def test_adoption_copies_where_there_are_no_hard_links(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(module.os, "link", refuse)
    (tmp_path / "other").mkdir()
    adopt(stage, tmp_path / "other" / "1-data")
    assert (tmp_path / "other" / "1-data" / "rows.jsonl").stat().st_nlink == 1


@given(value=st.dictionaries(st.text(max_size=5), st.integers(), min_size=2, max_size=5))
def test_the_order_of_keys_does_not_count(value: dict[str, int]) -> None:
    assert digest_value(value) == digest_value(dict(reversed(value.items())))
    assert digest_value(value) != digest_value({**value, "one more": 1})


def test_code_and_outputs_have_digests(stage: Path) -> None:
    assert digest_code("data") != digest_code("run")
    assert len(digest_code("errors.py")) == 64
    manifest = read_manifest(stage)
    assert manifest is not None
    before = digest_outputs(manifest)
    manifest["outputs"]["rows.jsonl"]["sha256"] = "other"
    assert digest_outputs(manifest) != before
