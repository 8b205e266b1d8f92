"""`on_error`, of a pipeline or of one component: what becomes of records that fail."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

from pydantic import Field

from streamd.component.fields import Duration
from streamd.component.model import Model
from streamd.config.components import ComponentReader, Shape
from streamd.config.diagnostics import did_you_mean, one_of
from streamd.config.model_check import Check, describe
from streamd.config.pipeline import ErrorAction, ErrorPolicy, FinalAction
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar

_ACTIONS = ("fail", "skip", "retry", "dead_letter")
_FINAL_ACTIONS = ("fail", "skip", "dead_letter")
_EXAMPLE = "on_error: {dead_letter: {file: {path: failed.ndjson}}}"
_RETRY_EXAMPLE = "on_error: {retry: {attempts: 5}, dead_letter: {file: {path: failed.ndjson}}}"


class RetrySettings(Model):
    """How to try a failed record again."""

    backoff: Duration = Field(0.1, gt=0, description="Wait before the first new attempt.", examples=["100ms"])
    max_backoff: Duration = Field(
        10.0, gt=0, description="The wait is doubled after each attempt, up to this.", examples=["10s"]
    )
    deadline: Duration = Field(60.0, gt=0, description="Give up after this time.", examples=["1m"])
    attempts: int | None = Field(None, ge=1, description="Give up after this many new attempts.", examples=[5])


class DeadLetterSettings(Model):
    """What is written beside the record. The sink itself is named by its own key."""

    include_details: bool = Field(
        False, description="Give error messages whole, also where they hold contents of the record.", examples=[True]
    )


class ErrorThresholdSettings(Model):
    """Stop the pipeline when too many of its records fail."""

    rate: float = Field(gt=0, le=1, description="Share of records that may fail, from 0 to 1.", examples=[0.05])
    window: Duration = Field(60.0, gt=0, description="Time over which the share is taken.", examples=["1m"])
    min_records: int = Field(
        100, ge=1, description="With fewer records than this in the window nothing is decided.", examples=[100]
    )


@dataclass(slots=True)
class PolicyDraft:
    """A policy, and the dead-letter sink that it names, whose id is not known yet.

    `inherits`: the node of a component's `dead_letter` without a sink, which stands for the pipeline's.
    """

    policy: ErrorPolicy
    dead_letter: Shape | None = None
    inherits: Node | None = None


class PolicyReader:
    """Reads the policies of one document."""

    def __init__(self, document: Document, components: ComponentReader) -> None:
        self.document = document
        self.components = components

    def report_no_sink(self, at: Node) -> None:
        """Say that a `dead_letter` names no sink, and that there is none to inherit."""
        message = "`dead_letter` needs a sink, and the pipeline's `on_error` names none either"
        help_text = f"write `{_EXAMPLE}`, or to retry first `{_RETRY_EXAMPLE}`"
        self.document.report("missing-key", message, at, help=help_text)

    def read(self, node: Node, at: Node) -> PolicyDraft | None:
        """The policy of an `on_error` node; None when there are problems."""
        if isinstance(node, Mapping) and set(node.entries) == {"retry", "dead_letter"}:
            return self._retry_then_dead_letter(node)
        action = self._action(node, at, _ACTIONS, "on_error")
        if action is None:
            return None
        name, body = action
        if name == "retry":
            return self._retry(body, at if not isinstance(node, Mapping) else node.key(name))
        if name == "dead_letter":
            return self._dead_letter(body, at, ErrorPolicy("dead_letter"))
        return PolicyDraft(ErrorPolicy(cast("ErrorAction", name)))

    def _action(
        self, node: Node, at: Node, actions: tuple[str, ...], subject: Literal["on_error", "then"]
    ) -> tuple[str, Node | None] | None:
        if isinstance(node, Scalar) and isinstance(node.value, str):
            if node.value in actions:
                return node.value, None
            help_text = "" if node.hidden else did_you_mean(node.value, actions)
            message = f"`{subject}` must be {one_of(actions)}, got {describe(node)}"
            self.document.report("wrong-value", message, node, help=help_text)
            return None
        if not isinstance(node, Mapping) or not node.entries:
            message = f"`{subject}` must be {one_of(actions)}, got {describe(node)}"
            self.document.report("wrong-type", message, at)
            return None
        known = [key for key in node.entries if key in actions]
        for key in node.entries:
            if key not in actions:
                message = f"unknown key `{key}` in `{subject}`"
                self.document.report("unknown-key", message, node.key(key), one_of(actions), did_you_mean(key, actions))
        if len(known) > 1:
            message = f"`{subject}` must be one of {', '.join(known)}, not several"
            help_text = f"to retry, and then give up: `{_RETRY_EXAMPLE}`" if "retry" in known else ""
            self.document.report("several-actions", message, node.key(known[1]), help=help_text)
        return (known[0], node.get(known[0])) if known else None

    def _retry_then_dead_letter(self, node: Mapping) -> PolicyDraft | None:
        key, body = node.entries["retry"]
        retry = self._retry(body, key)
        if isinstance(body, Mapping) and "then" in body.entries:
            message = "what happens after the last retry is said twice, by `then` and by `dead_letter`"
            self.document.report("several-actions", message, body.key("then"), help="remove one of them")
            return None
        draft = self._dead_letter(node.get("dead_letter"), node.key("dead_letter"), ErrorPolicy("dead_letter"))
        if retry is None or draft is None:
            return None
        details = draft.policy.include_details
        draft.policy = replace(retry.policy, then="dead_letter", include_details=details)
        return draft

    def _retry(self, body: Node | None, at: Node) -> PolicyDraft | None:
        then_node: Node | None = None
        settings_node = body if body is not None else Mapping(at.start, at.end)
        if isinstance(body, Mapping):
            then_node = body.get("then")
            rest = {key: entry for key, entry in body.entries.items() if key != "then"}
            settings_node = Mapping(body.start, body.end, rest)
        check = Check(self.document, RetrySettings, settings_node, "`retry`", at, also_known=("then",))
        settings = check.run()
        draft: PolicyDraft | None = PolicyDraft(ErrorPolicy("retry"))
        if then_node is not None and isinstance(body, Mapping):
            draft = self._then(then_node, body.key("then"))
        if settings is None or draft is None:
            return None
        draft.policy = replace(
            draft.policy,
            backoff=settings.backoff,
            max_backoff=max(settings.max_backoff, settings.backoff),
            deadline=settings.deadline,
            attempts=settings.attempts,
        )
        return draft

    def _then(self, node: Node, at: Node) -> PolicyDraft | None:
        action = self._action(node, at, _FINAL_ACTIONS, "then")
        if action is None:
            return None
        name, body = action
        policy = ErrorPolicy("retry", then=cast("FinalAction", name))
        return self._dead_letter(body, at, policy) if name == "dead_letter" else PolicyDraft(policy)

    def _dead_letter(self, body: Node | None, at: Node, policy: ErrorPolicy) -> PolicyDraft | None:
        if body is None or (isinstance(body, Scalar) and body.value is None):
            return PolicyDraft(policy, inherits=at)
        sink = self.components.read_shape("sink", body, at, beside=("include_details",))
        if sink is None:
            return None
        include_details = False
        if isinstance(body, Mapping) and "include_details" in body.entries:
            only = {"include_details": body.entries["include_details"]}
            node = Mapping(body.start, body.end, only)
            settings = Check(self.document, DeadLetterSettings, node, "`dead_letter`", at).run()
            include_details = settings is not None and settings.include_details
        return PolicyDraft(ErrorPolicy(policy.action, then=policy.then, include_details=include_details), sink)
