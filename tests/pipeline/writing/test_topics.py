"""The package's own wording, and a user's in its place."""

import re
from collections import Counter

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.writing.topics import LATER, PAPER, load_topics
from prefmill.pipeline.writing.wording import Wording, copy_wording, fill
from prefmill.pipeline.writing.writers import PROMPT_READER, GrammarWriter, Order

# two articles, the wrong article, a word twice
WRONG = re.compile(
    r"\b(?:a|an) (?:a|an|the|two|three|four)\b(?!-)|\ba (?!one)[aeio]\w|\ban [^aeiouh]\w|\b(\w+) \1\b", re.IGNORECASE
)
BUILT_IN = load_topics("all", Wording())


def test_the_topics_are_those_of_the_paper_and_the_later_ones():
    assert {topic.name for topic in BUILT_IN} == {*PAPER, *LATER}
    assert len(PAPER) == 10
    assert len(LATER) == 5
    assert [topic.name for topic in load_topics("later, art", Wording())] == [*LATER, "art"]


@pytest.mark.parametrize("topic", BUILT_IN, ids=lambda topic: topic.name)
def test_every_topic_writes_readable_prompts(topic):
    orders = [Order(topic, number) for number in range(400)]
    texts = [reading.texts[0] for reading in GrammarWriter(0).write(orders)]
    assert len(set(texts)) >= 398
    assert topic.grammar.size("prompt") > 1_000_000
    for text in texts:
        assert PROMPT_READER.reason_against(text, "") == ""
        assert re.fullmatch(r"[A-Z][A-Za-z ,'’-]+\.", text), text
        assert 12 <= len(text.split()) <= 60
        assert not WRONG.search(text), text
    nouns = Counter(word for text in texts for word in set(text.lower().split()))
    assert sum(count > 200 for count in nouns.values()) <= 8, "one pattern dominates"


def test_a_seed_is_another_set_of_prompts():
    orders = [Order(BUILT_IN[0], number) for number in range(50)]
    first, again, other = (GrammarWriter(seed).write(orders) for seed in (1, 1, 2))
    assert first == again
    assert not {one.texts[0] for one in first} & {one.texts[0] for one in other}


def test_a_folder_of_ones_own_replaces_files_and_adds_topics(tmp_path):
    own = tmp_path / "mine"
    names = copy_wording(own)
    assert Wording(own).digest(*names) == Wording().digest(*names)
    with pytest.raises(PrefmillError, match="already"):
        copy_wording(own)
    (own / "topics" / "space.yaml").write_text('hint: space\naspects: [moons]\ngrammar: {prompt: ["{color} moon"]}\n')
    (own / "prompts.txt").write_text("{count} about {topic}")
    assert [topic.name for topic in load_topics("space", Wording(own))] == ["space"]
    assert Wording(own).request("prompts.txt", ("topic", "count")) == "{count} about {topic}"
    assert Wording(own).digest("prompts.txt") != Wording().digest("prompts.txt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("prompts.txt", "about {topic}", r"lacks \{count\}"),
        ("prompts.txt", "{count} about {topic} {color}", r"\{color\}, which nothing fills"),
        ("prompts.txt", "  ", "is empty"),
        ("topics/art.yaml", "hint: [", "not valid YAML"),
        ("topics/art.yaml", "- a", "not a mapping"),
        ("topics/art.yaml", "aspects: [a]", "has no hint"),
        ("topics/art.yaml", "hint: a", "no list of aspects"),
        ("topics/art.yaml", "{hint: a, aspects: [b], grammar: {x: [y]}}", "no rule 'prompt'"),
        ("topics/art.yaml", "{hint: a, aspects: [b], gramar: {}}", "has 'gramar'"),
    ],
)
def test_what_is_wrong_in_a_users_file_is_named(tmp_path, name, content, message):
    (tmp_path / "topics").mkdir()
    (tmp_path / name).write_text(content)
    read = load_topics if name.startswith("topics") else lambda _, wording: wording.request(name, ("topic", "count"))
    with pytest.raises(PrefmillError, match=message) as error:
        read("art", Wording(tmp_path))
    assert error.value.fix


def test_a_folder_without_wording_and_an_unknown_topic_are_refused(tmp_path):
    with pytest.raises(PrefmillError, match="holds no wording"):
        Wording(tmp_path)
    with pytest.raises(PrefmillError, match="no topic 'cars'"):
        load_topics("art,cars", Wording())


def test_a_value_with_braces_is_not_filled_again():
    assert fill("{a} {b} {c}", {"a": "{b}", "b": "x"}) == "{b} x {c}"
