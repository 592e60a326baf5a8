import hashlib
from itertools import product

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.writing.grammar import Grammar, number_for, with_articles

RULES = {
    "scene": ["a(n) {animal} {place}", "{place}: nobody"],
    "animal": ["otter", "heron"],
    "place": ["here", "there"],
}


def test_a_grammar_writes_exactly_its_language():
    """Numbers 0.. against the language written out by hand."""
    expected = {f"{animal} {place}" for animal, place in product(["an otter", "a heron"], ["here", "there"])}
    expected |= {"here: nobody", "there: nobody"}
    grammar = Grammar(RULES, "test")
    assert {grammar.write("scene", number) for number in range(100)} == expected
    assert grammar.size("scene") == len(expected) == 6


def test_a_number_writes_the_same_text_everywhere():
    assert number_for(0, "animal", 3) == int(hashlib.sha512(b"0\x00animal\x003").hexdigest(), 16)
    assert Grammar(RULES, "test").write("scene", 6) == "a heron there"  # 6 = 2 * (2 * (2 * 0 + 1) + 1) + 0


def test_a_rule_used_twice_takes_two_alternatives():
    grammar = Grammar({"pair": ["{one} and {one}"], "one": ["x", "y", "z"]}, "test")
    texts = {grammar.write("pair", number) for number in range(50)}
    assert texts == {f"{a} and {b}" for a, b in product("xyz", "xyz") if a != b}


def test_given_texts_are_not_expanded():
    grammar = Grammar({"ask": ["What is the {thing}?"]}, "test", given=("thing",))
    assert grammar.write("ask", 5, {"thing": "{ask}"}) == "What is the {ask}?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A(n) owl, a(n) unicorn, a(n) hour", "An owl, a unicorn, an hour"),
        ("a(n) one-way street and a(n) olive", "a one-way street and an olive"),
        ("a(n) European heirloom, a(n) ivory fan", "a European heirloom, an ivory fan"),
    ],
)
def test_articles_follow_the_sound(text, expected):
    assert with_articles(text) == expected


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"a": ["{b}"]}, "no rule 'b', which 'a' uses"),
        ({"a": ["{b}"], "b": ["x", "{a}"]}, "leads back to itself"),
        ({"a": []}, "not a list of texts"),
        ({"a": [3]}, "not a list of texts"),
    ],
)
def test_what_is_no_grammar_is_refused_by_name(rules, message):
    with pytest.raises(PrefmillError, match=message):
        Grammar(rules, "mine.yaml")
