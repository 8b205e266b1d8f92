"""How positions and cursors become offsets and metadata, and are found again."""

from __future__ import annotations

import pytest

from streamd.component.transaction import Committed
from streamd.errors import FatalError
from streamd.observability.identity import identity
from streamd.record import TaskId
from streamd.transport.kafka.positions import PositionBook, Signature, signature_in, signature_of, without_cursor


def stored(book: PositionBook, positions, cursors=None):
    """The group's offsets after a commit."""
    commit = book.offsets(positions, cursors or {})
    return {place: (offset, commit.metadata) for place, offset in commit.offsets.items()}


def test_kafka_positions_are_offsets_and_the_rest_is_beside_them():
    sources = {("orders", 3): "orders-topic", ("users", 3): "users-topic"}
    group = stored(PositionBook(sources), {("orders", 3): 10, ("users", 3): 20, ("file", 3): {"at": 1}}, {"sink": [1]})
    assert {place: offset for place, (offset, _) in group.items()} == {("orders-topic", 3): 10, ("users-topic", 3): 20}
    assert PositionBook(sources).load(group) == Committed(
        {("orders", 3): 10, ("users", 3): 20, ("file", 3): {"at": 1}}, {"sink": [1]}
    )


def test_nothing_committed_is_nothing():
    assert PositionBook({("orders", 0): "t"}).load({("t", 0): (-1, "")}) == Committed()


def test_an_offset_that_a_tool_has_set_is_taken():
    book = PositionBook({("orders", 0): "t"})
    group = stored(book, {("orders", 0): 10}, {"sink": 1})
    group["t", 0] = (5, "")
    assert PositionBook({("orders", 0): "t"}).load(group) == Committed({("orders", 0): 5})
    group["t", 0] = (5, "somebody's note")
    assert PositionBook({("orders", 0): "t"}).load(group) == Committed({("orders", 0): 5})


def test_two_sources_of_one_topic_keep_a_position_each():
    sources = {("a", 0): "t", ("b", 0): "t"}
    group = stored(PositionBook(sources), {("a", 0): 10, ("b", 0): 7})
    assert group["t", 0][0] == 7, "tools see the one that is behind"
    assert PositionBook(sources).load(group).positions == {("a", 0): 10, ("b", 0): 7}


def test_a_commit_holds_all_positions_known():
    sources = {("a", 0): "s", ("b", 0): "t"}
    book = PositionBook(sources)
    book.load(stored(PositionBook(sources), {("a", 0): 1, ("b", 0): 2}))
    group = stored(book, {("a", 0): 5})
    assert {place: offset for place, (offset, _) in group.items()} == {("s", 0): 5, ("t", 0): 2}


def test_the_newest_text_counts():
    """A source that was away for a while has an old one beside its offset."""
    book = PositionBook({("a", 0): "s", ("b", 0): "t"})
    both = stored(book, {("a", 0): 1, ("b", 0): 1}, {"sink": "old"})
    alone = PositionBook({("a", 0): "s"})
    alone.load({("s", 0): both["s", 0]})
    group = {**both, **stored(alone, {("a", 0): 2}, {"sink": "new"})}
    loaded = PositionBook({("a", 0): "s", ("b", 0): "t"}).load(group)
    assert loaded == Committed({("a", 0): 2, ("b", 0): 1}, {"sink": "new"})


@pytest.mark.parametrize("position", [-1, "5", None, 1.5, True])
def test_a_kafka_position_is_an_offset(position):
    with pytest.raises(FatalError, match="offset ≥ 0"):
        PositionBook({("a", 0): "t"}).offsets({("a", 0): position}, {})


def test_a_text_that_no_broker_takes_is_an_error():
    with pytest.raises(FatalError, match="4096"):
        PositionBook({("a", 0): "t"}).offsets({("a", 0): 1}, {"sink": "x" * 4096})


def test_a_document_holds_everything():
    book = PositionBook({})
    document = book.document({("file", 0): {"at": 1}}, {"sink": 1})
    assert PositionBook({}).load_document(document) == Committed({("file", 0): {"at": 1}}, {"sink": 1})
    assert PositionBook({}).load_document(None) == Committed()


def test_what_a_task_began_with_stays_in_its_commits_and_others_can_read_it():
    sources = {("orders", 3): "orders-topic", ("users", 3): "users-topic"}
    book = PositionBook(sources)
    book.began = {"orders-topic": 4, "users-topic": 6}
    group = stored(book, {("orders", 3): 10, ("users", 3): 20})
    again = PositionBook(sources)
    again.load(group)
    assert again.began == book.began
    assert stored(again, {("orders", 3): 11})["users-topic", 3][1] != group["users-topic", 3][1]
    neighbour = PositionBook({("orders", 4): "orders-topic", ("users", 4): "users-topic"})
    assert neighbour.began_in(group["orders-topic", 3][1]) == book.began
    assert PositionBook({("orders", 4): "orders-topic"}).began_in(group["orders-topic", 3][1]) == {}
    assert neighbour.began_in("set by a tool") == {}


def test_commits_are_signed_and_the_signature_is_read_by_others():
    task = TaskId("shop", "orders", 0, 3)
    book = PositionBook({("orders", 3): "t"}, signature_of(task))
    for offset in (1, 2):
        [(_, text)] = stored(book, {("orders", 3): offset}).values()
    assert signature_in(text) == Signature("shop.orders", identity(), 2)
    assert PositionBook({("orders", 3): "t"}).load({("t", 3): (2, text)}).positions == {("orders", 3): 2}
    assert signature_in(PositionBook({}, signature_of(task)).document({}, {})) == Signature(
        "shop.orders", identity(), 1
    )


@pytest.mark.parametrize("text", ["", "by hand", "[1]", '{"n": 1}', '{"n": 1, "by": ["a.b", "host", "1", 2]}'])
def test_texts_of_others_have_no_signature(text):
    assert signature_in(text) is None


def test_a_cursor_that_is_taken_out_leaves_the_rest():
    book = PositionBook({("a", 0): "in"}, signature_of(TaskId("app", "p", 0, 0)))
    text = book.offsets({("a", 0): 5}, {"totals": 3, "sink": [1]}).metadata
    left = without_cursor(text, "totals")
    assert book.load({("in", 0): (5, left)}) == Committed({("a", 0): 5}, {"sink": [1]})
    assert signature_in(left) == signature_in(text)
    assert without_cursor(left, "totals") == left
    assert book.load({("in", 0): (5, without_cursor(left, "sink"))}).cursors == {}
    assert without_cursor("of a console tool", "totals") == "of a console tool"
