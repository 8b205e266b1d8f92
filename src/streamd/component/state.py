"""The contract of a store: what a stateful stage remembers between records, in one task."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol


class Store(Protocol):
    """Plain dicts, so that a stage reads its own writes at the price of a dict.

    `values`: {key: any JSON value}; whoever sets or deletes a key, or changes its value in place, adds it to `dirty`.
    A key is what `key_of` gives. At each checkpoint the dirty keys go to the changelog, in the
    checkpoint's transaction; after a crash the store is as at the last checkpoint.
    """

    values: dict[Hashable, Any]
    dirty: set[Hashable]

    def key_of(self, value: Any) -> Hashable:
        """The key for a JSON value: equal values have equal keys, others do not. Raises TransformError for no key."""
