"""The NEXMark events and answers that come with the tests; tests/data/nexmark/README.md says what they are."""

from __future__ import annotations

import json
import lzma
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from services.process import REPOSITORY

ARCHIVE = REPOSITORY / "tests" / "data" / "nexmark" / "nexmark.tar.xz"
QUERIES = tuple(f"q{number}" for number in range(24))
# Queries whose answer is a table, with its key: results may change while events come, and the last of each key counts.
TABLES = {
    "q4": ("id",),
    "q6": ("auction",),
    "q9": ("id",),
    "q15": ("day",),
    "q16": ("channel", "day"),
    "q17": ("auction", "day"),
    "q18": ("bidder", "auction"),
    "q19": ("auction", "rank_number"),
}


def unpack(folder: Path) -> Path:
    """Put events.ndjson, side_input.csv and the answers, qN.ndjson, into a folder."""
    with lzma.open(ARCHIVE) as packed, tarfile.open(fileobj=packed) as archive:
        archive.extractall(folder, filter="data")
    return folder


def rows(query: str, lines: Iterable[bytes]) -> Counter[str]:
    """JSON documents as a multiset of rows: keys sorted, prices with at most three decimals."""
    documents = [json.loads(line) for line in lines]
    if query in TABLES:
        documents = list({tuple(document[name] for name in TABLES[query]): document for document in documents}.values())
    return Counter(_row(document) for document in documents)


def _row(document: dict[str, object]) -> str:
    price = document.get("price")
    if isinstance(price, float):
        document["price"] = round(price, 3)
    return json.dumps(document, sort_keys=True)


def difference(got: Counter[str], wanted: Counter[str]) -> str:
    """What is missing and what is too much, in a few lines; empty when equal."""
    missing, extra = wanted - got, got - wanted
    if not missing and not extra:
        return ""
    lines = [f"{missing.total()} of {wanted.total()} rows are missing, {extra.total()} are too much"]
    lines += [f"missing: {row[:300]}" for row in list(missing)[:3]] + [f"extra: {row[:300]}" for row in list(extra)[:3]]
    return "\n".join(lines)
