"""Bytes to documents and back, one file per format."""

from streamd.codecs.codec import Codec, CodecContext
from streamd.codecs.format import JSON, TEXT, BesideFormat, FileFormat, Format, LineFormat, ShownFormat, TopicFormat
from streamd.codecs.registry import codec
from streamd.codecs.undecodable import Undecodable

__all__ = [
    "JSON",
    "TEXT",
    "BesideFormat",
    "Codec",
    "CodecContext",
    "FileFormat",
    "Format",
    "LineFormat",
    "ShownFormat",
    "TopicFormat",
    "Undecodable",
    "codec",
]
