"""Aggregates: what `count()`, `sum(amount)` … mean, as lines of Python for kernels.

text → `read` (names, parameters, orders, conditions: `catalogue`) → an `Aggregate` (`numbers`, `picked`, `sketches`,
`custom`), which writes the lines of its start, step, merge and result. `columns` puts the arguments of several of them
into a row, `compiled` makes one accumulator of them, `values` is what lines call by name.

Any aggregate takes `where=`, a condition: a record for which it does not hold does not count. What `order_by=` takes is
a value or a list of them, ascending or `desc(…)`.
"""

from __future__ import annotations

from streamd.expr.aggregates.aggregate import Aggregate, Argument, growing
from streamd.expr.aggregates.catalogue import AGGREGATES, AggregateFunction
from streamd.expr.aggregates.columns import Columns, columns_of, write_columns
from streamd.expr.aggregates.compiled import Accumulator, compiled, slots_of
from streamd.expr.aggregates.read import parse_aggregate

__all__ = [
    "AGGREGATES",
    "Accumulator",
    "Aggregate",
    "AggregateFunction",
    "Argument",
    "Columns",
    "columns_of",
    "compiled",
    "growing",
    "parse_aggregate",
    "slots_of",
    "write_columns",
]
