"""`validate` where nothing has to be remembered: as a stage, and before a sink."""

from __future__ import annotations

from typing import Any, ClassVar

from streamd.component.context import PipelineContext
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.errors import InvalidOutputError, InvalidRecordError, RecordError
from streamd.quality.checks import CheckSettings, keeps, tables
from streamd.quality.conditions import Conditions
from streamd.quality.verdict import Verdicts, write_actions, write_tag


class Validation:
    """A `FusedStage`. `error` is what a record fails with that breaks a rule."""

    error: ClassVar[type[RecordError]] = InvalidRecordError

    def __init__(self, config: CheckSettings, context: PipelineContext) -> None:
        self.config = config
        self._conditions = Conditions(config, context)

    async def prepare(self) -> None:
        """Load the schema and the tables."""
        self._conditions.prepare()

    def fuse(self, body: Body) -> None:
        """One condition for each rule; nothing more where all hold."""
        verdicts = Verdicts(self._conditions, self.error)
        body.line(f"{body.count('checked')} += 1")
        broken = self._conditions.write(body, lambda check: body.count(f"broken:{check.name}"))
        write_actions(verdicts, broken, body, schema=self._conditions.schema is not None)
        write_tag(self.config, broken, verdicts, body)


@stage("validate", config=CheckSettings, keeps=keeps, tables=tables)
class BeforeSink(Validation):
    """`validate` beside a sink: a record that breaks a rule fails as one that the sink refuses."""

    spec: Any
    error = InvalidOutputError
