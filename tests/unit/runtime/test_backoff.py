"""Whether and when a failed task is tried again."""

from __future__ import annotations

from streamd.errors import AccessDeniedError, ConfigError, FencedError, UnavailableError
from streamd.observability.identity import Identity, Rival, identity
from streamd.record import TaskId
from streamd.runtime.backoff import Failures, RestartPolicy, fault_of, give_up, gives_way, next_delay, was_calm

TASK = TaskId("shop", "p", 0, 0)
POLICY = RestartPolicy(initial=0.5, maximum=4.0, jitter=0.5, unexpected_limit=3, fence_limit=4)


def after(*kinds):
    failures = Failures()
    for kind in kinds:
        failures = failures.and_one(kind)
    return failures


def test_the_delay_doubles_up_to_its_maximum():
    delays = [next_delay(POLICY, after(*["transient"] * n), 0.0) for n in range(1, 6)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert next_delay(POLICY, after(*["transient"] * 2000), 0.0) == 4.0


def test_chance_shortens_and_the_server_has_the_last_word():
    assert next_delay(POLICY, after("transient"), 0.5) == 0.375
    assert next_delay(POLICY, after("transient"), 0.0, at_least=9.0) == 9.0


def test_errors_by_class():
    assert fault_of(UnavailableError("away")).kind == "transient"
    assert fault_of(ConnectionResetError()).kind == "transient"
    assert fault_of(OSError(28, "No space left on device")).kind == "transient"
    assert fault_of(FencedError("newer")).kind == "fenced"
    assert fault_of(AccessDeniedError("no")).kind == "fatal"
    assert fault_of(ConfigError("bad")).kind == "fatal"
    assert fault_of(SystemExit(1)).kind == "unexpected"


def test_the_text_of_unexpected_errors_is_left_out():
    """It may hold record contents."""
    fault = fault_of(ValueError("card 4111-1111"))
    assert fault.error == "ValueError"
    assert "4111" not in fault.message


def test_transient_errors_are_tried_for_ever():
    assert give_up(POLICY, after(*["transient"] * 1000), fault_of(UnavailableError("away")), TASK) is None


def test_fatal_errors_are_not_tried_again():
    fault = fault_of(AccessDeniedError("no"))
    assert give_up(POLICY, after("fatal"), fault, TASK) is fault


def test_unexpected_errors_are_given_up_after_some():
    fault = fault_of(KeyError("x"))
    assert give_up(POLICY, after("unexpected", "unexpected"), fault, TASK) is None
    assert give_up(POLICY, after("unexpected", "transient", "unexpected", "unexpected"), fault, TASK).kind == "fatal"


def test_a_fence_storm_names_its_cause():
    fault = fault_of(FencedError("newer"))
    assert give_up(POLICY, after(*["fenced"] * 3), fault, TASK, None, 10.0) is None
    assert give_up(POLICY, after(*["fenced"] * 4), fault, TASK, None, 9.9) is None, "who it is may still be seen"
    said = give_up(POLICY, after(*["fenced"] * 4), fault, TASK, None, 10.0).message
    assert f"besides this node ({identity()}), another one with app shop" in said
    assert "give each node its own `app`, or run the pipeline on one node" in said


RIVAL = Rival(Identity("otherhost", 77, 1_700_000_000), "group other-group", 5)


def test_a_rival_that_is_known_ends_it_soon_and_both_are_named():
    fault = fault_of(FencedError("newer"))
    policy = RestartPolicy()
    found = give_up(policy, after(*["fenced"] * 3), fault, TASK, RIVAL, 11.0)
    assert found.kind == "fatal"
    assert f"This one: {identity()}." in found.message
    assert "The other: host otherhost, pid 77, since 2023-11-14 22:13:20 UTC, which commits to group other-group" in (
        found.message
    )


def test_of_two_that_fence_each_other_the_one_that_started_later_stops():
    """Who was there first goes on, and stops only where the other does not for three times as long."""
    fault, policy = fault_of(FencedError("newer")), RestartPolicy()
    later = give_up(policy, after(*["fenced"] * 3), fault, TASK, RIVAL, 10.0)
    assert "This one started later, and gives up." in later.message
    younger = Rival(Identity("otherhost", 77, identity().since + 1), "group other-group", 5)
    assert give_up(policy, after(*["fenced"] * 8), fault, TASK, younger, 60.0) is None
    assert give_up(policy, after(*["fenced"] * 12), fault, TASK, younger, 29.0) is None
    net = give_up(policy, after(*["fenced"] * 9), fault, TASK, younger, 30.0)
    assert "The other started later, and has not given up." in net.message


def test_both_sides_come_to_the_same_answer():
    """Whatever clocks say, and within one second: of two that were published exactly one gives way."""
    ones = [Identity(host, pid, since) for host in ("a", "b") for pid in (1, 2) for since in (100, 101)]
    for ours in ones:
        assert not gives_way(ours, ours)
        assert all(gives_way(ours, theirs) != gives_way(theirs, ours) for theirs in ones if theirs != ours)
    assert gives_way(Identity("a", 1, 101), Identity("b", 2, 100)), "the later start"


def test_a_hand_over_is_no_fence_storm():
    """One or two fences, or some within seconds, happen when a node takes over from another."""
    fault = fault_of(FencedError("newer"))
    assert give_up(RestartPolicy(), after(*["fenced"] * 2), fault, TASK, RIVAL, 60.0) is None
    assert give_up(RestartPolicy(), after(*["fenced"] * 16), fault, TASK, RIVAL, 9.0) is None
    assert give_up(RestartPolicy(), after(*["fenced"] * 6), fault, TASK, None, 60.0) is None


def test_two_that_fence_each_other_are_not_taken_for_calm():
    assert was_calm(POLICY, 10.0, "transient")
    assert not was_calm(POLICY, 17.9, "fenced"), "the rival only waited for its next attempt"
    assert was_calm(POLICY, 18.0, "fenced")
