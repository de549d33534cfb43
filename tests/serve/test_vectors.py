"""An embedding run through its doors: vectors from Python, of a file, and search in a corpus."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from typer.testing import CliRunner

import luthier
from luthier.cli import app
from luthier.errors import UserError
from luthier.models import vectors as kept_vectors
from luthier.recipe.load import load_recipe
from luthier.run.atomic import write_json
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.serve.embed import embed_file
from luthier.serve.load import RunModel, open_run, speaking
from luthier.serve.search import Search, read_through
from luthier.serve.vectors import RunVectors
from luthier.stages.prepare import prepare
from luthier.stages.train import train
from tests.kinds import encoders


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run `titles/2026-01-01T00-00-00`."""
    folder = tmp_path_factory.mktemp("runs")
    base = encoders.base(folder / "base")
    with open(folder / "titles.csv", "w", newline="") as file:
        lines = [(title, family) for family, own in encoders.FAMILIES.items() for title in own]
        csv.writer(file).writerows([("title", "family"), *lines])
    run = RunFolder(folder / "titles" / "2026-01-01T00-00-00")
    run.path.mkdir(parents=True)
    run.recipe.write_text(
        f"name: titles\nkind: embedding\nmodel: {{base: {base}, dtype: float32}}\n"
        f"data: {{source: {folder / 'titles.csv'}, split: {{train: 0.5, validation: 0.0, test: 0.5}}}}\n"
        "adapter: {r: 4}\ntraining: {steps: 2, batch_size: 8, learning_rate: 0.05}\n"
    )
    write_json(run.record, {"name": "titles", "id": run.id, "status": "complete", "stages": []})
    recipe = load_recipe(run.recipe).recipe
    prepare(recipe, run, Silent())
    train(recipe, run, Silent())
    return folder


@pytest.fixture
def model(runs: Path) -> RunVectors:
    opened = luthier.load("titles/latest", runs)
    assert isinstance(opened, RunVectors)
    return opened


def test_vectors_are_those_of_plain_libraries(model: RunVectors, runs: Path) -> None:
    from sentence_transformers import SentenceTransformer

    words = ["Ward Nurse", "Line Cook", "Ward Nurse"]
    theirs = SentenceTransformer(str(runs / "base" / "sentence"), device="cpu")
    np.testing.assert_allclose(model.answer(words, base=True), theirs.encode(words), atol=1e-5)
    theirs.load_adapter(str(model.folder.adapter))
    tuned = model.answer(words)
    np.testing.assert_allclose(tuned, theirs.encode(words), atol=1e-5)
    assert tuned.shape == (3, 48)
    assert tuned.dtype == np.float32
    np.testing.assert_array_equal(tuned[0], tuned[2])
    assert np.abs(tuned - model.answer(words, base=True)).max() > 1e-3


def test_texts_that_cannot_be_read_are_told(model: RunVectors) -> None:
    with pytest.raises(UserError, match="a list of texts"):
        model.answer("one text")
    with pytest.raises(UserError, match="empty") as error:
        model.answer(["a", " "])
    assert error.value.place == "texts[1]"


def test_search_is_exact_and_leaves_the_query_out(model: RunVectors) -> None:
    corpus = model.corpus()
    assert sorted(corpus.texts) == sorted(title for own in encoders.FAMILIES.values() for title in own)
    (hits,) = model.search(["Ward Nurse"], corpus, k=5)
    vectors = model.answer(["Ward Nurse", *corpus.texts])
    similar = {text: float(vectors[0] @ vector) for text, vector in zip(corpus.texts, vectors[1:], strict=True)}
    best = sorted((text for text in similar if text != "Ward Nurse"), key=lambda text: -similar[text])[:5]
    assert [hit.text for hit in hits] == best
    assert [hit.similarity for hit in hits] == pytest.approx([similar[text] for text in best], abs=1e-5)
    assert {hit.told for hit in hits} <= set(encoders.FAMILIES)


def test_a_corpus_is_read_once(model: RunVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = model.corpus()
    first = model.vectors(corpus)
    read: list[int] = []
    plain = kept_vectors.Embedder.embed
    monkeypatch.setattr(
        kept_vectors.Embedder, "embed", lambda self, texts, *rest: read.append(len(texts)) or plain(self, texts, *rest)
    )
    np.testing.assert_array_equal(model.vectors(corpus), first)
    assert read == []
    model.vectors(corpus, base=True)
    assert read == [16]
    (file,) = [path for path in model.folder.vectors.iterdir() if path.name.startswith("tuned")]
    file.write_bytes(file.read_bytes()[:-8])
    np.testing.assert_array_equal(model.vectors(corpus), first)
    assert read == [16, 16]


def test_merging_changes_nothing_for_good(model: RunVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model.answer(["Ward Nurse"])
    monkeypatch.setattr("luthier.serve.vectors.WORTH_MERGING", 1)
    np.testing.assert_allclose(model.answer(["Ward Nurse"]), before, atol=1e-5)
    monkeypatch.undo()
    np.testing.assert_array_equal(model.answer(["Ward Nurse"]), before)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "some.csv"
    path.write_text("id,title\n1,Ward Nurse\n2,\n3,Line Cook\n4,Ward Nurse\n")
    return path


def test_a_file_as_parquet(model: RunVectors, source: Path) -> None:
    done = embed_file(model, source)
    assert done.output == source.with_name("some.vectors.parquet")
    assert (done.rows, done.answered, done.failed, done.column, done.dimensions) == (4, 3, 1, "title", 48)
    frame = polars.read_parquet(done.output)
    assert frame.columns == ["id", "title", "vector", "error"]
    expected = model.answer(["Ward Nurse", "Line Cook"])
    np.testing.assert_allclose(frame["vector"][0].to_numpy(), expected[0], atol=1e-6)
    np.testing.assert_allclose(frame["vector"][2].to_numpy(), expected[1], atol=1e-6)
    assert frame["vector"][1] is None
    assert frame["error"].to_list() == [None, "'title' is empty or no text.", None, None]
    with pytest.raises(UserError, match="such a file already"):
        embed_file(model, source)


def test_a_file_as_npy_and_jsonl(model: RunVectors, source: Path, tmp_path: Path) -> None:
    whole = np.load(embed_file(model, source, tmp_path / "out.npy").output, allow_pickle=False)
    assert whole.shape == (4, 48)
    assert np.isnan(whole[1]).all()
    lines = [json.loads(line) for line in embed_file(model, source, tmp_path / "out.jsonl").output.open()]
    np.testing.assert_allclose(lines[3]["vector"], whole[3], atol=1e-6)
    assert (lines[1]["vector"], lines[1]["title"]) == (None, "")


def test_a_killed_prediction_goes_on(
    model: RunVectors, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.serve.embed.WINDOW", 1)
    plain = kept_vectors.Embedder.embed

    def killed(self: Any, texts: Any, *rest: Any) -> Any:
        if list(texts) == ["Line Cook"]:
            raise RuntimeError("killed")
        return plain(self, texts, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(kept_vectors.Embedder, "embed", killed)
        with pytest.raises(RuntimeError, match="killed"):
            embed_file(model, source, tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()
    done = embed_file(model, source, tmp_path / "out.npy")
    assert done.resumed == 1
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


@pytest.mark.parametrize(
    ("output", "column", "words"),
    [("out.txt", None, "Vectors are not written as .txt"), ("out.npy", "name", "There is no column 'name'")],
)
def test_what_cannot_be_is_told(
    model: RunVectors, source: Path, tmp_path: Path, output: str, column: str | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        embed_file(model, source, tmp_path / output, column)


def search(model: RunVectors) -> tuple[Search, io.StringIO, list[str]]:
    out, told = io.StringIO(), []
    return Search(model, model.corpus(), out.write, told.append, lambda _: model, k=3), out, told


def test_a_session(model: RunVectors, tmp_path: Path) -> None:
    session, out, told = search(model)
    typed = ["Ward Nurse", "/like 1", "/both", "/k 2", "chef", "/least 2", "/nonsense", "/corpus", "/save s.json"]
    errors = read_through(session, io.StringIO("\n".join([*typed, "/quit", "never"])))
    assert [error.problem for error in errors] == ["'2' is no similarity from -1 to 1.", "No command /nonsense."]
    assert [one["query"] for one in session.history] == ["Ward Nurse", session.history[0]["tuned"][0]["text"], "chef"]
    assert set(session.history[2]) == {"query", "base", "tuned"}
    assert len(session.history[2]["base"]) == 2
    assert "of 2 texts are in both" in out.getvalue()
    assert "corpus: 16 texts" in told
    assert json.loads(Path("s.json").read_text())["run"] == model.name


def test_the_verbs(runs: Path, source: Path, tmp_path: Path) -> None:
    predicted = CliRunner().invoke(
        app, ["predict", "titles/latest", str(source), "--to", str(tmp_path / "v.npy"), "--runs", str(runs), "--json"]
    )
    assert predicted.exit_code == 0, predicted.output
    assert json.loads(predicted.stdout)["answered"] == 3
    chatted = CliRunner().invoke(
        app, ["chat", "titles/latest", "--corpus", str(source), "--runs", str(runs), "--json"], input="Nurse\n"
    )
    assert chatted.exit_code == 0, chatted.output
    (found,) = json.loads(chatted.stdout)["searches"]
    assert sorted(hit["text"] for hit in found["tuned"]) == ["Line Cook", "Ward Nurse"]


def test_a_run_is_opened_as_what_its_kind_gives(runs: Path) -> None:
    folder = RunFolder(runs / "titles" / "2026-01-01T00-00-00")
    assert not isinstance(open_run(folder), RunModel)
    with pytest.raises(UserError, match="gives vectors, not words"):
        speaking(folder)
