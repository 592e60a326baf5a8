"""What is a character, and what UTF-8 cannot hold."""

import pytest
from prefmill.base.characters import encodable, is_encodable

BUTTERFLY = "\U0001f98b"


@pytest.mark.parametrize("text", ["", "plain", BUTTERFLY, "\0", "\ud7ff\ue000", "\uffff"])
def test_what_utf8_holds_stays_as_it_is(text):
    assert is_encodable(text)
    assert encodable(text) == text


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("\ud83e\udd8b", BUTTERFLY),
        ("half \ud83e", "half \ufffd"),
        ("\udd8b\ud83e", "\ufffd\ufffd"),
        ("\ud83e\ud83e\udd8b!", f"\ufffd{BUTTERFLY}!"),
    ],
)
def test_halves_are_joined_or_replaced(text, mended):
    assert not is_encodable(text)
    assert encodable(text) == mended
    assert is_encodable(mended)
