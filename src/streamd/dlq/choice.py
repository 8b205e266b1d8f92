"""Which dead letters somebody means: by time, by an expression, by how often they were tried. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamd.dlq.letter import Letter
from streamd.errors import ConfigError, RecordError
from streamd.expr import Scope, compile_expression, parse
from streamd.expr.errors import ExpressionError
from streamd.expr.suggest import closest

VARIABLES = {
    "_pipeline": "the pipeline that wrote it",
    "_stage": "the source, stage or sink that failed",
    "_phase": "extract, transform or load",
    "_error": "the error's class, as MissingFieldError",
    "_reason": "the error's message",
    "_time": "when it failed, ms since the epoch",
    "_attempts": "how often it was tried before it was given up",
    "_replays": "how often it was replayed",
    "_raw": "the value as text, whatever it is",
}
"""What an expression may name beside the fields of the record and `_key`, `_topic`, `_partition`, `_offset`,
`_timestamp`, `_headers`, which are the record's own."""


def condition(text: str, *, keyed: bool = False) -> tuple[Callable[[Letter], bool], bool]:
    """(whether a letter is meant, whether that looks into its record). It is not meant where the expression has no
    value for it. `keyed`: keys of records have a format. Raises ConfigError.
    """
    try:
        expression = parse(text)
        evaluate = compile_expression(expression)
    except ExpressionError as error:
        raise ConfigError(f"--where: {error}") from None
    for name in sorted(expression.fields - VARIABLES.keys()):
        if name.startswith("_") and (near := closest(name, [*VARIABLES], 0.75)):
            raise ConfigError(
                f'--where: there is no {name}; did you mean {near}? A field of that name is _value["{name}"]'
            )

    def holds(letter: Letter) -> bool:
        try:
            return bool(evaluate(scope_of(letter)))
        except RecordError:
            return False

    looks = expression.whole_document or not expression.fields <= VARIABLES.keys()
    return holds, looks or (keyed and "_key" in expression.metadata)


def scope_of(letter: Letter) -> Scope:
    """What an expression reads of a letter."""
    document = letter.document
    fields: dict[str, Any] = dict(document) if isinstance(document, dict) else {}
    fields |= {
        "_pipeline": letter.pipeline,
        "_stage": letter.stage,
        "_phase": letter.phase,
        "_error": letter.error,
        "_reason": letter.message,
        "_time": letter.time,
        "_attempts": letter.attempt,
        "_replays": letter.replays,
        "_raw": "" if letter.value is None else letter.value.decode("utf-8", "backslashreplace"),
    }
    return Scope(
        fields,
        _text(letter.key) if letter.read_key is None else letter.read_key,
        letter.timestamp,
        letter.topic,
        letter.record_partition,
        letter.record_offset,
        {name: (value or b"").decode("utf-8", "backslashreplace") for name, value in letter.headers},
    )


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked for. `since` and `until`: when a record failed, ms since the epoch, the second not included.

    `pipeline`: only its letters; None: of all. `where` is the text of an expression; `reads`: whether it looks
    into the records. `keyed`: their keys have a format.
    """

    where: str | None = None
    since: int | None = None
    until: int | None = None
    pipeline: str | None = None
    keyed: bool = False
    reads: bool = field(init=False, default=False, compare=False)
    _holds: Callable[[Letter], bool] | None = field(init=False, default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.where is not None:
            holds, reads = condition(self.where, keyed=self.keyed)
            object.__setattr__(self, "_holds", holds)
            object.__setattr__(self, "reads", reads)

    def __contains__(self, letter: object) -> bool:
        assert isinstance(letter, Letter)
        if self.pipeline is not None and letter.pipeline != self.pipeline:
            return False
        if self.since is not None and letter.time < self.since:
            return False
        if self.until is not None and letter.time >= self.until:
            return False
        return self._holds is None or self._holds(letter)
