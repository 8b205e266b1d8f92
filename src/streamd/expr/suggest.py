"""Names for people who came close."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

# What other languages call our functions.
ALIASES: Mapping[str, str] = {
    "startswith": "starts_with",
    "startsWith": "starts_with",
    "endswith": "ends_with",
    "endsWith": "ends_with",
    "strip": "trim",
    "lstrip": "trim_start",
    "rstrip": "trim_end",
    "toLowerCase": "lower",
    "lowercase": "lower",
    "lcase": "lower",
    "toUpperCase": "upper",
    "uppercase": "upper",
    "ucase": "upper",
    "length": "len",
    "size": "len",
    "find": "index_of",
    "indexOf": "index_of",
    "position": "index_of",
    "includes": "contains",
    "substr": "substring",
    "slice": "substring",
    "ljust": "pad_end",
    "rjust": "pad_start",
    "zfill": "pad_start",
    "lpad": "pad_start",
    "rpad": "pad_end",
    "ifnull": "coalesce",
    "nvl": "coalesce",
    "isnull": "is_null",
    "exists": "has",
    "default": "get",
    "avg": "mean",
    "average": "mean",
    "ceiling": "ceil",
    "pow": "power",
    "distinct": "unique",
    "set": "unique",
    "list": "unique",
    "items": "entries",
    "dict": "from_entries",
    "regex": "matches",
    "match": "matches",
    "search": "matches",
    "findall": "extract_all",
    "sub": "replace_pattern",
    "regexp_extract": "extract",
    "regexp_replace": "replace_pattern",
    "typeof": "type_of",
    "type": "type_of",
    "cast": "int",
    "number": "float",
    "string": "str",
    "text": "str",
    "boolean": "bool",
    "strftime": "format_time",
    "date_format": "format_time",
    "strptime": "parse_time",
    "to_timestamp": "parse_time",
    "date_trunc": "truncate_time",
    "current_timestamp": "now",
    "loads": "json_parse",
    "dumps": "json_text",
    "to_json": "json_text",
    "from_json": "json_parse",
    "urlencode": "url_encode",
    "rand": "random",
    "mod": "bucket",
    "reversed": "reverse",
    "update": "merge",
}


def closest(name: str, known: Iterable[str], cutoff: float = 0.7) -> str | None:
    """The known name that was most likely meant."""
    known = list(known)
    alias = ALIASES.get(name)
    if alias in known:
        return alias
    folded = {candidate.replace("_", ""): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower().replace("_", ""), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The hint with the closest name, if there is one."""
    found = closest(name, known)
    return f"did you mean {found}?" if found else None
