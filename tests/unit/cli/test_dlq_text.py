"""Dead letters on a terminal: everything is shown, and nothing of it is an order to the terminal."""

from __future__ import annotations

from pathlib import Path

from streamd.cli.dlq_text import letter_json, letter_lines
from streamd.dlq.letter import Letter
from streamd.dlq.places import Place

PLACE = Place("log", "broken", "shop", Path("state"))


def letter(value: bytes | None, key: bytes | None = None, whole: bool = True) -> Letter:
    headers = (("a\x1b[2J", b"\x07bell"), ("none", None))
    return Letter(
        1, 40, key, value, 5, headers, "p", "set", "transform", "TransformError", "bad\x1b[31m", "orders", 3, 17,
        1_700_000_000_000, 2, "source", 1, ("first", 0, 9), whole,
    )  # fmt: skip


def shown(found: Letter) -> str:
    return "\n".join(letter_lines(PLACE, found, None))


def test_documents_are_laid_out() -> None:
    text = shown(letter(b'{"n": 1, "a": ["\\u001b"]}', b"ann"))
    assert '"n": 1,' in text
    assert "key    ann" in text
    assert "from orders[3] 17, at first first/0/9, pipeline p" in text
    assert "log broken[1] 40, replayed 1 times" in text


def test_nothing_is_an_order_to_the_terminal() -> None:
    for value in (b"\x1b[2Jgone", b"\x00\xff\x9b", b'{"a": "\xc2\x9b31m"}', b"line\nline\r", None):
        text = shown(letter(value, b"\x1b\xff"))
        assert all(character.isprintable() or character == "\n" for character in text), text
    assert "\\x1b[2Jgone" in shown(letter(b"\x1b[2Jgone"))
    assert "\\xff" in shown(letter(b"\xff"))
    assert "none (a tombstone)" in shown(letter(None))
    assert "(less than the record had)" in shown(letter(b"cut", whole=False))


def test_what_is_nested_too_deeply_to_be_laid_out_is_shown_as_it_is() -> None:
    deep = b"[" * 300 + b"]" * 300
    assert "  value  [[[" in shown(letter(deep))
    assert letter_json(PLACE, letter(deep), None)["value"] == deep.decode()


def test_json_keeps_every_byte() -> None:
    found = letter_json(PLACE, letter(b"\xff\x00", b"\xfe"), "purged")
    assert (found["value_base64"], found["key_base64"], found["done"]) == ("/wA=", "/g==", "purged")
    assert letter_json(PLACE, letter(b"text"), None)["value"] == "text"
    assert letter_json(PLACE, letter(b'{"n": 1}'), None)["value"] == {"n": 1}
    assert letter_json(PLACE, letter(None), None)["value"] is None
    assert found["headers"] == [{"name": "a\x1b[2J", "value": "\x07bell"}, {"name": "none", "value": None}]
