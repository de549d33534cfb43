"""Titles varied by rules: each in its category by an independent check, distinct, of one family, reproducible."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from copy import deepcopy
from importlib.resources import files

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.augment import Augmenter, augmenter_named
from luthier.data.augment.titles.lexicon import canonical, style_of, styled
from luthier.data.augment.titles.make import augment
from luthier.data.augment.titles.reading import CATEGORIES, in_category, read
from luthier.data.augment.titles.wording import occupation_of, variations
from luthier.data.normal import normalised
from luthier.data.rows import Row
from luthier.recipe.names import shipped


def title(name, text, family="f", group=None, **more):
    return Row(id=name, form="title", content={"title": text, "label": family}, file="f", line=1, group=group, **more)


def shipped_rows():
    path = shipped()["jobtitles"].parent / "data" / "titles.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [
            title(f"t{number}", row["title"], row["family"], row["family"], labels={"sector": row["sector"]})
            for number, row in enumerate(csv.DictReader(file))
        ]


@pytest.fixture(scope="module")
def sources():
    return shipped_rows()


@pytest.fixture(scope="module")
def made(sources):
    return augment(sources, 6000, 7)


def every(text, category, seed=0):
    return [variant.text for variant in variations(text, category, random.Random(seed))]


# ── an independent check of each category, on the YAML alone ──


def words(text):
    return re.findall(r"[a-z0-9+&/#.']+", text.lower())


def words_of(value):
    if isinstance(value, dict):
        return {word for one in value.values() for word in words_of(one)}
    if isinstance(value, list):
        return {word for one in value for word in words_of(one)}
    return set(words(str(value)))


def data(name):
    return yaml.safe_load(files("luthier.data.augment.titles").joinpath(f"{name}.yaml").read_text("utf-8"))


LEVELS, CONTEXT, SKILLS, KEYWORDS = (data(name) for name in ("levels", "context", "skills", "keywords"))
LEVEL_WORDS = words_of(LEVELS["ladders"]) | words_of(LEVELS["experience"]) | words_of(LEVELS["grades"]) | {"level"}
SECTORS = [[sector["employers"], sector["teams"]] for sector in CONTEXT["sectors"].values()]
CONTEXT_WORDS = words_of([CONTEXT[name] for name in ("places", "contracts", "urgencies", "teams", "hours")] + SECTORS)
SKILL_WORDS = words_of([[one["skills"], one["fields"]] for one in SKILLS["occupations"]] + SKILLS["languages"])
LINKS = {"-", "in", "for", "with", "and", "skills", "skilled", "experience", "specialising", "/"}
SETS = [(one, one) if isinstance(one, list) else (one["same"], one["same"] + one["to"]) for one in KEYWORDS["sets"]]


def added(source, text):
    return set((Counter(words(text)) - Counter(words(source))).elements()) - LINKS


def lost(source, text):
    return set((Counter(words(source)) - Counter(words(text))).elements()) - LINKS


def replaced_once(text):
    folded = " ".join(text.lower().split())
    for froms, tos in SETS:
        for one in froms:
            if one.lower() not in folded:
                continue
            for match in re.finditer(rf"(?<![\w]){re.escape(one.lower())}(?![\w])", folded):
                for other in tos:
                    yield folded[: match.start()] + other.lower() + folded[match.end() :]


def is_keywords(source, text):
    if text.lower() in (once := set(replaced_once(source))):
        return True
    return any(text.lower() in set(replaced_once(one)) for one in once)


def is_seniority(source, text):
    gone, new = lost(source, text), added(source, text)
    return bool(new) and new | gone <= LEVEL_WORDS


def is_skills(source, text):
    return not lost(source, text) and bool(added(source, text)) and added(source, text) <= SKILL_WORDS


def is_context(source, text):
    return not lost(source, text) and bool(added(source, text)) and added(source, text) <= CONTEXT_WORDS


def is_formatting(source, text):
    marks = r"\(m/f/d\)|\(f/m/x\)|\(all genders\)|job title:|position:|vacancy:|role:|- vacancy$|wanted$"
    bare = re.sub(rf"{marks}|[-/] ref\.? \d+|\(job id \d+\)|\[\d+\]", "", text.lower())
    level = {"sr": "senior", "snr": "senior", "jr": "junior", "jnr": "junior"}
    spelt = [level.get(word, word) for word in re.split(r"[\s,._-]+", bare) if word not in ("and", "&")]
    kept = [word for word in re.split(r"[\s-]+", source.lower()) if word not in ("and", "&")]
    return source != text and letters(spelt) == letters(kept)


def letters(found):
    return sorted(re.sub(r"[^a-z0-9]", "", "".join(found)))


CHECKS = {
    "keywords": is_keywords,
    "seniority": is_seniority,
    "skills": is_skills,
    "context": is_context,
    "formatting": is_formatting,
}


def test_every_variation_is_in_its_category_by_an_independent_check(sources, made):
    text_of = {row.id: row.content["title"] for row in sources}
    wrong = [
        (row.labels["category"], text_of[row.made_from], row.content["title"])
        for row in made.rows
        if not CHECKS[row.labels["category"]](text_of[row.made_from], row.content["title"])
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("category", "text"),
    [
        ("keywords", "Registered Nurse - London"),
        ("keywords", "Nurse, Registered"),
        ("seniority", "Registered Nurse (Wound Care)"),
        ("seniority", "Senior Staff Cook"),
        ("skills", "Senior Registered Nurse"),
        ("skills", "Registered Plumber - Wound Care"),
        ("context", "Registered Nurse - Wound Care"),
        ("context", "Nurse - London"),
        ("formatting", "Registered Nurse - London"),
        ("formatting", "Registered Nurse"),
        ("formatting", "Registered Nurses"),
    ],
)
def test_both_checks_can_say_no(category, text):
    assert not CHECKS[category]("Registered Nurse", text)
    assert not in_category("Registered Nurse", text, category)


@pytest.mark.parametrize(
    ("category", "text"),
    [
        ("keywords", "RN"),
        ("seniority", "Senior Registered Nurse"),
        ("seniority", "Registered Nurse with 5+ Years of Experience"),
        ("skills", "Registered Nurse - Wound Care"),
        ("context", "Urgent: Registered Nurse (Part-Time)"),
        ("context", "Registered Nurse in London"),
        ("formatting", "NURSE, REGISTERED"),
        ("formatting", "#RegisteredNurse"),
        ("formatting", "Vacancy: Registered Nurse"),
    ],
)
def test_each_category_by_example(category, text):
    assert [name for name in CATEGORIES if in_category("Registered Nurse", text, name)] == [category]
    assert CHECKS[category]("Registered Nurse", text)


def test_unknown_places_are_context_only_when_asked_leniently():
    assert not in_category("Registered Nurse", "Registered Nurse, Ouagadougou", "context")
    assert in_category("Registered Nurse", "Registered Nurse, Ouagadougou", "context", strict=False)
    assert not in_category("Registered Nurse", "Senior Registered Nurse, Ouagadougou", "context", strict=False)


# ── the rows ──


def test_variations_are_distinct_and_none_is_a_title_of_another_family(sources, made):
    assert len(made.rows) == 6000 - len(sources)
    texts = [normalised(row.content["title"]) for row in made.rows]
    assert len(set(texts)) == len(texts)
    family_of = {}
    for row in (*sources, *made.rows):
        bag = " ".join(sorted(normalised(row.content["title"]).split()))
        assert family_of.setdefault(bag, row.content["label"]) == row.content["label"], row.content["title"]
    assert not set(texts) & {normalised(row.content["title"]) for row in sources}


def test_variations_are_traced_and_keep_family_group_and_labels(sources, made):
    by_id = {row.id: row for row in sources}
    for row in made.rows:
        source = by_id[row.made_from]
        assert row.content == {**source.content, "title": row.content["title"]}
        assert (row.group, row.file, row.line) == (source.group, source.file, source.line)
        assert row.labels == {**source.labels, "category": row.labels["category"], "source": "rules"}
        assert row.labels is not source.labels
        assert row.made_by
    assert len({row.id for row in (*sources, *made.rows)}) == 6000


def test_the_categories_are_even_and_sources_too(sources, made):
    counts = Counter(row.labels["category"] for row in made.rows)
    assert set(counts) == set(CATEGORIES)
    assert all(counts[name] > 800 for name in CATEGORIES if name != "keywords")
    assert counts["keywords"] > 600
    each = Counter(row.made_from for row in made.rows)
    assert set(each.values()) == {2, 3}
    few = augment(sources, len(sources) + 100, 7)
    assert set(Counter(row.made_from for row in few.rows).values()) == {1}


def test_one_source_gives_all_its_categories_before_one_again():
    found = augment([title("a", "Registered Nurse")], 6, 0)
    assert sorted(row.labels["category"] for row in found.rows) == sorted(CATEGORIES)


def test_same_seed_same_rows_and_another_seed_others(sources):
    some = sources[:100]
    first, again, other = (augment(deepcopy(some), 300, seed).rows for seed in (1, 1, 2))
    assert first == again
    assert [row.content for row in first] != [row.content for row in other]


def test_what_was_refused_is_kept_with_its_reason(made):
    assert Counter(refusal.reason for refusal in made.refusals) == made.refused
    assert all(refusal.made_from and refusal.text and refusal.category for refusal in made.refusals)
    assert sum(figures["variations"] for figures in made.diversity.values()) == len(made.rows)


# ── families ──


def test_a_title_of_another_family_is_never_made():
    train = [title("a", "Shop Assistant", "shop"), title("b", "Sales Assistant", "sales")]
    found = augment(train, 400, 0)
    assert "sales assistant" not in {row.content["title"].lower() for row in found.rows if row.made_from == "a"}
    assert found.refused["other-family"] >= 1
    held = augment([train[0]], 200, 0, [title("h", "Sales Assistant", "sales")])
    assert "sales assistant" not in {row.content["title"].lower() for row in held.rows}


def test_titles_that_say_the_same_in_two_families_are_left_alone_and_told():
    train = [title("a", "Data Engineer", "x"), title("b", "Engineer, Data", "y"), title("c", "Cook", "z")]
    found = augment(train, 60, 0)
    assert {row.made_from for row in found.rows} == {"c"}
    assert "2 of 3 training titles say the same as a title of another family" in found.warnings[0]
    held = augment([train[0], train[2]], 20, 0, [title("h", "DATA ENGINEER (m/f/d)", "y")])
    assert {row.made_from for row in held.rows} == {"c"}


def test_where_levels_tell_families_apart_they_are_not_varied():
    train = [title("a", "Software Engineer", "1"), title("b", "Senior Software Engineer", "2")]
    found = augment(train, 300, 0)
    assert not [row for row in found.rows if row.labels["category"] == "seniority"]
    assert found.refused["other-family"] > 5
    assert [row for row in found.rows if row.labels["category"] == "context"]


# ── grammar ──


@pytest.mark.parametrize("text", ["Senior Data Engineer", "Junior Accountant", "Apprentice Electrician", "Lead Welder"])
def test_a_level_is_replaced_and_never_doubled(text):
    found = every(text, "seniority")
    assert len(found) > 10
    for one in found:
        assert len(read(one).levels) <= 2
        assert not re.search(
            r"(?i)\b(senior|junior|lead|apprentice|trainee)\b.*\b(senior|junior|lead|apprentice|trainee)\b", one
        )


@pytest.mark.parametrize(
    "text",
    [
        "Head Chef",
        "Assistant Professor",
        "Vice Principal",
        "School Principal",
        "Finance Director",
        "Deputy Shop Manager",
    ],
)
def test_a_title_that_says_its_rank_gets_no_junior_level(text):
    found = every(text, "seniority")
    assert found
    assert not [one for one in found if re.search(r"(?i)junior|trainee|entry|apprentice|graduate", one)]


@pytest.mark.parametrize("text", ["Junior School Class Teacher", "Lead Roofing Worker", "Staff Nurse", "Principal"])
def test_words_that_look_like_levels_and_are_none(text):
    assert read(text).levels == ()


def test_experience_fits_the_level():
    for one in every("Accountant", "seniority"):
        years = re.search(r"(\d+)\+? Years", one)
        if years and re.search("Junior|Trainee|Entry", one):
            assert int(years[1]) < 3
        if years and re.search("Senior|Lead|Experienced", one):
            assert int(years[1]) >= 5


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("Nurse Recruiter", "Recruiter"),
        ("Registered Nurse", "Nurse"),
        ("certified nursing assistant", "nursing assistant"),
        ("Sous Chef de Partie", "Chef de Partie"),
        ("Nursery Assistant", "Nursery Assistant"),
        ("Zorblax Handler", ""),
        ("it", ""),
    ],
)
def test_the_occupation_is_what_the_title_ends_in(text, phrase):
    assert occupation_of(text).phrase == phrase


def test_no_absurd_skills_or_places_of_work():
    assert not [one for one in every("Bus Driver", "context") if re.search("Remote|Work from Home", one)]
    assert not [one for one in every("Zorblax Handler", "context") if re.search("Remote|Shift|Hospital", one)]
    spoken = every("Zorblax Handler", "skills")
    assert spoken
    assert all("Speaking" in one or "Bilingual" in one for one in spoken)
    assert not [one for one in every("Spanish Translator", "skills") if "Speaking" in one]
    assert not [one for one in every("Paediatric Nurse", "skills") if "Cardiology" in one]
    assert [one for one in every("Nurse", "skills") if "Cardiology" in one]


@pytest.mark.parametrize(
    ("text", "style", "phrase", "expected"),
    [
        ("data engineer", "lower", "RN", "rn"),
        ("DATA ENGINEER", "upper", "senior", "SENIOR"),
        ("Accountant, cost", "sentence", "ledger clerk", "ledger clerk"),
        ("Data Engineer", "title", "chef de cuisine", "Chef de Cuisine"),
        ("RN", "title", "registered nurse", "Registered Nurse"),
    ],
)
def test_a_variation_is_written_as_its_source(text, style, phrase, expected):
    assert style_of(text) == style
    assert styled(phrase, style) == expected


def test_lower_case_titles_stay_lower_case():
    for category in ("keywords", "seniority", "skills", "context"):
        assert all(one == one.lower() for one in every("data engineer", category))


def test_lists_of_the_form_noun_comma_kind_are_turned():
    assert "Cost accountant" in [one.capitalize() for one in every("Accountant, cost", "formatting")]
    assert "Engineer, Data" in every("Data Engineer", "formatting")
    assert not [one for one in every("Head of School Transport", "formatting") if one.startswith("Transport,")]


def test_known_synonyms_mean_the_same():
    assert canonical("RN, Chicago") == canonical("Registered Nurse, Chicago")
    assert canonical("it specialist") != canonical("IT specialist")  # the pronoun is no abbreviation


# ── any titles ──


@pytest.mark.parametrize(
    "text", ["Zorblax Handler", "quality assurance engineers (automotive)", "Food & Beverage Attendant", "Clerk III"]
)
def test_unknown_titles_are_varied_by_the_general_rules(text):
    found = augment([title("a", text)], 40, 0)
    assert len(found.rows) == 39
    assert {"seniority", "context", "formatting"} <= {row.labels["category"] for row in found.rows}


def test_titles_in_other_languages_are_left_alone_and_told():
    alone = [
        "Ингенер данных",
        "データエンジニア",
        "Leiter der Abteilung für Finanzen und Steuern",
        "🚀🚀",
        "x" * 10_000,
    ]
    found = augment([title(f"r{n}", text) for n, text in enumerate(alone)] + [title("a", "Data Engineer")], 20, 0)
    assert {row.made_from for row in found.rows} == {"a"}
    assert "5 of 6 training titles are left alone" in found.warnings[0]


def test_one_family_empty_sets_and_reached_targets():
    assert augment([], 10, 0).rows == []
    assert augment([title("a", "")], 10, 0).rows == []
    assert "reached" in augment([title("a", "Cook")], 1, 0).warnings[0]
    assert len(augment([title(f"c{n}", text) for n, text in enumerate(["Cook", "Chef"])], 10, 0).rows) == 8
    exhausted = augment([title("a", "Cook")], 100_000, 0)
    assert "were wanted" in exhausted.warnings[0]
    same = [
        title("a", "Cook", "1"),
        title("b", "Cook", "2"),
    ]  # one title in two families is ambiguous: never multiplied
    assert augment(same, 50, 0).rows == []


def test_variations_are_not_varied_again():
    once = title("a~1", "Senior Cook", made_from="a", made_by="level-before")
    assert {row.made_from for row in augment([title("a", "Cook"), once], 10, 0).rows} == {"a"}


def test_it_is_an_augmenter_chosen_by_the_form_of_the_rows():
    way: Augmenter = augmenter_named("rules", "title")
    assert way is augment
    assert augmenter_named("rules", "chat") is not way
    assert augmenter_named("rules", "pair") is augmenter_named("rules", "chat")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.sampled_from(CATEGORIES), st.integers(0, 9))
def test_any_text_can_be_read_and_varied(text, category, seed):
    read(text)
    for variant in list(variations(text, category, random.Random(seed)))[:30]:
        assert variant.category == category
        assert variant.text == " ".join(variant.text.split())


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["Cook", "Senior Cook", "RN", "Data Engineer", "Head Chef", "=cmd()", "🍕 Chef", "Chef, Head"]
            ),
            st.sampled_from("xyz"),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 40),
)
def test_every_variation_passes_every_check(found, target):
    train = [title(f"r{n}", text, family) for n, (text, family) in enumerate(found)]
    made = augment(train, target, 0)
    assert len(train) + len(made.rows) <= max(target, len(train))
    family_of = {}
    for row in train:
        family_of.setdefault(normalised(row.content["title"]), set()).add(row.content["label"])
    for row in made.rows:
        assert family_of.get(normalised(row.content["title"]), set()) <= {row.content["label"]}
        assert in_category(train[int(row.made_from[1:])].content["title"], row.content["title"], row.labels["category"])
