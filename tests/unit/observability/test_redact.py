"""What may stand in a log line."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest

from streamd.errors import FatalError, TransformError
from streamd.observability import redact
from streamd.record import Record, SourceRecord, TaskId

SECRET = "hunter2-hunter2"


@pytest.fixture
def known_secret() -> Iterator[None]:
    redact.hide(SECRET)
    yield
    redact._known.discard(SECRET)


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    "name",
    [
        *("password", "sasl_password", "sasl.jaas.config", "token", "http_token", "client_secret", "Authorization"),
        *("api_key", "apikey", "private-key", "credentials", "PASSPHRASE", "passwd"),
    ],
)
def test_fields_with_secret_names_are_hidden(name: str):
    assert redact.plain(SECRET, name) == "***"
    assert redact.plain({"settings": {name: SECRET}}) == {"settings": {name: "***"}}
    assert redact.plain([{name: [SECRET]}]) == [{name: "***"}]
    assert redact.plain(None, name) is None


@pytest.mark.parametrize("name", ["key", "partition", "topic", "tokens", "pass_count", "author"])
def test_fields_with_other_names_are_shown(name: str):
    assert redact.plain("value", name) == "value"


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}",
        f"sasl_plain_password = '{SECRET}'",
        f'{{"password": "{SECRET}"}}',
        f"client_secret: {SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"Basic {SECRET}",
        f"postgresql://streamd:{SECRET}@db:5432/x",
        f"https://:{SECRET}@db/",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
    ],
)
def test_texts_that_look_like_secrets_are_hidden(text: str):
    shown = redact.text(f"before {text} after")
    assert SECRET not in shown
    assert "***" in shown
    assert shown.startswith("before ")


@pytest.mark.parametrize(
    "text",
    [
        "the topic orders has 3 partitions",
        "connect to postgresql://db:5432/x",
        "group streamd.app.pipeline joined with generation 4",
        "see http://127.0.0.1:8470/health/ready",
        "user@example.com",
    ],
)
def test_ordinary_texts_stay_as_they_are(text: str):
    assert redact.text(text) == text


@pytest.mark.usefixtures("known_secret")
def test_a_known_secret_is_hidden_wherever_it_is():
    assert redact.text(f"failed for {SECRET}!") == "failed for ***!"
    assert redact.plain({"a": [f"x{SECRET}x"]}) == {"a": ["x***x"]}
    assert SECRET not in redact.error_line(FatalError(f"refused {SECRET}"))


def test_short_texts_are_not_taken_for_secrets():
    redact.hide("a")
    assert redact.text("a banana") == "a banana"


def test_plain_values_stay_and_others_show_their_class():
    assert redact.plain([1, 2.5, True, None, "x"]) == [1, 2.5, True, None, "x"]
    assert redact.plain(Path("a/b")) == "a/b"
    assert redact.plain(Colour.RED) == "RED"
    assert redact.plain(TaskId("app", "orders", 0, 3)) == "app.orders.0.3"
    assert redact.plain(b"contents") == "<8 bytes>"
    assert redact.plain(object()) == "<object>"
    assert redact.plain(SourceRecord(b"k", b"contents", 0, 0)) == "<SourceRecord>"
    assert redact.plain(Record({"a": "contents"})) == "<Record>"


def test_values_are_cut_to_size():
    assert len(redact.plain("x" * 100_000)) == redact.MAX_TEXT
    assert len(redact.plain(list(range(1000)))) == redact.MAX_ITEMS
    assert len(redact.plain({str(number): number for number in range(1000)})) == redact.MAX_ITEMS
    endless: list[object] = []
    endless.append(endless)
    assert redact.plain(endless) == [[[["<list>"]]]]


CONTENTS = "contents of a record"


def failure() -> TransformError:
    try:
        try:
            int(CONTENTS)
        except ValueError as error:
            raise TransformError("field amount is not a number", detail=CONTENTS) from error
    except TransformError as error:
        return error


def test_errors_of_records_do_not_show_what_libraries_quote():
    shown = redact.error_text(failure())
    assert CONTENTS not in shown
    assert "TransformError: field amount is not a number" in shown
    assert "ValueError (message left out" in shown
    assert shown.index("ValueError") < shown.index("TransformError")
    assert redact.plain(failure()) == "TransformError: field amount is not a number"


def test_other_errors_show_messages_and_causes_and_no_local_variables():
    def fail(value: str) -> None:
        raise FatalError("the disk is full") from OSError(28, "No space left on device")

    try:
        fail(CONTENTS)
    except FatalError as error:
        shown = redact.error_text(error)
    assert "No space left on device" in shown
    assert "FatalError: the disk is full" in shown
    assert CONTENTS not in shown


def test_errors_of_groups_are_all_shown():
    shown = redact.error_text(ExceptionGroup("tasks", [FatalError("one"), ExceptionGroup("more", [FatalError("two")])]))
    assert "FatalError: one" in shown
    assert "FatalError: two" in shown


def test_a_record_error_within_a_group_makes_the_others_private_too():
    shown = redact.error_text(ExceptionGroup("tasks", [failure()]))
    assert "ValueError (message left out" in shown


def test_errors_that_cause_each_other_end():
    first, second = FatalError("one"), FatalError("two")
    first.__cause__, second.__cause__ = second, first
    assert "FatalError: two" in redact.error_text(first)
