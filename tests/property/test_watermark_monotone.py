"""Whatever comes, is quiet, ends and crashes: a watermark never goes back, and passes nobody who is awake."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from demo.watermark_inputs import Inputs
from streamd.record import BEGINNING, END

NAMES = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), NAMES, st.integers(0, 100_000)),
        st.tuples(st.just("pass"), NAMES, st.integers(0, 20)),
        st.tuples(st.just("lag"), NAMES, st.sampled_from([0, 0, 1, None])),
        st.tuples(st.just("stale"), NAMES, st.booleans()),
        st.tuples(st.just("clock back"), NAMES, st.integers(0, 10_000)),
        st.tuples(st.sampled_from(["end", "crash"]), NAMES, st.none()),
    ),
    max_size=40,
)
SETTINGS = st.one_of(
    st.none(),
    st.builds(
        lambda idle, bound: {"idle": idle, "out_of_order": bound},
        st.sampled_from([None, "5s", "10s"]),
        st.sampled_from([0, "1s"]),
    ),
    st.just({"clock": "processing", "idle": "5s"}),
)


@given(st.lists(SETTINGS, min_size=1, max_size=3), STEPS)
def test_it_never_goes_back(settings: list[dict[str, object] | None], steps: list[tuple[str, str, object]]) -> None:
    inputs, last = Inputs(*settings), BEGINNING
    for what, name, value in steps:
        if (name, 0) not in inputs.readers:
            continue
        reader, place = inputs.reader(name), (name, 0)
        match what, value:
            case "batch", int(high) if not reader.ended:
                inputs.batch(name, high)
            case "pass", int(seconds):
                inputs.clock.pass_(seconds)
            case "lag", _:
                reader.left = value
            case "stale", _:
                reader.stale = value
            case "clock back", int(milliseconds):
                inputs.clock.wall -= milliseconds
            case "end", _:
                reader.ended = True
            case "crash", _:
                clock, stored = inputs.clock, inputs.watermark.state()
                inputs = Inputs(*settings, stored=stored)
                inputs.clock.wall = clock.wall
        before = inputs.watermark.times(place)
        assert before[1] >= last, "the rows of the next batch"
        moved = inputs.watermark.move()
        assert moved >= last
        awake = [one.reached for one in inputs.watermark._inputs.values() if not one.ended and not one.left_out()]
        assert moved == END or not awake or moved <= max(last, min(awake))
        last = last if moved == END else moved
        assert inputs.watermark.state().get("", BEGINNING) == last
