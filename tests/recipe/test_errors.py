"""What is wrong with a recipe: all of it at once, each with its line, in plain words, with a remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luthier.recipe.load import load_recipe

from .conftest import MINIMAL, Failing

MANY = """\
name: demo model
kind: causal_lm
trainig:
  epochs: 3
data:
  source: rows.jsonl
  format: alpacca
  near_duplicates: 3
  split: {train: 0.5}
training:
  learning_rat: 5e-4
  epochs: true
  batch_size: [8]
  schedule: {name: cosin,
    warmup: 2.5}
  lora_r: 8
  seed: 3
adapter: lora
report: {formats: html}
"""

EXPECTED = [
    (1, "name must be text (letters, digits", "names the run folder"),
    (2, "kind must be one of causal-lm or embedding, not 'causal_lm'.", "Did you mean 'causal-lm'?"),
    (3, "'trainig' is not a key of the recipe.", "Did you mean 'training'?"),
    (7, "data.format must be one of auto, alpaca", "Did you mean 'alpaca'?"),
    (8, "data.near_duplicates must be a number above 0 and at most 1, or off, not 3.", "Jaccard"),
    (9, "data.split: train, validation and test add up to 0.8, not to 1.", "train 0.5, validation 0.15 (default)"),
    (11, "'learning_rat' is not a key of training.", "Did you mean 'learning_rate'?"),
    (12, "training.epochs must be a number above 0, not true.", "It means: passes"),
    (13, "training.batch_size must be a whole number of at least 1, not [8].", "It means: examples"),
    (14, "training.schedule.name must be one of constant, linear, cosine, polynomial,", "Did you mean 'cosine'?"),
    (15, "training.schedule.warmup must be a whole number of at least 0, not 2.5.", "It means: optimizer steps"),
    (16, "'lora_r' is not a key of training.", "It is adapter.r here."),
    (17, "'seed' is not a key of training.", "It belongs at the top level: write seed."),
    (18, "adapter must be a section with the keys method, r,", "Did you mean 'adapter.method: lora'?"),
    (
        19,
        "report.formats must be a list with at least one item, "
        "each one of html, pdf, latex, slides or infographic, not 'html'.",
        "formats: [html]",
    ),
]


def test_all_errors_of_a_file_come_together_by_line(failing: Failing) -> None:
    errors = failing(MANY)
    assert [error.place for error in errors] == [f"recipe.yaml:{line}" for line, _, _ in EXPECTED]
    for error, (_, problem, remedy) in zip(errors, EXPECTED, strict=True):
        assert error.problem.startswith(problem)
        assert remedy in error.remedy


def test_no_error_speaks_the_language_of_the_validator(failing: Failing) -> None:
    told = "\n".join(str(error) for error in failing(MANY))
    assert not re.search(
        r"pydantic|input|literal_|Field|type=|\bint\b|\bstr\b|\bfloat\b|NoneType|extra_forbidden", told
    )


@pytest.mark.parametrize(
    ("text", "place", "problem", "remedy"),
    [
        ("name: demo\n", "recipe.yaml", "data is missing.", "It needs at least source."),
        ("name: demo\ndata:\n", "recipe.yaml:2", "data.source is missing.", "Add it: file, folder, glob"),
        ("name: demo\ndata: {source: ~}\n", "recipe.yaml:2", "data.source must be text, or a list", "It means"),
        ("name:\ndata: {source: a}\n", "recipe.yaml:1", "it has no value", "run folder"),
        (MINIMAL + "  split: {}\n  source2: x\n", "recipe.yaml:5", "'source2'", "Did you mean 'source'?"),
        (MINIMAL + "epochs: 3\n", "recipe.yaml:4", "'epochs'", "It belongs under training: write training.epochs."),
        (MINIMAL + "warmup: 3\n", "recipe.yaml:4", "'warmup'", "write training.schedule.warmup."),
        (MINIMAL + "batch_siz: 3\n", "recipe.yaml:4", "'batch_siz'", "Did you mean 'training.batch_size'?"),
        (MINIMAL + "  lerning_rate: 3\n", "recipe.yaml:4", "'lerning_rate'", "Did you mean 'training.learning_rate'?"),
        (MINIMAL + "lora_alfa: 3\n", "recipe.yaml:4", "'lora_alfa'", "Did you mean 'adapter.alpha'?"),
        (MINIMAL + "zzzzzz: 3\n", "recipe.yaml:4", "'zzzzzz' is not a key of the recipe.", "Keys there: name, kind,"),
        (MINIMAL + "<<: {}\n", "recipe.yaml:4", "Merge keys", "include"),
        (MINIMAL + "training: {include: x.yaml}\n", "recipe.yaml:4", "include stands at the top", "Move it there."),
        ("name: d\ndata: {source: {valid: a, train: b}}\n", "recipe.yaml:2", "'valid'", "Did you mean 'validation'?"),
        ("name: d\ndata: {source: {zz: a}}\n", "recipe.yaml:2", "'zz'", "Keys there: train, validation, test."),
        (MINIMAL + "  overlap: {allow: perhaps}\n", "recipe.yaml:4", "true or false, not 'perhaps'.", "a leak"),
        (MINIMAL + "  fields: [a]\n", "recipe.yaml:4", "a mapping from text to text, not ['a'].", "It means"),
        (MINIMAL + "  fields: []\n", "recipe.yaml:4", "not an empty list", "It means"),
        (MINIMAL + "  terms: {a: b}\n", "recipe.yaml:4", "not a section with the keys a.", "It means"),
        (MINIMAL + "  terms: {}\n", "recipe.yaml:4", "not an empty section.", "It means"),
        (MINIMAL + "  max_length: " + "9" * 90 + "\n", "recipe.yaml:4", "999…", "It means"),
        (MINIMAL + "training: {epochs: .inf}\n", "recipe.yaml:4", "a number above 0, not .inf.", "It means"),
        (MINIMAL + "training: {epochs: 1e999}\n", "recipe.yaml:4", "a number above 0, not 1e999.", "It means"),
        (MINIMAL + "  augment: on\n", "recipe.yaml:4", "data.augment.target is missing.", "Add it"),
        (
            MINIMAL + "  augment: 7\n",
            "recipe.yaml:4",
            "a section with the keys method, target, similarity, prompt, or off, not 7.",
            "",
        ),
        (MINIMAL + "training: {lr: 7}\n", "recipe.yaml:4", "lr (training.learning_rate) must be", "It means"),
    ],
)
def test_one_error(failing: Failing, text: str, place: str, problem: str, remedy: str) -> None:
    (error,) = failing(text)
    assert error.place == place
    assert problem in error.problem
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("training: {learning_rate: 0}", "Give a number above 0 and below 1; the default is 0.0002. It means: peak"),
        ("training: {learning_rate: -1e-4}", "Give a number above 0 and below 1; the default is 0.0002. It means: "),
        ("training: {learning_rate: 1e3}", "Give a number above 0 and below 1; the default is 0.0002. It means: peak"),
        ("training: {steps: 0}", "Give a whole number of at least 1, or off, which is the default. It means: optim"),
        ("training: {early_stopping: {patience: 0}}", "Give a whole number of at least 1; the default is 3. It mean"),
        ("training: {checkpoint_every: 0}", "Give a whole number of at least 1; the default is 100. It means: optim"),
        ("  near_duplicates: 2", "Give a number above 0 and at most 1, or off; the default is 0.85. It means: Jac"),
        ("  augment: {target: 0}", "Give a whole number of at least 1. It means: how many training rows"),
        ("export: {merged: 7}", "Give true or false; the default is true. It means: base and adapter"),
        ("report: {formats: []}", "slides or infographic; the default is [html]. It means: files to write"),
        ("  fields: 7", "Give a mapping from text to text. It means: Luthier's field name"),
        ("training: 7", "Write its keys below it."),
    ],
)
def test_what_to_do_is_an_action(failing: Failing, line: str, remedy: str) -> None:
    """The range and the default come from the schema; what the key means comes second."""
    (error,) = failing(f"{MINIMAL}{line}\n")
    assert remedy in error.remedy
    assert error.remedy.startswith(("Give ", "Write "))


@pytest.mark.parametrize(
    ("text", "place", "problem", "remedy"),
    [
        ("", "recipe.yaml", "The recipe is empty.", "luthier init"),
        ("# only a comment\n", "recipe.yaml", "The recipe is empty.", "luthier init"),
        ("- a\n- b\n", "recipe.yaml:1", "this is a list", "name: my-model"),
        ("just words\n", "recipe.yaml:1", "this is a single text", "name: my-model"),
        ("name: demo\ndata:\n\tsource: x\n", "recipe.yaml:3", "A tab", "two spaces"),
        ("name: demo\ndata: a: b\n", "recipe.yaml:2", "A colon", "quotes"),
        ("name: demo\ndata\nkind: x\n", "recipe.yaml:3", "A key without a colon", "key: value"),
        ("name: demo\n  kind: x\n", "recipe.yaml:2", "A colon", "indented like its neighbours"),
        ("data:\n  source: x\n format: auto\n", "recipe.yaml:3", "The indentation does not fit", "same number"),
        ("name: 'demo\n", "recipe.yaml:2", "A quote is opened", "Close it"),
        ("name: [a, b\n", "recipe.yaml:2", "A bracket is opened", "Close it"),
        ("name: a\n---\nname: b\n", "recipe.yaml:2", "a second document", "one recipe"),
        ("name: *a\n", "recipe.yaml:1", "the sign of an anchor", "quotes"),
        ("name: @a\n", "recipe.yaml:1", "This is not YAML: found character '@'", "Compare"),
        ("name: a\nkind: b\x07\n", "recipe.yaml:2", "control character (number 7)", "Remove it."),
        (b"name: demo\nkind: caf\xe9\n", "recipe.yaml:2", "not UTF-8: the byte 0xe9", "Save it as UTF-8"),
        ("name: demo\n".encode("utf-16"), "recipe.yaml", "UTF-16", "Save it as UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_gives_one_message(
    failing: Failing, text: str | bytes, place: str, problem: str, remedy: str
) -> None:
    (error,) = failing(text)
    assert error.place == place
    assert problem in error.problem
    assert remedy in error.remedy


def test_a_byte_order_mark_is_no_error() -> None:
    Path("recipe.yaml").write_bytes(MINIMAL.encode("utf-8-sig"))
    assert load_recipe("recipe.yaml").recipe.name == "demo"


def test_an_unreadable_file(failing: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    (error,) = failing(MINIMAL)
    assert error.problem == "The file cannot be read: Permission denied."


def test_duplicate_keys_name_both_lines_and_hide_nothing(failing: Failing) -> None:
    errors = failing("name: a\nkind: causal-lm\nname: b\ndata:\n  source: x\n  source: y\n  formt: auto\n")
    assert [error.problem for error in errors] == [
        "'name' is given twice: on line 1 and on line 3.",
        "'source' is given twice: on line 5 and on line 6.",
        "'formt' is not a key of data.",
    ]


def test_odd_yaml(failing: Failing) -> None:
    errors = failing(MINIMAL + "? [a, b]\n: c\nseed: !!int 3\nmodel: &m {base: x, dtype: *m}\n")
    assert [(error.place, error.problem.partition(" ")[2][:20]) for error in errors[:2]] == [
        ("recipe.yaml:4", "key must be one word"),
        ("recipe.yaml:6", "such as tag:yaml.org"),
    ]
    assert any("anchor repeats itself" in error.problem for error in errors)


def test_an_anchor_bomb_is_refused(failing: Failing) -> None:
    levels = "\n".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
    errors = failing(f"{MINIMAL}  fields:\n    x: &a0 [x]\n{levels}\n")
    assert sum("anchor repeats itself" in error.problem for error in errors) == 1


def test_anchors_may_be_used(failing: Failing) -> None:
    Path("recipe.yaml").write_text("name: &n demo\ndata: {source: a, fields: {prompt: *n}}\n")
    assert load_recipe("recipe.yaml").recipe.data.fields == {"prompt": "demo"}
