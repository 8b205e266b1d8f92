"""How much a profile may remember, over all fields together."""

from __future__ import annotations

from dataclasses import dataclass

# An object with more names than this, each in few of the records, has keys that are data (ids, dates): it is a map.
MAP_NAMES, ALWAYS_MAP = 200, 2_000
DEPTH = 40
# So many different values of a field are told one by one.
FEW = 20
EXAMPLES = 3
EXAMPLE_CHARACTERS = 60


@dataclass(slots=True)
class Bounds:
    """`fields`: how many more may become known. `hashes`: how many different values may still be told apart exactly.

    `partition` is the one that the record at hand comes from.
    """

    fields: int = 5_000
    hashes: int = 500_000
    partition: int = 0
