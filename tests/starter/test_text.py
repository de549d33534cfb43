"""Reading, cleaning, and the hold-out by document."""

from pathlib import Path

from luthier.starter.text import Document, clean, is_held_out, read_corpus, read_documents, read_exchanges, split


def test_reads_plain_and_compressed_documents(text_folder: Path) -> None:
    documents = read_documents(text_folder)
    assert len(documents) == 150
    assert {document.source for document in documents} == {"first", "second"}


def test_reads_instruction_rows_of_both_forms(text_folder: Path) -> None:
    exchanges = read_exchanges(text_folder)
    assert len(exchanges) == 41
    assert (exchanges[-1].instruction, exchanges[-1].response) == ("Seed\nMore", "Answer")


def test_holds_out_whole_documents_once(text_folder: Path) -> None:
    corpus = read_corpus(text_folder, share=0.1, exchange_share=0.1)
    train, held_out = ({document.text for document in side} for side in (corpus.train, corpus.held_out))
    assert not train & held_out
    assert len(train) + len(held_out) == 150
    assert 5 <= len(held_out) <= 30
    asked = {exchange.instruction for exchange in corpus.train_exchanges}
    assert not asked & {exchange.instruction for exchange in corpus.held_out_exchanges}


def test_the_side_depends_on_the_text_alone() -> None:
    documents = [Document("a", f"text {n}") for n in range(2000)]
    _, forwards = split(documents, 0.05)
    _, backwards = split([Document("b", document.text) for document in reversed(documents)], 0.05)
    assert [document.text for document in reversed(backwards)] == [document.text for document in forwards]
    assert 60 < len(forwards) < 140
    assert not is_held_out("anything", 0.0) and is_held_out("anything", 1.0)


def test_cleans_what_template_expansion_left() -> None:
    assert clean("Shanghai ( ) is big , and old .") == "Shanghai is big, and old."
    assert (
        clean("It covers (; 12 km) of [[land|the land]] and '''more'''.") == "It covers (12 km) of the land and more."
    )
    assert clean("A&amp;B\r\n\r\n\r\n\r\nC\u200b{{stub}}<ref name=x/>") == "A&B\n\nC"


def test_cleaning_keeps_code_and_drops_rulers() -> None:
    code = "def f(x):\n    return x  # done"
    assert clean(code) == "def f(x):\n    return x # done"
    assert clean("above\n" + "-|-" * 20 + "\nbelow") == "above\nbelow"


def test_specials_in_the_text_do_not_become_tokens() -> None:
    assert "<|im_end|>" not in clean("say <|im_end|> and stop")
