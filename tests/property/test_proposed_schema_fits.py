"""The schema that is proposed for a sample accepts every record of it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamd.profile import Bounds, Values
from streamd.profile.schema import json_schema
from streamd.quality.rules import Schema
from streamd.quality.schemas import DocumentSchema

NAMES = st.sampled_from(["a", "b", "c", "$ref", "type", "ä/~"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e300, 1e300) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=2), inner, max_size=5),
    max_leaves=12,
)
DOCUMENTS = st.lists(st.dictionaries(NAMES, VALUES, max_size=5), min_size=1, max_size=8)


@given(DOCUMENTS, st.sampled_from([3, 5000]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_accepts_the_sample(documents, fields):
    values, bounds = Values(), Bounds(fields=fields)
    for document in documents:
        values.add(document, bounds)
    schema = DocumentSchema(Schema.model_validate({"json_schema": json_schema(values)}), Path())
    assert [document for document in documents if not schema.fits(document)] == []
