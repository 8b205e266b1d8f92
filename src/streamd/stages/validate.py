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

`unique: order_id` with `within: 10m` is broken by a record whose key another has had, within that time before or after
its own (`event_time` of the source). Only records that go on have had it. A record that lies before the watermark
breaks it too: nobody knows any more what was there. As in `dedupe` a key that is missing or null is an error of the
record, and records move through an exchange where those of a key are not together. There is one such rule in a stage.

`score: {window: 1m}` gives for each window of time how good the records were, over all tasks. The stage has two outputs
then, which others read as `from: ID.records` and `from: ID.scores`:

    - id: checked
      validate: {rules: [{field: amount, range: [0, 10000]}], action: tag, score: {window: 1m}}
    sinks:
      - {from: checked.records, kafka: {topic: orders}}
      - {from: checked.scores, kafka: {topic: order-quality}}

A score is `{"stage", "window_start", "window_end", "records", "passed", "score", "rules": {NAME: {"failed",
"score"}}}`: `score` is the share of records that broke no rule but such of severity `info`. All that were judged are in
it, also those that did not go on; a late record counts in the window that is open when it comes. The last ones are also
the metric `streamd_quality_score`.

What is kept for both is committed together with positions and outputs. A tombstone is passed on.

A sink may have such checks of its own beside its settings, but for `unique` and `score`: `validate: {schema: …}`. They
see the document that is about to be written; a record that breaks one fails as if the sink had refused it.

Messages hold nothing of the record: they name rules, and of a schema the places and keywords that do not fit.
"""

from __future__ import annotations

from typing import Any

from streamd.component.spec import stage
from streamd.quality.checks import ValidateSettings, keeps, tables
from streamd.quality.fused import Validation


class ValidateConfig(ValidateSettings):
    """Settings of `validate`."""


def outputs(config: ValidateConfig) -> tuple[str, ...]:
    """With scores there are two."""
    return ("records", "scores") if config.score is not None else ()


@stage("validate", config=ValidateConfig, keeps=keeps, outputs=outputs, tables=tables)
class Validate(Validation):
    """The stage `validate`. With `unique` or `score` the plan puts one in its place that remembers."""

    spec: Any
