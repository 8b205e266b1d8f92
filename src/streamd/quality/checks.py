"""The checks of one `validate`: its schema and its rules, each with its name and what happens where it is broken."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pydantic import Field, field_validator, model_validator

from streamd.component.fields import Duration, parse_field_path
from streamd.component.model import Model
from streamd.quality.rules import BY_SEVERITY, Action, Rule, Schema, Severity

SCHEMA = "schema"


class TagHeader(Model):
    """A header instead of a field."""

    header: str = Field(description="Name of the header.", examples=["failed-rules"], min_length=1)


class Score(Model):
    """How good records are, for windows of time."""

    window: Duration = Field(60.0, ge=0.001, description="Size of the windows, by the records' times.", examples=["1m"])


class CheckSettings(Model):
    """The settings that a `validate` has wherever it stands."""

    schema_: Schema | None = Field(
        None, alias="schema", description="A schema that documents must fit.",
        examples=[{"json_schema": "order.schema.json"}],
    )  # fmt: skip
    rules: list[Rule] = Field(
        [], description="Rules that records must keep; all are looked at, also where one is broken.",
        examples=[[{"field": "amount", "range": [0, 10000]}]],
    )  # fmt: skip
    action: Action | None = Field(
        None,
        description="What becomes of a record that breaks a rule which has no `action` of its own. Without this "
        "`info` and `warning` pass, `error` is an error of the record, for `on_error`, and `critical` stops.",
        examples=["dead_letter"],
    )
    tag: str | TagHeader = Field(
        "failed_rules",
        description="For the action `tag`: the field that gets the list of the broken rules' names, empty where none "
        "is; or the header that gets them, separated by commas, where any is.",
        examples=["failed_rules", {"header": "failed-rules"}],
    )

    @field_validator("tag")
    @classmethod
    def _a_field(cls, tag: str | TagHeader) -> str | TagHeader:
        if isinstance(tag, str) and len(parse_field_path(tag)) > 1:
            raise ValueError("expected the name of a field that is not inside another")
        return tag

    @model_validator(mode="after")
    def _something(self) -> CheckSettings:
        if self.schema_ is None and not self.rules:
            raise ValueError("expected a `schema` or `rules`")
        if sum(rule.unique is not None for rule in self.rules) > 1:
            raise ValueError("two rules are `unique`: put one of them into a `validate` of its own")
        for name, count in Counter(check.name for check in self.checks).items():
            if count > 1:
                raise ValueError(f"the name {name!r} is that of {count} checks: expected a `name` of its own for each")
        return self

    @property
    def unique(self) -> Rule | None:
        """The rule that is `unique`."""
        return next((rule for rule in self.rules if rule.unique is not None), None)

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks, in the order in which they are told; the schema first."""
        judged = [] if self.schema_ is None else [(SCHEMA, self.schema_)]
        named = [*judged, *((rule.called, rule) for rule in self.rules)]
        return tuple(
            Check(
                name,
                what.severity,
                what.action or self.action or BY_SEVERITY[what.severity],
                1 << bit,
                what if isinstance(what, Rule) else None,
            )
            for bit, (name, what) in enumerate(named)
        )

    @property
    def dead_letters(self) -> bool:
        """Whether records may go to the dead letters, whatever `on_error` says."""
        return any(check.action == "dead_letter" for check in self.checks)

    @property
    def tags(self) -> bool:
        """Whether records may be tagged."""
        return any(check.action == "tag" for check in self.checks)


class ValidateSettings(CheckSettings):
    """The settings of a stage `validate`."""

    score: Score | None = Field(
        None,
        description="Give a score for each window of time, too. The stage then has two outputs, `ID.records` and "
        "`ID.scores`.",
        examples=[{"window": "1m"}],
    )

    @property
    def remembers(self) -> str:
        """What is kept and for how long, for people."""
        unique = self.unique
        kept = [f"each key until the watermark is up to {2 * (unique.within or 0):g} s past it"] if unique else []
        kept += ["how many records broke what, of each window that is not over"] if self.score else []
        return " and ".join(kept)


def keeps(config: CheckSettings, field: str) -> bool:
    """See `ComponentSpec.keeps`."""
    return not config.tags or isinstance(config.tag, TagHeader) or field != config.tag


def tables(config: CheckSettings) -> dict[str, tuple[str, ...] | None]:
    """See `ComponentSpec.tables`. Only whether there is a row counts."""
    references = [rule.references for rule in config.rules if rule.references is not None]
    return {one.table: () for one in references if one.table is not None}


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `bit` stands for it in the number of what a record breaks. `rule`: None for the schema.

    `action` None: what the component's `on_error` says.
    """

    name: str
    severity: Severity
    action: Action | None
    bit: int
    rule: Rule | None


def bits(checks: tuple[Check, ...], *actions: Action | None) -> int:
    """The bits of all checks with one of the actions."""
    return sum(check.bit for check in checks if check.action in actions)


def names_of(checks: tuple[Check, ...], broken: int) -> list[str]:
    """The names of the checks whose bits are set."""
    return [check.name for check in checks if check.bit & broken]
