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
QUERIES = ("q0", "q1", "q2", "q21", "q22")
ROWS = {"q0": 18_400, "q1": 18_400, "q2": 79, "q21": 17_538, "q22": 18_400}


def unpack(folder: Path) -> Path:
    """Put events.ndjson and the answers into a folder."""
    with lzma.open(ARCHIVE) as packed, tarfile.open(fileobj=packed) as archive:
        archive.extractall(folder, filter="data")
    return folder


def rows(lines: Iterable[bytes]) -> Counter[str]:
    """JSON documents as a multiset of rows: keys sorted, prices with at most three decimals."""
    return Counter(_row(json.loads(line)) for line in lines)


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
