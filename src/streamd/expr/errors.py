"""The two ways an expression goes wrong: refused when it is read, or without a value for one record."""

from __future__ import annotations

from streamd.errors import ConfigError, MissingFieldError, RecordError, TransformError
from streamd.expr.wrong_types import in_words


class ExpressionError(ConfigError, ValueError):
    """An expression's text is refused.

    `offset` and `length` are characters of the text, so that a diagnostic can point into it; `hint` says what would be
    right, where that can be told.
    `unknown`: it may be so only because of what stands in for a parameter that nobody has given yet.
    """

    unknown = False

    def __init__(self, message: str, offset: int = 0, length: int = 1, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.length = length
        self.hint = hint

    def __reduce__(self) -> tuple[type[ExpressionError], tuple[str, int, int, str | None]]:
        return ExpressionError, (self.message, self.offset, self.length, self.hint)


class UnknownError(ExpressionError):
    """Nothing may be said of it yet."""

    unknown = True


def failure(error: Exception, names: frozenset[str] = frozenset()) -> RecordError:
    """What an exception out of generated code means for the record; the message holds no record contents.

    `names` are names that stand in the expression's text (`Expression.names`): only such a name is told when it is
    missing, since any other key came out of the record. The original text goes to `detail`. Cause and traceback are the
    caller's to chain (`raise failure(error, names) from error`).
    """
    if isinstance(error, RecordError):
        return error
    detail = str(error)
    if isinstance(error, KeyError):
        key = error.args[0] if error.args else None
        told = isinstance(key, str) and key in names
        return MissingFieldError(f"field {key!r} is missing" if told else "a looked-up key is missing", detail)
    if isinstance(error, AttributeError):
        name = error.name if isinstance(error.name, str) and error.name in names else None
        return MissingFieldError(f"field {name!r} is missing" if name else "a field is missing", detail)
    if isinstance(error, IndexError):
        return MissingFieldError("a list or text has no item at the given index", detail)
    return TransformError(_reason(error), detail)


def _reason(error: Exception) -> str:
    """Python's own texts are passed on only where they are known to name types and never values."""
    if isinstance(error, TypeError):
        return f"wrong type: {in_words(str(error))}"
    if isinstance(error, ZeroDivisionError):
        return "division by zero"
    if isinstance(error, OverflowError):
        return "a number is out of range"
    if isinstance(error, RecursionError):
        return "the value is nested too deeply"
    if isinstance(error, MemoryError):
        return "the value is too large for this machine's memory"
    return f"the expression has no value for this record ({type(error).__name__})"
