"""Functions that hash and encode text, and take URLs apart."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import zlib
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from streamd.errors import TransformError
from streamd.expr.functions.catalogue import Catalogue
from streamd.expr.limits import check_text, type_name

ENCODING = Catalogue("text")
_URL_PARTS = ("scheme", "host", "port", "path", "query", "fragment", "user")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"a text is needed, not a {type_name(value)}")
    return value.encode("utf-8", "surrogatepass")


@ENCODING.function("sha256(text)", ('substring(sha256("a"), 0, 8)', "ca978112"), result="text")
def sha256(text: Any) -> str:
    """The SHA-256 of the text's UTF-8, as 64 hex digits."""
    return hashlib.sha256(_bytes(text)).hexdigest()


@ENCODING.function("sha1(text)", ('substring(sha1("a"), 0, 8)', "86f7e437"), result="text")
def sha1(text: Any) -> str:
    """The SHA-1 of the text's UTF-8, as 40 hex digits. Not for secrets."""
    return hashlib.sha1(_bytes(text), usedforsecurity=False).hexdigest()


@ENCODING.function("md5(text)", ('md5("a")', "0cc175b9c0f1b6a831c399e269772661"), result="text")
def md5(text: Any) -> str:
    """The MD5 of the text's UTF-8, as 32 hex digits. Not for secrets."""
    return hashlib.md5(_bytes(text), usedforsecurity=False).hexdigest()


@ENCODING.function("hmac_sha256(text, key)", ('substring(hmac_sha256("a", "k"), 0, 8)', "78da9151"), result="text")
def hmac_sha256(text: Any, key: Any) -> str:
    """The HMAC-SHA-256 of the text with a key, as 64 hex digits: a stand-in for a personal value."""
    return hmac.new(_bytes(key), _bytes(text), hashlib.sha256).hexdigest()


@ENCODING.function("crc32(text)", ('crc32("a")', 3904355907), result="int")
def crc32(text: Any) -> int:
    """The CRC-32 of the text's UTF-8."""
    return zlib.crc32(_bytes(text))


@ENCODING.function("hash(text)", ('hash("a")', 2340832890917691671), ('hash("user-17") % 10', 5), result="int")
def stable_hash(text: Any) -> int:
    """A number from 0 to 2^63 - 1 that is the same for the same text on every machine, to sample or to spread by."""
    return int.from_bytes(hashlib.blake2b(_bytes(text), digest_size=8).digest()) >> 1


@ENCODING.function("base64_encode(text)", ('base64_encode("ab")', "YWI="), result="text")
def base64_encode(text: Any) -> str:
    """The text's UTF-8 in Base64."""
    return base64.b64encode(_bytes(text)).decode("ascii")


@ENCODING.function("base64_decode(text)", ('base64_decode("YWI=")', "ab"), result="text")
def base64_decode(text: Any) -> str:
    """The text whose UTF-8 is given in Base64 (the URL-safe alphabet is understood too)."""
    try:
        return base64.b64decode(_bytes(text).replace(b"-", b"+").replace(b"_", b"/"), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise TransformError("base64_decode: the text is not the Base64 of UTF-8 text") from None


@ENCODING.function("hex_encode(text)", ('hex_encode("ab")', "6162"), result="text")
def hex_encode(text: Any) -> str:
    """The text's UTF-8 in hex digits."""
    return _bytes(text).hex()


@ENCODING.function("hex_decode(text)", ('hex_decode("6162")', "ab"), result="text")
def hex_decode(text: Any) -> str:
    """The text whose UTF-8 is given in hex digits."""
    try:
        return bytes.fromhex(_bytes(text).decode()).decode()
    except ValueError:
        raise TransformError("hex_decode: the text is not UTF-8 text in hex digits") from None


@ENCODING.function("url_encode(text)", ('url_encode("a b&c")', "a%20b%26c"), result="text")
def url_encode(text: Any) -> str:
    """The text as it has to be written inside a URL."""
    encoded = quote(_bytes(text), safe="")
    check_text(len(encoded))
    return encoded


@ENCODING.function("url_decode(text)", ('url_decode("a%20b%26c")', "a b&c"), result="text")
def url_decode(text: Any) -> str:
    """The text that was written inside a URL. Bytes that are no UTF-8 become U+FFFD."""
    if not isinstance(text, str):
        raise TypeError(f"url_decode takes a text, not a {type_name(text)}")
    return unquote(text)


def _url_part(name: str) -> str:
    if name not in _URL_PARTS:
        raise ValueError(f"not a part of a URL; there are {', '.join(_URL_PARTS)}")
    return name


@ENCODING.function(
    "url_part(url, part)",
    ('url_part("https://shop.example:8443/a/b?x=1#top", "host")', "shop.example"),
    ('url_part("https://shop.example:8443/a/b?x=1#top", "port")', 8443),
    ('url_part("https://shop.example/a/b?x=1", "path")', "/a/b"),
    literals={"part": _url_part},
)
def url_part(url: Any, part: Any) -> Any:
    """A part of a URL: scheme, host, port, path, query, fragment or user; null where the URL has none."""
    if not isinstance(url, str):
        raise TypeError(f"url_part takes a text, not a {type_name(url)}")
    try:
        split = urlsplit(url)
        names = {"host": "hostname", "user": "username"}
        return getattr(split, names.get(part, part)) or None
    except ValueError:
        raise TransformError("url_part: the text is not a URL") from None


@ENCODING.function(
    "url_parameter(url, name)",
    ('url_parameter("https://a.example/?x=1&y=two%20words", "y")', "two words"),
    ('url_parameter("https://a.example/?x=1", "z")', None),
)
def url_parameter(url: Any, name: Any) -> Any:
    """A parameter of a URL's query, decoded; the first where there are several, null where there is none."""
    if not isinstance(url, str):
        raise TypeError(f"url_parameter takes a text, not a {type_name(url)}")
    try:
        pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise TransformError("url_parameter: the text is not a URL with at most 1,000 parameters") from None
    return next((value for key, value in pairs if key == name), None)
