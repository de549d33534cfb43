"""Metrics against the published examples of their reference implementations, and against cases done by hand."""

from __future__ import annotations

import math

import pytest
import sacrebleu

from luthier.data.rows import Row
from luthier.errors import UserError
from luthier.evaluate.text import METRICS, Item, Score, key_points, score_corpus, score_items
from luthier.evaluate.words import Script, script_of, sentences, words
from luthier.kinds.causal_lm.score import HIGHER_IS_BETTER, PRIMARY_METRIC

# The papal example of nltk.translate (Papineni et al. 2002).
GUIDE = "It is a guide to action which ensures that the military always obeys the commands of the party"
REFERENCE = "It is a guide to action that ensures that the military will forever heed Party commands"


def one(name: str, answer: str, reference: str, script: Script = "latin") -> Score:
    scored = score_items([Item(answer, reference)], name, script)[0]
    assert scored is not None
    return scored


def test_every_metric_that_the_kind_declares_is_here_and_no_other() -> None:
    assert set(METRICS) == set(HIGHER_IS_BETTER)
    assert PRIMARY_METRIC in METRICS


@pytest.mark.parametrize(
    ("name", "answer", "reference", "expected"),
    [
        # The example of rouge-score's README: precision, recall, F1.
        ("rouge1", "The quick brown dog jumps on the log.", "The quick brown fox jumps over the lazy dog",
         (0.75, 0.6666666, 0.7058823)),
        ("rougeL", "The quick brown dog jumps on the log.", "The quick brown fox jumps over the lazy dog",
         (0.625, 0.5555555, 0.5882352)),
        ("rouge2", "the cat sat", "the cat ran", (0.5, 0.5, 0.5)),
        # rouge-score's own test of summary-level LCS (Lin 2004): the union of the lines is found.
        ("rougeLsum", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", (0.4, 0.8, 0.5333333)),
    ],
)  # fmt: skip
def test_rouge(name: str, answer: str, reference: str, expected: tuple[float, ...]) -> None:
    scored = one(name, answer, reference)
    assert (scored.details["precision"], scored.details["recall"], scored.value) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "answer", "reference", "expected"),
    [
        # The vectors of rouge-score's own tests: precision, recall, F1.
        ("rouge1", "testing", "testing one two", (1, 1 / 3, 1 / 2)),
        ("rouge2", "testing one", "testing one two", (1, 1 / 2, 2 / 3)),
        ("rougeL", "testing one", "testing one two", (1, 2 / 3, 4 / 5)),
        ("rougeL", "testing two", "testing one two", (1, 2 / 3, 4 / 5)),
        ("rouge1", "text first", "first text", (1, 1, 1)),
        ("rouge2", "text first", "first text", (0, 0, 0)),
        ("rougeL", "text first", "first text", (0.5, 0.5, 0.5)),
        ("rougeLsum", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", (0.4, 0.8, 1.6 / 3)),
        ("rougeLsum", "Second sentence.\nFirst Sentence.", "First sentence.\nSecond Sentence.", (1, 1, 1)),
        *((name, "", "testing one two", (0, 0, 0)) for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")),
        ("rougeLsum", "/", "w1 w2 w3 w4 w5", (0, 0, 0)),
    ],
)
def test_rouge_on_the_vectors_of_its_reference(
    name: str, answer: str, reference: str, expected: tuple[float, ...]
) -> None:
    scored = one(name, answer, reference)
    assert (scored.details["precision"], scored.details["recall"], scored.value) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("answers", "references", "expected"),
    [
        # The vectors of sacrebleu's own tests whose value does not hang on beta.
        (["a"], ["a"], 100.0),
        ([""], ["reference"], 0.0),
        (["a b c"], ["a b c"], 100.0),
        (["a b c"], ["abc"], 100.0),
        ([""], ["c"], 0.0),
        (["a", "b"], ["a", "c"], 50.0),
        (["aa"], ["ab"], 25.0),
        (["abcdefg"], ["hijklmnop"], 0.0),
        (["Niemand hat die Absicht, eine Mauer zu errichten"],) * 2 + (100.0,),
    ],
)
def test_chrf_on_the_vectors_of_its_reference(answers: list[str], references: list[str], expected: float) -> None:
    items = [Item(*pair) for pair in zip(answers, references, strict=True)]
    assert score_corpus(items, "chrf", "latin")["value"] == pytest.approx(expected, abs=1e-4)


def test_bleu_and_meteor_on_the_vectors_of_their_references() -> None:
    # sacrebleu: three empty answers are 0, an equal sentence is 100; its tokenizers 13a and intl are ours by script.
    references = ["The dog bit the man.", "It was not unexpected.", "The man bit him first."]
    for script in ("latin", "unicode"):
        empty = score_corpus([Item("", reference) for reference in references], "bleu", script)
        assert empty["value"] == 0.0
        equal = score_corpus([Item(reference, reference) for reference in references], "bleu", script)
        assert equal["value"] == pytest.approx(100)
    assert score_corpus([Item("this is a fest", "this is a test")], "bleu", "latin")["precisions"][0] == 75.0
    # nltk: no word in common is 0, and not a division by zero.
    assert one("meteor", "non matching hypothesis", "this is a cat").value == 0.0


def test_rouge_lsum_splits_sentences_where_rouge_l_does_not() -> None:
    swapped = ("A first. B second.", "B second. A first.")
    assert one("rougeLsum", *swapped).value == 1.0
    assert one("rougeL", *swapped).value == 0.5


def test_bleu_by_hand() -> None:
    # Papineni's clipping: "the" counts twice, as in the reference, of seven.
    clipped = score_corpus([Item("the the the the the the the", "The cat is on the mat the the")], "bleu", "latin")
    assert clipped["precisions"][0] == pytest.approx(100 * 3 / 7)
    # Five tokens for a reference of seven, all n-grams right: the brevity penalty alone is left.
    short = score_corpus([Item("one two three four five", "one two three four five six seven")], "bleu", "latin")
    assert short["precisions"] == pytest.approx([100.0] * 4)
    assert short["brevity_penalty"] == pytest.approx(math.exp(1 - 7 / 5))
    assert short["value"] == pytest.approx(100 * math.exp(1 - 7 / 5))
    assert "tok:13a" in short["signature"]


def test_bleu_and_chrf_equal_sacrebleu() -> None:
    answers = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
    references = ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."]
    items = [Item(*pair) for pair in zip(answers, references, strict=True)]
    bleu, chrf = sacrebleu.corpus_bleu(answers, [references]), sacrebleu.corpus_chrf(answers, [references])
    assert score_corpus(items, "bleu", "latin")["value"] == pytest.approx(bleu.score, rel=1e-9)
    assert score_corpus(items, "bleu", "latin")["precisions"] == pytest.approx(bleu.precisions, rel=1e-9)
    assert score_corpus(items, "chrf", "latin")["value"] == pytest.approx(chrf.score, rel=1e-9)
    sentence = sacrebleu.sentence_bleu(answers[0], [references[0]])
    assert one("bleu", answers[0], references[0]).value == pytest.approx(sentence.score, rel=1e-9)


def test_chrf_by_hand() -> None:
    assert one("chrf", "abc", "abc").value == pytest.approx(100)
    # "ab" for "abc": unigrams P 1, R 2/3; bigrams P 1, R 1/2; F with beta 2 of the means over these two orders.
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    assert one("chrf", "ab", "abc").value == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))


def test_meteor_by_hand_and_without_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("METEOR looked for a corpus")

    monkeypatch.setattr(nltk, "download", refuse)
    monkeypatch.setattr(nltk.data, "find", refuse)
    # Six matches in one chunk: 1 - 0.5 * (1/6)^3.
    assert one("meteor", "the cat sat on the mat", "the cat sat on the mat").value == pytest.approx(1 - 0.5 / 216)
    # Stems match: "cats" and "cat"; P = R = 1, one chunk of two.
    assert one("meteor", "the cats", "the cat").value == pytest.approx(1 - 0.5 / 8)
    # P = 1/2, R = 1, F = 10 P R / (R + 9 P) with one chunk of one match: half is taken away.
    assert one("meteor", "cat dog", "cat").value == pytest.approx(0.5 * 10 * 0.5 / (1 + 9 * 0.5))
    # The example of nltk's documentation.
    assert round(one("meteor", GUIDE, REFERENCE).value, 4) == 0.6944
    assert score_corpus([Item("a", "a")], "meteor", "latin")["title"] == f"METEOR (nltk {nltk.__version__}, no WordNet)"


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("The cat sat.", "a CAT sat", 1.0, 1.0),  # SQuAD: case, articles and punctuation do not count
        ("the cat sat", "a cat sat down", 0.0, 0.8),  # P 1, R 2/3
        ("cat cat", "cat", 0.0, 2 / 3),  # a word counts as often as it is there
        ("dog", "cat", 0.0, 0.0),
        ("", "cat", 0.0, 0.0),
        ("the", "a", 1.0, 1.0),  # nothing left of either: equal
    ],
)
def test_squad(answer: str, reference: str, exact: float, f1: float) -> None:
    assert one("exact_match", answer, reference).value == exact
    assert one("token_f1", answer, reference).value == pytest.approx(f1)


def test_perplexity_weighs_tokens() -> None:
    items = [Item("x", "x", nll=2.0, reference_tokens=2), Item("x", "x", nll=18.0, reference_tokens=6)]
    assert [score.value for score in score_items(items, "perplexity", "latin") if score] == [1.0, 3.0]
    corpus = score_corpus(items, "perplexity", "latin")
    assert corpus["value"] == pytest.approx(math.exp(20 / 8))  # not exp of the mean of 1 and 3
    assert score_items([Item("x", "x")], "perplexity", "latin") == [None]
    assert score_corpus([Item("x", "x")], "perplexity", "latin")["value"] is None


def test_key_points_in_any_case_and_inflection() -> None:
    points = ("bias squared", "Converged at a bad level", "dropout")
    item = Item("Curves converge at a bad level; I look at the Bias-Squared term.", "", key_points=points)
    scored = score_items([item], "key_points", "latin")[0]
    assert scored is not None
    assert scored.value == pytest.approx(2 / 3)
    assert scored.details == {"found": list(points[:2]), "missing": ["dropout"]}
    assert score_items([Item("x", "x")], "key_points", "latin") == [None]


@pytest.mark.parametrize(
    ("labels", "points"),
    [
        ({"key_points": ["a b", "", None, " c "]}, ("a b", "c")),
        ({"key_points": "a b; c\nd"}, ("a b", "c", "d")),
        ({}, ()),
        ({"key_points": 3}, ()),
    ],
)
def test_key_points_as_rows_declare_them(labels: dict, points: tuple[str, ...]) -> None:
    assert key_points(labels) == points
    assert isinstance(Row("a", "text", {"text": "x"}, "f", 1, labels).labels, dict)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Überfitting ist, wenn ein Modell das Rauschen lernt.", "latin"),
        ("Это переобучение, когда модель учит шум.", "unicode"),
        ("שלום עולם", "unicode"),
        ("过拟合是模型记住了噪声。", "spaceless"),
        ("過学習とは何ですか", "spaceless"),
        ("😀😀", "unicode"),
        ("", "latin"),
        ("1 + 1 = 2", "latin"),
    ],
)
def test_scripts(text: str, script: Script) -> None:
    assert script_of([text]) == script


@pytest.mark.parametrize(
    "text", ["Это переобучение модели.", "שלום עולם יפה מאוד", "过拟合是什么", "हिन्दी में लिखा", "😀 😃 😄 😁"]
)
def test_identical_text_scores_full_in_any_script(text: str) -> None:
    script = script_of([text])
    for name in ("rouge1", "rougeL", "rougeLsum", "exact_match", "token_f1"):
        assert one(name, text, text, script).value == 1.0, name
    for name in ("bleu", "chrf"):
        assert one(name, text, text, script).value == pytest.approx(100), name
    assert one("rouge1", "nothing of it", text, script).value == 0.0


def test_words_and_sentences() -> None:
    assert words("Straße, हिन्दी 過学習 42!") == ["strasse", "हिन्दी", "過", "学", "習", "42"]
    assert sentences("One. Two?\nThree 3.14 is\n\n 四。五。") == ["One.", "Two?", "Three 3.14 is", "四。", "五。"]


def test_what_was_not_asked_has_no_score() -> None:
    plain = Item(None, "text", nll=4.0, reference_tokens=2)
    scores = {name: score_items([plain], name, "latin")[0] for name in METRICS}
    assert [name for name, score in scores.items() if score is not None] == ["perplexity"]
    assert score_corpus([plain], "rougeL", "latin")["value"] is None


def test_long_and_empty_answers_have_scores() -> None:
    for name in set(METRICS) - {"perplexity", "key_points"}:
        assert one(name, "", "a reference").value == 0.0
        assert 0 <= one(name, "word " * 4000, "a word or two").value <= 100


def test_an_unknown_metric_is_told() -> None:
    with pytest.raises(UserError) as raised:
        score_items([], "rougel", "latin")
    assert "rougeL" in raised.value.remedy
