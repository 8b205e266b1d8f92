"""Aggregates in the user's own Python: `custom("shop.aggregates:Basket", item, price)`.

    class Basket:
        def start(self): return {"items": [], "total": 0}              # any JSON but null
        def add(self, state, item, price): ...; return state
        def merge(self, state, later): ...; return state               # of records that came after those of `state`
        def result(self, state): return state["total"]

One instance serves all keys, so that what is to be kept has to be in the state.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from streamd.errors import FatalError, TransformError
from streamd.expr.aggregates import values
from streamd.expr.aggregates.aggregate import Aggregate, Argument, Constant
from streamd.expr.expression import Expression

METHODS = ("start", "add", "merge", "result")


class Custom(Aggregate):
    """An aggregate in the user's own Python. A step may raise, and then has changed nothing."""

    name = "custom"
    fallible = True
    bounded = False
    growth = "what your own code keeps"

    def __init__(self, text: str, reference: str, arguments: Sequence[Expression]) -> None:
        super().__init__(text, [Argument(text, argument, "kept") for argument in arguments])
        self.reference = reference
        self._code: Any = None

    def prepare(self, folder: str) -> None:
        if folder not in sys.path:
            sys.path.append(folder)
        self._load()

    def _load(self) -> Any:
        if self._code is None:
            module, _, name = self.reference.partition(":")
            try:
                found: Any = importlib.import_module(module)
                for step in name.split("."):
                    found = getattr(found, step)
                code = found()
            except Exception as error:
                # The module is the user's own, and its text is no record's.
                kind = f"{type(error).__name__}: {error}"
                raise FatalError(f"The aggregate custom({self.reference!r}) cannot be made: {kind}.") from error
            missing = [method for method in METHODS if not callable(getattr(code, method, None))]
            if missing:
                raise FatalError(f"{self.reference!r} has no method `{missing[0]}`; an aggregate has {METHODS}.")
            self._code = code
        return self._code

    def start_source(self) -> str:
        return "None"

    def step_lines(self, slots: Sequence[str], names: Sequence[str], constant: Constant) -> list[str]:
        (slot,) = slots
        self._load()
        condition = " or ".join(f"{name} is not None" for name in names)
        return [f"if {condition}: {slot} = {constant('custom_add', self._add)}({slot}, {', '.join(names)})"]

    def merge_lines(self, slots: Sequence[str], others: Sequence[str], constant: Constant) -> list[str]:
        self._load()
        return [f"{slots[0]} = {constant('custom_merge', self._merge)}({slots[0]}, {others[0]})"]

    def result_source(self, slots: Sequence[str], constant: Constant) -> str:
        self._load()
        return f"{constant('custom_result', self._result)}({slots[0]})"

    def _add(self, state: Any, *arguments: Any) -> Any:
        code = self._load()
        # A copy: what raises half-way must leave the state as it was.
        return self._called("add", code.start() if state is None else values.given(state), *arguments)

    def _merge(self, state: Any, other: Any) -> Any:
        if state is None or other is None:
            return other if state is None else state
        return self._surely("merge", state, other)

    def _result(self, state: Any) -> Any:
        code = self._load()
        return self._surely("result", code.start() if state is None else values.given(state))

    def _surely(self, method: str, *arguments: Any) -> Any:
        """Where there is no record that could be blamed."""
        try:
            return self._called(method, *arguments)
        except TransformError as error:
            raise FatalError(f"The aggregate {error}.") from error

    def _called(self, method: str, *arguments: Any) -> Any:
        try:
            result = values.copied(getattr(self._code, method)(*arguments))
        except Exception as error:
            what = f"{method} of {self.reference} failed with {type(error).__name__}"
            raise TransformError(f"custom: {what}", str(error)) from error
        if result is None and method != "result":
            raise TransformError(f"custom: {method} of {self.reference} gave null; expected the new state")
        return result
