"""Runs your own Python class over batches of records.

    - python: {class: "shop.stages:Discount", options: {percent: 10}}

    class Discount:
        def __init__(self, percent: int): ...
        def process(self, batch: list[Record]) -> list[Record]: ...     # or async def

`options` are the constructor's keyword arguments. `process` may change, drop and add records; what it returns goes on,
in that order. `open()` and `close()`, plain or async, are called where they exist; each task has its own instance.
Modules are found as Python finds them, and in the pipeline's folder. An exception fails the batch, which is then given
record by record, so that only the guilty record fails: side effects of the first try may happen again.
"""

from __future__ import annotations

import importlib
import inspect
import sys
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
    options: dict[str, Any] = Field({}, description="Keyword arguments of the constructor.", examples=[{"percent": 10}])


@stage("python", config=PythonConfig, shorthand="class", fused=False)
class Python:
    """The stage `python`."""

    spec: Any

    def __init__(self, config: PythonConfig, context: PipelineContext) -> None:
        self.config, self.context = config, context
        self.instance: Any = None
        self.call: Any = None

    async def prepare(self) -> None:
        """Import the class and make the instance. Raises FatalError."""
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
        if inspect.isclass(found):
            try:
                self.instance = found(**self.config.options)
            except Exception as error:
                raise FatalError(f"Stage `python` cannot make {self.config.class_!r}: {error!r}.") from error
            self.call = getattr(self.instance, "process", None)
        else:
            self.call = found
        if not callable(self.call):
            raise FatalError(f"{self.config.class_!r} has no method `process(batch)` and is no function.")

    async def open(self, task: TaskContext) -> None:
        await self._hook("open")

    async def process(self, batch: list[Record]) -> list[Record]:
        result = self.call(batch)
        if inspect.isawaitable(result):
            result = await result
        if not isinstance(result, list):
            raise TransformError(f"{self.config.class_} returned {type(result).__name__}, expected a list of records")
        for record in result:
            if not isinstance(record, Record) or not isinstance(record.value, dict):
                raise TransformError(
                    f"{self.config.class_} returned a list with something that is not a Record of an object"
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
