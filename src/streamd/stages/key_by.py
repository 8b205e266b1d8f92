"""Gives records another key, and brings all records of a key together in one partition.

    - key_by: user
    - key_by: [region, product]
    - key_by: {by: {country: user.country}, partitions: 12}

What comes after it has all records of a key in one task, in the order in which each task before it had them: windows,
aggregates and joins by that key are right on any number of partitions and nodes. The records go through a topic of
their own, the exchange `streamd.APP.PIPELINE.STAGE.exchange` (in the embedded log, where a pipeline has nothing in
Kafka), inside the transactions of the tasks before and after it, and nobody else sees that. The topic has as many
partitions as there are tasks before it, or `partitions`. What is read and committed is deleted there.

Windows, joins and aggregates get an exchange before them by themselves, where their records are not together by their
key; `key_by` is for all else that needs it (own code with memory), and says how many partitions there are.

There is no exchange where it could change nothing: where there is just one partition, or where the source says that its
records are partitioned by this already (`partitioned_by: user`) and no stage has changed that field since. Then the
stage only sets the key. `streamd explain` says which. How many partitions a topic of Kafka has is not known when a
pipeline is planned, so that one of a single partition needs `partitioned_by` as well. Several stages by the same key
share an exchange when they read from one `key_by`.

The key is the value as UTF-8 text, or its JSON; with several fields, a JSON list of them. A value that is missing or
null is an error of the record. Records keep value, time and headers; behind an exchange `_topic`, `_partition` and
`_offset` are those of the exchange. A tombstone has no fields, and goes on by the key that it came with.

Time goes through with the records: a window after `key_by` closes when every task before it is past its end. Where some
partitions may be without records for long, give their source `event_time: {idle: …}`, or they hold back the windows.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from streamd.component.context import PipelineContext
from streamd.component.fields import ExpressionField
from streamd.component.model import Model
from streamd.component.partitioning import SHORT, composite_bytes, key_bytes
from streamd.component.spec import stage
from streamd.component.stage import Body


def _named(value: object) -> object:
    """{name: expression} of one expression, of several, or of such a mapping."""
    values = [value] if isinstance(value, str) else value
    if isinstance(values, list):
        if not all(isinstance(one, str) for one in values) or len(set(values)) < len(values):
            raise ValueError("expected a field, a list with each field once, or names with their expressions")
        return {one: one for one in values}
    return value


_BY_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"type": "object", "minProperties": 1},
    ]
}


class KeyByConfig(Model):
    """Settings of `key_by`."""

    by: Annotated[dict[str, ExpressionField], BeforeValidator(_named), WithJsonSchema(_BY_SCHEMA)] = Field(
        description="The key: a field, a list of fields, or names with the expressions of their values.",
        examples=["user", ["region", "product"], {"country": "user.country"}],
        min_length=1,
    )
    partitions: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="How many partitions the exchange has: how many tasks there are after it. As many as before it "
        "without this. It cannot change later: keys would change their partition.",
        examples=[12],
    )


@stage("key_by", config=KeyByConfig, shorthand="by", keeps=lambda config, field: True, own_key=True)
class KeyBy:
    """The stage `key_by`: the part of it that sets the key. The exchange is put behind it by the plan."""

    spec: Any

    def __init__(self, config: KeyByConfig, context: PipelineContext) -> None:
        self.config = config

    async def prepare(self) -> None:
        pass

    def fuse(self, body: Body) -> None:
        parts = [body.local(f"by_{name}", body.value(expression)) for name, expression in self.config.by.items()]
        to_bytes = body.constant("key_bytes", key_bytes)
        if len(parts) == 1:
            [key] = parts
            short = f"{key}.__class__ is str and len({key}) < {SHORT}"
            body.set_key(f"{key}.encode() if {short} else {to_bytes}({key})")
        else:
            composite = body.constant("composite_bytes", composite_bytes)
            missing = " or ".join(f"{part} is None" for part in parts)
            body.set_key(f"{to_bytes}(None) if {missing} else {composite}([{', '.join(parts)}])")
