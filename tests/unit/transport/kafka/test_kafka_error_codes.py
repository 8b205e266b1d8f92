"""Every error code of Kafka has a name, a class of ours, and says whether asking again can help."""

from __future__ import annotations

import aiokafka.errors
import pytest

from streamd.errors import (
    AccessDeniedError,
    FencedError,
    NotFoundError,
    NotMemberError,
    PositionLostError,
    StreamdError,
    TransientError,
    UnavailableError,
)
from streamd.transport.kafka.error_codes import DUPLICATE_SEQUENCE_NUMBER, MEANINGS, error_of, meaning


def test_all_codes_that_aiokafka_knows_are_known():
    ours = set(MEANINGS) | {0, DUPLICATE_SEQUENCE_NUMBER}
    administrative = {11, 57, 60, 62, 63, 64}  # controller epoch, log folders, reassignment, delegation tokens
    assert set(aiokafka.errors.kafka_errors) - ours <= administrative


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1, PositionLostError),
        (17, NotFoundError),
        (22, NotMemberError),
        (25, NotMemberError),
        (29, AccessDeniedError),
        (47, FencedError),
        (82, FencedError),
        (90, FencedError),
        (14, UnavailableError),
        (88, UnavailableError),
        (120, TransientError),
        (9999, TransientError),
    ],
)
def test_codes_become_errors_of_ours(code, error):
    made = error_of(code, "commit offsets of group g", "said the broker")
    assert type(made) is error
    assert "commit offsets of group g" in str(made)
    assert f"({code})" in str(made) or str(code) in str(made)
    assert str(made).endswith("said the broker")


def test_what_may_be_asked_again_may_pass_by_itself():
    for code, known in MEANINGS.items():
        assert issubclass(known.error, StreamdError), code
        assert not known.retriable or issubclass(known.error, TransientError), code


def test_a_code_of_the_future_is_final():
    assert not meaning(12345).retriable
