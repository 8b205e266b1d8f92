"""What the tasks before an exchange tell, and the watermark that follows from what all of them told."""

from __future__ import annotations

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.exchange.control import HEADER, Control, Told, control_in, headers_of
from streamd.record import BEGINNING, END, SourceRecord


def record(headers: object, value: bytes | None = None, key: bytes | None = None) -> SourceRecord:
    return SourceRecord(key, value, 0, 7, headers)


def told(*controls: Control) -> Told:
    made = Told()
    for control in controls:
        made.hear(control)
    return made


def test_a_control_record_says_what_it_was_told() -> None:
    said = Control(2, 4, 1_000, idle=True)
    assert control_in(record(headers_of(said))) == said
    assert control_in(record(headers_of(Control(0, 1)))) == Control(0, 1, BEGINNING)


def test_what_users_write_is_none() -> None:
    headers = headers_of(Control(0, 1))
    assert control_in(record((), b"{}")) is None
    assert control_in(record(headers, b"{}")) is None
    assert control_in(record(headers, None, b"key")) is None
    assert control_in(record([*headers, ("a", b"b")])) is None
    assert control_in(record([("a", b"b")])) is None
    assert control_in(record(())) is None
    with pytest.raises(msgspec.DecodeError):
        control_in(record([(HEADER, b"nothing")]))


def test_nothing_is_known_until_all_were_heard_of() -> None:
    assert Told().watermark == BEGINNING
    one = told(Control(0, 2, 50))
    assert one.watermark == BEGINNING
    one.hear(Control(1, 2, 30))
    assert one.watermark == 30
    one.hear(Control(1, 2, 80))
    assert one.watermark == 50


def test_it_never_goes_back() -> None:
    one = told(Control(0, 2, 50), Control(1, 2, 60))
    one.hear(Control(0, 2, 10))  # a task that began anew
    assert one.watermark == 50
    one.hear(Control(0, 3, 70))  # a partition was added
    assert one.watermark == 50
    one.hear(Control(2, 3, 55))
    assert one.watermark == 55


def test_who_is_idle_or_over_holds_nobody_up() -> None:
    one = told(Control(0, 3, 50), Control(1, 3, idle=True), Control(2, 3, 20, over=True))
    assert one.watermark == 50
    assert not one.idle
    one.hear(Control(0, 3, 60, idle=True))
    assert one.idle
    assert one.watermark == 60
    one.hear(Control(1, 3, 70))
    assert not one.idle
    assert one.watermark == 70


def test_the_end_is_when_all_are_over() -> None:
    one = told(Control(0, 2, 50, over=True), Control(1, 2, 40))
    assert (one.over, one.watermark) == (False, 40)
    one.hear(Control(1, 2, 45, over=True))
    assert one.over
    assert one.watermark == END
    one.hear(Control(1, 2, 45))  # another run
    assert not one.over
    assert one.watermark == 45


controls = st.builds(
    Control,
    st.integers(0, 3),
    st.integers(4, 4),
    st.one_of(st.just(BEGINNING), st.integers(0, 1 << 45)),
    idle=st.booleans(),
    over=st.booleans(),
)


@given(st.lists(controls), st.lists(controls))
def test_whoever_goes_on_from_what_was_kept_knows_the_same(before: list[Control], after: list[Control]) -> None:
    first, second = told(*before), Told()
    second.load(orjson.loads(orjson.dumps(first.state("run"))), "run")
    for control in after:
        assert (first.watermark, first.over, first.idle) == (second.watermark, second.over, second.idle)
        moves = first.moves(control)
        assert second.moves(control) == moves
        seen = first.watermark, first.idle
        first.hear(control)
        second.hear(control)
        assert moves == (seen != (first.watermark, first.idle))
    assert first.state("run") == second.state("run")


@given(st.lists(controls))
def test_another_run_forgets_who_was_over_and_not_how_far_time_was(before: list[Control]) -> None:
    first, second = told(*before), Told()
    second.load(first.state("one"), "another")
    assert not second.over
    assert not second.idle
    if not first.over:
        assert second.watermark == first.watermark


def test_what_is_kept_is_short() -> None:
    one = told(*(Control(n, 128, 1_700_000_000_000 + 97 * n) for n in range(128)))
    assert len(orjson.dumps(one.state("0123456789abcdef"))) < 1_000
