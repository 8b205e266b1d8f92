"""Runs your own Python class over batches of records.

    - python: {class: "shop.stages:Discount", options: {percent: 10}}

    class Discount:
        def __init__(self, percent: int): ...
        def process(self, batch: list[Record]) -> list[Record]: ...     # or async def

`options` are the constructor's keyword arguments; a function gets them with each batch. `process` may change, drop and
add records; what it returns goes on, in that order. `open()` and `close()`, plain or async, are called where they
exist; each task has its own instance. Modules are found as Python finds them, and in the pipeline's folder.

An exception fails the batch, which is then given record by record, so that only the guilty record fails. The records
are then as they came, whatever was done to them; side effects elsewhere of the first try may happen again.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from functools import partial
from typing import Any

from pydantic import Field

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.errors import FatalError, TransformError
from streamd.record import Record


class PythonConfig(Model):
    """Settings of `python`."""

    class_: str = Field(
        alias="class",
        description="`module:Class`, or `module:function` for a function of a batch.",
        examples=["shop.stages:Discount"],
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$",
    )
    options: dict[str, Any] = Field(
        {}, description="Keyword arguments of the constructor, or of the function.", examples=[{"percent": 10}]
    )


@stage("python", config=PythonConfig, shorthand="class", fused=False)
class Python:
    """The stage `python`."""

    spec: Any
    # Own code may change records in place: a try that failed must not show in the next one.
    changes_records = True

    def __init__(self, config: PythonConfig, context: PipelineContext) -> None:
        self.config, self.context = config, context
        self.instance: Any = None
        self.call: Any = None

    def check(self) -> None:
        """Import the class, without making an instance: own code may connect to something. Raises FatalError."""
        if not callable(self._imported()):
            raise FatalError(f"{self.config.class_!r} has no method `process(batch)` and is no function.")

    async def prepare(self) -> None:
        """Import the class and make the instance. Raises FatalError."""
        found = self._imported()
        if inspect.isclass(found):
            try:
                self.instance = found(**self.config.options)
            except Exception as error:
                raise FatalError(f"Stage `python` cannot make {self.config.class_!r}: {error!r}.") from error
            self.call = getattr(self.instance, "process", None)
        else:
            self.call = partial(found, **self.config.options) if self.config.options and callable(found) else found
        if not callable(self.call):
            raise FatalError(f"{self.config.class_!r} has no method `process(batch)` and is no function.")

    def _imported(self) -> Any:
        module_name, _, name = self.config.class_.partition(":")
        folder = str(self.context.base_dir.resolve())
        if folder not in sys.path:
            sys.path.append(folder)
        try:
            found: Any = importlib.import_module(module_name)
            for step in name.split("."):
                found = getattr(found, step)
        except (ImportError, AttributeError) as error:
            raise FatalError(f"Stage `python` cannot import {self.config.class_!r}: {error}.") from error
        except Exception as error:
            # The module is the user's own, and its text is no record's.
            raise FatalError(
                f"Stage `python` cannot import {self.config.class_!r}: {type(error).__name__}: {error}."
            ) from error
        return found

    async def open(self, task: TaskContext) -> None:
        await self._hook("open")

    async def process(self, batch: list[Record]) -> list[Record]:
        result = self.call(batch)
        if inspect.isawaitable(result):
            result = await result
        if not isinstance(result, list):
            raise TransformError(f"{self.config.class_} returned {type(result).__name__}, expected a list of records")
        for record in result:
            if not isinstance(record, Record):
                raise TransformError(
                    f"{self.config.class_} returned a list with {type(record).__name__}, expected records only"
                )
            if record.value is not None and not isinstance(record.value, dict):
                raise TransformError(
                    f"{self.config.class_} returned a record with a value of type {type(record.value).__name__}, "
                    "expected a dict, or None for a tombstone"
                )
        return result

    async def close(self) -> None:
        await self._hook("close")

    async def _hook(self, name: str) -> None:
        hook = getattr(self.instance, name, None)
        if hook is not None:
            result = hook()
            if inspect.isawaitable(result):
                await result
