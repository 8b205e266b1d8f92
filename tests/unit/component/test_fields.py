"""Types of settings: what may be written, and what it becomes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.component.fields import (
    ByteSize,
    ComponentRef,
    Duration,
    ExpressionField,
    FieldPath,
    Secret,
    nested_component,
    parse_duration,
    parse_field_path,
    parse_size,
)
from streamd.component.model import Model
from streamd.expr import ExpressionError


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0.0),
        (10, 10.0),
        (0.5, 0.5),
        ("10", 10.0),
        ("10s", 10.0),
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("1m30s", 90.0),
        ("1m 30s", 90.0),
        ("1.5h", 5400.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        (" 5s ", 5.0),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    """Seconds, whatever the unit."""
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written", ["", "s", "soon", "10 seconds", "-1s", -1, "1s-", "1m30", "5 x", True, None, [1], float("nan"), "1e400"]
)
def test_no_durations(written: object) -> None:
    """The message shows how one is written."""
    with pytest.raises(ValueError, match=r"expected a duration.*1m30s"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (0, 0),
        (1000, 1000),
        ("1000", 1000),
        ("5B", 5),
        ("1KB", 1000),
        ("512KiB", 524288),
        ("4MB", 4_000_000),
        ("1.5 MiB", 1572864),
        ("1GiB", 1 << 30),
        ("2gb", 2_000_000_000),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes(written: object, size: int) -> None:
    """Bytes; KB is a thousand, KiB is 1024."""
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "many", "5XB", "-5", -5, 1.5, True, None, "1 2"])
def test_no_sizes(written: object) -> None:
    """The message shows how one is written."""
    with pytest.raises(ValueError, match=r"expected a size.*512KiB"):
        parse_size(written)


@given(st.text(max_size=12) | st.integers() | st.floats() | st.none() | st.lists(st.integers(), max_size=2))
def test_any_value_parses_or_is_refused(value: object) -> None:
    """Never another exception, never a negative or endless amount."""
    for parse in (parse_duration, parse_size):
        try:
            amount = parse(value)
        except ValueError:
            continue
        assert 0 <= amount < float("inf")


def test_field_paths() -> None:
    """Dots divide; a list is for names that hold dots."""
    assert parse_field_path("user") == ("user",)
    assert parse_field_path("user.country") == ("user", "country")
    assert parse_field_path(["a.b", "c"]) == ("a.b", "c")
    for wrong in ("", "a.", ".a", "a..b", "a. b", [], [1], 5, None):
        with pytest.raises(ValueError, match="expected a field's name"):
            parse_field_path(wrong)


class Everything(Model):
    wait: Duration = 1.0
    size: ByteSize = 1
    where: ExpressionField = None  # type: ignore[assignment]
    path: FieldPath = ("a",)
    secret: Secret | None = None
    late: ComponentRef | None = None


def test_fields_of_a_model() -> None:
    """The types work where they are meant to."""
    model = Everything.model_validate({"wait": "1m", "size": "1KiB", "where": "a > 1", "path": "a.b", "secret": "x"})

    assert (model.wait, model.size, str(model.where), model.path) == (60.0, 1024, "a > 1", ("a", "b"))
    assert model.secret is not None
    assert model.secret.get_secret_value() == "x"
    assert "'x'" not in repr(model)


@pytest.mark.parametrize(("written", "text"), [(True, "True"), (False, "False"), (5, "5"), (-1.5, "-1.5"), ("a", "a")])
def test_scalars_are_expressions(written: object, text: str) -> None:
    """A YAML number or boolean is the expression of that value."""
    assert str(Everything.model_validate({"where": written}).where) == text


@pytest.mark.parametrize("written", [None, [1], {"a": 1}, float("inf")])
def test_other_values_are_no_expressions(written: object) -> None:
    """Lists, mappings, nothing."""
    with pytest.raises(ValueError, match="expected an expression"):
        Everything.model_validate({"where": written})


def test_an_expression_error_keeps_its_offset() -> None:
    """So that the loader can point into the YAML."""
    with pytest.raises(ValueError, match="nope") as caught:
        Everything.model_validate({"where": "a + nope(1)"})

    error: Any = caught.value.errors()[0]["ctx"]["error"]  # type: ignore[attr-defined]
    assert isinstance(error, ExpressionError)
    assert error.offset == 4


def test_nested_components_are_marked() -> None:
    """The loader finds the fields it has to resolve, and the model takes nothing else."""
    marked = {name for name, info in Everything.model_fields.items() if nested_component(info.annotation)}

    assert marked == {"late"}
    with pytest.raises(ValueError, match="expected a component"):
        Everything.model_validate({"late": {"file": "x"}})
