"""Checks what records are like: against a schema, and by rules; each broken rule counts, and says what happens.

    - validate:
        schema: {json_schema: order.schema.json}     # or {avro: order.avsc}
        rules:
          - {field: amount, range: [0, 10000], severity: critical}
          - {field: country, in: [DE, FR, US], action: tag}
          - {field: email, pattern: "^[^@ ]+@[^@ ]+$", severity: warning}
          - {not_null: [order_id, customer]}
          - {field: country, references: {file: countries.csv, column: code}}
          - {freshness: 1h, severity: info}
          - {name: total_adds_up, check: "total == sum([item.price for item in items])"}
        action: dead_letter

All rules are looked at, and all that a record breaks are told. `action` says what becomes of it:

| action | what happens |
| --- | --- |
| `pass` | it goes on; the broken rule counts in `streamd_quality_checks_total` |
| `tag` | it goes on with the names of the rules that it breaks, in the field or header `tag` |
| `drop` | it is left out, and counts as filtered |
| `dead_letter` | it goes to the dead letters of the stage or the pipeline, with the names of the rules |
| `stop` | the pipeline stops; nothing of the record is committed |

A rule without `action` does what the stage's own `action` says, and without that what its `severity` says: `info` and
`warning` pass, `error` (which it is where nothing is written) is an error of the record, for `on_error`, and `critical`
stops. Where several rules are broken the strictest action is done, in this order: `stop`, what `on_error` says,
`dead_letter`, `drop`, `tag`, `pass`.

A rule about a `field` holds where that is missing or null: `not_null` says what must be there. A value of another type
breaks `range` and `pattern`. A rule never fails a record in any other way.

Messages hold nothing of the record: they name rules, and of a schema the places and keywords that do not fit.
"""

from __future__ import annotations

from typing import Any

from streamd.component.context import PipelineContext
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.quality.checks import CheckSettings, TagHeader
from streamd.quality.conditions import Conditions
from streamd.quality.verdict import Verdicts, write_actions, write_tag


class ValidateConfig(CheckSettings):
    """Settings of `validate`."""


def _keeps(config: ValidateConfig, field: str) -> bool:
    return not config.tags or isinstance(config.tag, TagHeader) or field != config.tag.partition(".")[0]


@stage("validate", config=ValidateConfig, keeps=_keeps)
class Validate:
    """The stage `validate`, where nothing has to be remembered."""

    spec: Any

    def __init__(self, config: ValidateConfig, context: PipelineContext) -> None:
        self.config = config
        self._conditions = Conditions(config, context)

    async def prepare(self) -> None:
        """Load the schema and the tables."""
        self._conditions.prepare()

    def fuse(self, body: Body) -> None:
        """One condition for each rule; nothing more where all hold."""
        verdicts = Verdicts(self._conditions)
        body.line(f"{body.count('checked')} += 1")
        broken = self._conditions.write(body, lambda check: body.count(f"broken:{check.name}"))
        write_actions(verdicts, broken, body, schema=self._conditions.schema is not None)
        write_tag(self.config, broken, verdicts.names, body)
