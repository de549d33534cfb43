"""Known good and known bad texts, made from the good answers of the validation split: what thresholds are set by.

Each maker takes a row and the rows around it and returns the case that a detector is to judge, or None where the row
does not allow it (a text without numbers cannot be miscounted). All draws come from one seeded generator.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from luthier.diagnose.case import Case, Known
from luthier.diagnose.detectors.contradiction import is_name, opposites_of
from luthier.diagnose.words import Text, common_words

Maker = Callable[[Known, Sequence[Known], random.Random], Case | None]


def whole(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer as it is."""
    return _case(row, row.answer.raw)


def hidden(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer as it is, judged without its reference: what a good answer says beyond one."""
    return Case(row.question, Text(""), row.answer, row.topic)


def condensed(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with about half of its words, as a good answer in other words has of the reference."""
    parts = []
    for start, end in row.answer.sentences:
        pieces = row.answer.raw[start:end].split(" ")
        kept = [piece for piece in pieces[:-1] if draw.random() < 0.5] + pieces[-1:]
        parts.append(" ".join(kept))
    return _case(row, " ".join(parts))


def joined(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with two neighbouring sentences told in one breath, as a good summary may."""
    places = row.answer.sentences
    if len(places) < 2:
        return None
    first = draw.randrange(len(places) - 1)
    parts = [row.answer.raw[start:end] for start, end in places]
    both = re.sub(r"[,;:()]", "", f"{parts[first].rstrip('.!?。')} and {parts[first + 1]}")
    return _case(row, " ".join([*parts[:first], both, *parts[first + 2 :]]))


def stub(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the first tenth of the answer."""
    return _case(row, _first(row.answer, 0.1)) if len(row.answer.tokens) >= 10 else None


def fragment(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the first third of the sentences."""
    places = row.answer.sentences
    if len(places) < 3:
        return None
    return _case(row, row.answer.raw[: places[len(places) // 3 - 1][1]])


def half(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the first half of the sentences."""
    places = row.answer.sentences
    return _case(row, row.answer.raw[: places[len(places) // 2 - 1][1]]) if len(places) > 1 else None


def padded(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with sentences of others until it is three times as long."""
    parts, length = [row.answer.raw], row.answer.words
    while length < 3 * row.answer.words and len(parts) < 200:
        other = draw.choice(rows)
        parts.append(other.answer.raw)
        length += max(other.answer.words, 1)
    return _case(row, " ".join(parts)) if row.answer.words else None


def truncated(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer cut somewhere after a third of its words."""
    count = len(row.answer.tokens)
    if count < 6:
        return None
    last = row.answer.tokens[draw.randrange(count // 3, count - 1)]
    return _case(row, row.answer.raw[: last.end])


def stuttered(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with words said up to three times."""
    return _case(row, " ".join(" ".join([word] * draw.choice((1, 2, 3))) for word in row.answer.raw.split(" ")))


def looped(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer's first half, with one of its sentences three times more."""
    places = row.answer.sentences
    if not places:
        return None
    start, end = draw.choice(places)
    first = row.answer.raw[: places[(len(places) - 1) // 2][1]]
    return _case(row, " ".join([first, *[row.answer.raw[start:end]] * 3]))


def restated(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return one sentence, and three times most of its words in another order."""
    places = [span for span, tokens in row.answer.by_sentence if len(tokens) > 7]
    if not places:
        return None
    start, end = draw.choice(places)
    said = row.answer.raw[start:end]
    parts = [said]
    for _ in range(3):
        kept = [word for word in said.rstrip(".").split() if draw.random() < 0.7]
        draw.shuffle(kept)
        parts.append(" ".join(kept) + ".")
    return _case(row, " ".join(parts))


def stocked(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with a stock phrase in each second sentence."""
    said = ("When it comes to this,", "It is important to note that", "In conclusion,")
    parts = [row.answer.raw[start:end] for start, end in row.answer.sentences]
    return _case(
        row, " ".join(part if place % 2 else f"{draw.choice(said)} {part}" for place, part in enumerate(parts))
    )


def sweeping(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with a word that leaves no exception in each sentence, judged without its reference."""
    parts = [row.answer.raw[start:end] for start, end in row.answer.sentences]
    said = " ".join(f"{draw.choice(('Always', 'Every time', 'Never', 'Everybody knows:'))} {part}" for part in parts)
    return Case(row.question, Text(""), Text(said), row.topic)


def vague(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with everyday words in place of its specific ones."""
    instead = ("thing", "part", "way", "good", "some", "kind", "work", "make")
    common = common_words()
    text = row.answer.raw
    for token in reversed(row.answer.tokens):
        if token.stem not in common and draw.random() < 0.9:
            text = text[: token.start] + draw.choice(instead) + text[token.end :]
    return _case(row, text)


def neighbour(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer to another question of the same topic."""
    others = [other for other in rows if other.topic == row.topic and other.answer.raw != row.answer.raw]
    return _case(row, draw.choice(others).answer.raw) if others else None


def stranger(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer to a question of another topic."""
    others = [other for other in rows if other.topic != row.topic]
    return _case(row, draw.choice(others).answer.raw) if others else None


def garbled(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with the letters of a quarter of its words turned round, judged without its reference."""
    text = row.answer.raw
    for token in reversed(row.answer.content):
        if draw.random() < 0.25:
            text = text[: token.start] + text[token.start : token.end][::-1] + text[token.end :]
    return Case(row.question, Text(""), Text(text), row.topic)


def miscounted(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with one of its numbers changed."""
    numbers = list(re.finditer(r"(?<![\w.,])\d+(?![\w.,])", row.answer.raw))
    if not numbers:
        return None
    one = draw.choice(numbers)
    return _replaced(row, one.start(), one.end(), str(int(one.group()) * 3 + 7))


def misnamed(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with one of its names, if it has any, replaced by one of another field."""
    names = [one for one in row.answer.tokens if is_name(one, row.answer) and row.answer.raw[one.start].isupper()]
    if not names:
        return None
    one = draw.choice(names)
    return _replaced(row, one.start, one.end, draw.choice(("Zanzibar", "QVX", "Oberon")))


def inverted(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with its first word that has an opposite turned into it."""
    for token in row.answer.tokens:
        opposite = opposites_of(token.word)
        if opposite:
            return _replaced(row, token.start, token.end, opposite)
    return None


def exchanged(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with two of its terms in each other's place."""
    common = common_words()
    terms = [token for token in row.answer.content if token.stem not in common and token.word.isalpha()]
    if len({token.stem for token in terms}) < 2:
        return None
    one = draw.choice(terms)
    other = draw.choice([token for token in terms if token.stem != one.stem])
    first, second = sorted((one, other), key=lambda token: token.start)
    text = row.answer.raw
    return _case(
        row, text[: first.start] + second.word + text[first.end : second.start] + first.word + text[second.end :]
    )


def crossed(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with the second half of each sentence taken from the next one."""
    parts = [row.answer.raw[start:end].split() for start, end in row.answer.sentences]
    if len(parts) < 2:
        return None
    said = [
        part[: len(part) // 2] + other[len(other) // 2 :]
        for part, other in zip(parts, parts[1:] + parts[:1], strict=True)
    ]
    return _case(row, " ".join(word for words in said for word in words))


def reordered(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer's sentences backwards, with words of order."""
    parts = [row.answer.raw[start:end] for start, end in reversed(row.answer.sentences)]
    if len(parts) < 2:
        return None
    return _case(row, " ".join(f"{'First' if not place else 'Then'} {part}" for place, part in enumerate(parts)))


def broken(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer in a block of code that is never closed, or as a list with an empty item."""
    return _case(row, draw.choice((f"```\n{row.answer.raw}", f"1. {row.answer.raw}\n2.\n")))


def misvoiced(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with one of: a row of exclamation marks, an emoji, slang, the words of an assistant."""
    said = draw.choice(("{}!!!", "{} 😂", "{} lol", "As an AI language model, I think: {}"))
    return _case(row, said.replace("{}", row.answer.raw))


def littered(row: Known, rows: Sequence[Known], draw: random.Random) -> Case | None:
    """Return the answer with one of: a role name, a special token, a placeholder, a tag."""
    said = draw.choice(("{}\n### Human:", "{}<|endoftext|>", "{} [INSERT EXAMPLE]", "<p>{}"))
    return _case(row, said.replace("{}", row.answer.raw))


MAKERS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        *(whole, hidden, condensed, joined),
        *(stub, fragment, half, padded, truncated, stuttered, looped, restated, stocked, sweeping, vague),
        *(neighbour, stranger, garbled, miscounted, misnamed, inverted, exchanged, crossed, reordered),
        *(broken, misvoiced, littered),
    )
}


def _case(row: Known, said: str) -> Case:
    return Case(row.question, row.answer, Text(said), row.topic)


def _replaced(row: Known, start: int, end: int, said: str) -> Case:
    return _case(row, row.answer.raw[:start] + said + row.answer.raw[end:])


def _first(text: Text, share: float) -> str:
    return text.raw[: text.tokens[max(int(len(text.tokens) * share), 1) - 1].end]
