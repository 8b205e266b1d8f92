"""Transforms the document by a list of operations, done in order; one that fails leaves the record as it was.

    - transform:
        - select: {ids: "$.items[*].id", first: {path: "$.items[?@.price < 10]", as: first}}
        - coerce: {amount: number, at: {to: timestamp, on_failure: null}}
        - rename: {usr.nm: user.name}
        - filter: {list: items, where: item.price > 10, as: dear}
        - when: amount > 400
          then: [{set: {tier: '"gold"'}}]
          else: [{set: {tier: '"silver"'}}]
        - template: {greeting: "Hello {user.name}"}
        - merge: {with: changes, into: profile, lists: append}
        - patch: [{op: remove, path: /internal}]
    - transform: {operations: [{patch: {from: changes}}], on_failure: rollback}

Each item is one operation. `select` takes a JSONPath (RFC 9535); `set`, `when` and the others take expressions, in
which the element of a list is called `item`. An operation sees what those before it have made. Nothing of a record that
fails goes on: `on_error` says what becomes of it, and it gets the record as it came. With `on_failure: rollback` the
record itself goes on instead, byte for byte as it was, and is counted.

All operations with their settings are in docs/transform.md.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from streamd.component.context import PipelineContext
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.transform.operation import Operation, write_all, writes_together


class TransformConfig(Model):
    """Settings of `transform`."""

    operations: list[Operation] = Field(
        description="What is done, in order; each item is one operation.",
        examples=[[{"select": {"ids": "$.items[*].id"}}, {"drop": "items"}]],
        min_length=1,
    )
    on_failure: Literal["error", "rollback"] = Field(
        "error",
        description="What a record means whose transformation fails: an error of the record, or that it goes on as it "
        "was before this stage.",
        examples=["rollback"],
    )


def _keeps(config: TransformConfig, field: str) -> bool:
    written = writes_together(config.operations)
    return written is not None and field not in written


@stage("transform", config=TransformConfig, shorthand="operations", keeps=_keeps)
class Transform:
    """The stage `transform`."""

    spec: Any

    def __init__(self, config: TransformConfig, context: PipelineContext) -> None:
        self.config = config

    async def prepare(self) -> None:
        pass

    def fuse(self, body: Body) -> None:
        def write() -> None:
            write_all(body, self.config.operations)

        if self.config.on_failure == "error":
            write()
        else:
            body.choose(
                [("try:", write), ("except Exception:", lambda: body.line(f"{body.count('rolled_back')} += 1"))]
            )
