"""The orders of config/samples, as the examples' expectations take them."""

from __future__ import annotations

import json
from typing import Any

from services.process import REPOSITORY

SAMPLES = REPOSITORY / "config" / "samples"


def readable_orders() -> list[dict[str, Any]]:
    """Of the orders with errors those that are right."""
    documents = []
    for line in (SAMPLES / "orders-with-errors.ndjson").read_text().splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict) and isinstance(document.get("amount"), float | int):
            documents.append(document)
    return documents
