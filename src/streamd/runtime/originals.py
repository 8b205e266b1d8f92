"""Records as they came, for a stage of own code that changes them before it fails."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from streamd.record import Record


class Originals:
    """A batch of records as they came, kept while own code has them, which may change them before it fails."""

    def __init__(self, batch: Sequence[Record]) -> None:
        self._batch = batch
        self._rest = [(r.key, r.timestamp, r.headers, r.topic, r.partition, r.offset) for r in batch]
        try:
            # Half the price of the copies that are only needed when the batch fails.
            self._values: bytes | None = pickle.dumps([r.value for r in batch], pickle.HIGHEST_PROTOCOL)
        except Exception:
            # Documents are plain data, but for what an own stage put into them: that it alone can answer for.
            self._values = None
        self._loaded: list[Any] | None = None

    def again(self, index: int) -> Record:
        """A fresh copy of one record."""
        if self._values is None:
            return self._batch[index]
        if self._loaded is None:
            self._loaded = [pickle.dumps(value) for value in pickle.loads(self._values)]
        return Record(pickle.loads(self._loaded[index]), *self._rest[index])
