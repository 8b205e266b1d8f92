"""Bytes to documents and back, one file per format."""

from streamd.codecs.registry import Codec, codec
from streamd.codecs.undecodable import Undecodable

__all__ = ["Codec", "Undecodable", "codec"]
