"""Text in other encodings than UTF-8."""

from __future__ import annotations

import pytest

from streamd.codecs import CodecContext, codec
from streamd.codecs.codec import PlainCodec
from streamd.codecs.text import TextSettings
from streamd.errors import ExtractError, LoadError
from streamd.sources.file import FileSourceConfig


def made(encoding):
    return codec("text", TextSettings(encoding=encoding), CodecContext())


@pytest.mark.parametrize(("encoding", "data"), [("latin-1", b"caf\xe9"), ("utf-16", "café".encode("utf-16"))])
def test_a_text_survives_the_way_there_and_back(encoding, data):
    form = made(encoding)
    assert form.decode(data) == {"text": "café"}
    assert form.encode({"text": "café"}) == data
    assert form.passes(made(encoding))
    assert not form.passes(made("cp1252"))


def test_what_the_encoding_has_no_form_for_is_an_error_without_its_contents():
    with pytest.raises(LoadError, match=r"^the field 'text' has no latin-1 form at character 4") as caught:
        made("latin-1").encode({"text": "4711\u20ac"})
    assert "4711" not in str(caught.value)
    with pytest.raises(ExtractError, match="not valid ascii at byte 4") as caught:
        made("ascii").decode(b"4711\xe9")
    assert "4711" not in str(caught.value)
    with pytest.raises(ExtractError, match="not valid utf-16"):
        made("utf-16").decode(b"\xff\xfe\x00")


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8"])
def test_utf_8_stays_two_functions(encoding):
    assert type(made(encoding)) is PlainCodec


@pytest.mark.parametrize("encoding", ["latin-99", "base64", "rot13", "undefined"])
def test_what_is_no_encoding_of_text_is_refused(encoding):
    with pytest.raises(ValueError, match="expected an encoding of text"):
        TextSettings(encoding=encoding)


def test_lines_of_files_have_no_settings():
    with pytest.raises(ValueError, match="text: expected the name alone"):
        FileSourceConfig(path="a", format={"text": {"encoding": "latin-1"}})
