"""What models and files say reaches the screen as text: nothing in it moves the cursor, clears, or hides."""

import json
import unicodedata

import pytest
from prefmill.base.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\u001b[2J\u001b]0;title\u0007"),
        ("a\x9b31mred", r"a\u009b31mred"),  # C1: CSI in one character
        ("one\r\ntwo\tthree\x7f", r"one\r\ntwo\tthree\u007f"),
        ("user\u202egnp.exe\u2066", r"user\u202egnp.exe\u2066"),
        ("half \ud83d", r"half \ud83d"),
        ("line\u2028line", r"line\u2028line"),
    ],
)
def test_what_steers_a_terminal_is_shown(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text", ["", "plain", r"C:\new\table", "grüße, 日本語, עברית, نیم\u200cفاصله", "👩\u200d👩\u200d👧 ☂\ufe0f"]
)
def test_text_stays_as_it_is(text):
    assert printable(text) == text


def test_lines_may_be_kept():
    assert printable("a\nb\x1b\tc", keep="\n") == "a\nb\\u001b\\tc"


def test_every_control_character_is_shown_and_the_result_can_be_encoded():
    every = "".join(map(chr, range(0x110000)))
    shown = printable(every)
    shown.encode("utf-8")
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]
    overriding = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    assert not [c for c in shown if unicodedata.bidirectional(c) in overriding]
    assert len(shown) < 1.02 * len(every)


def test_json_stays_the_same_json():
    value = {"text": '\x1b[31m \x9b \u202e \x7f \ud800 \n \\ "quoted"'}
    line = printable(json.dumps(value, ensure_ascii=False))
    assert "\u202e" not in line
    assert json.loads(line) == value
