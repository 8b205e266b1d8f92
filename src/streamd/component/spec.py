"""What the registry knows of a component: its names, its settings, what it promises."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from streamd.component.model import Model
from streamd.record import TaskId

Kind = Literal["source", "stage", "sink"]
Gives = Literal["documents", "json", "as read"]


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One component as the registry found it.

    `config` is the pydantic model of its settings; `shorthand`, where given, names the one field that a bare scalar or
    list in YAML stands for (`filter: amount > 50` is `filter: {where: amount > 50}`); with `shorthand_always` the whole
    YAML value always is that field (`set: {eur: …}`).
    `transport`: "kafka", "embedded" or None: whose transactions it can be part of.
    Sources: `replayable` (can go back to a position), `bounded(config)` (has an end), `decoded` (values are dicts),
    `single(config)` (always has just one partition).
    Sinks: `documents` (takes dicts, not bytes); `delivery`: what it promises, "exactly once", "at least once", …;
    `alone(config, task)`: the name of what only this task may write (a file's path), None where tasks share.
    Stages: `fused` (FusedStage), `keyed` (KeyedStage) or neither (BatchStage); `outputs(config)` names its outputs, ()
    for the plain one; `inputs(config)`: for a stage whose settings name what it reads, the ids of its ports in order;
    `state(config)`: for batch stages that remember in a store of their own (component/state.py) between records. It
    gives {setting: text} of all that the meaning of the store depends on; what other settings have stored is refused;
    `tables(config)`: the tables that it looks rows up in, {id of a source with `table:`: the fields it takes of a
    row, None for all};
    `own_key`: records leave with a key of the stage's own, which is text;
    `gives(config)`, of a keyed stage: "documents"; "json": its results are all `Passed`; or "as read": they are where
    `Body.as_read` gave bytes; `sifts`: a keyed one gives rows on at once, or leaves them out on purpose, and they are
    counted;
    `keeps(config, field)`: whether a top-level field of the document for sure comes out as it went in.
    """

    kind: Kind
    name: str
    config: type[Model]
    factory: Callable[[Any, Any], Any]
    shorthand: str | None = None
    shorthand_always: bool = False
    transport: str | None = None
    replayable: bool = True
    decoded: bool = False
    single: Callable[[Any], bool] = lambda config: False
    bounded: Callable[[Any], bool] = lambda config: False
    documents: bool = False
    alone: Callable[[Any, TaskId], str | None] = lambda config, task: None
    delivery: str = "at least once"
    fused: bool = True
    keyed: bool = False
    state: Callable[[Any], Mapping[str, str]] | None = None
    outputs: Callable[[Any], tuple[str, ...]] = lambda config: ()
    inputs: Callable[[Any], tuple[str, ...]] | None = None
    tables: Callable[[Any], Mapping[str, tuple[str, ...] | None]] = lambda config: {}
    keeps: Callable[[Any, str], bool] = lambda config, field: False
    own_key: bool = False
    gives: Callable[[Any], Gives] = lambda config: "documents"
    sifts: bool = False

    @property
    def stateful(self) -> bool:
        """Whether it remembers anything between records."""
        return self.state is not None

    @property
    def doc(self) -> str:
        """The component's docs: the docstring of the module that defines it."""
        return sys.modules[self.factory.__module__].__doc__ or ""


T = TypeVar("T", bound=type[Any])


def source(name: str, *, config: type[Model], **traits: Any) -> Callable[[T], T]:
    """Class decorator: make a class known as the source `name`. It sets `spec` on the class; the registry reads it."""
    return _known("source", name, config, traits)


def stage(name: str, *, config: type[Model], **traits: Any) -> Callable[[T], T]:
    """Class decorator: make a class known as the stage `name`."""
    return _known("stage", name, config, traits)


def sink(name: str, *, config: type[Model], **traits: Any) -> Callable[[T], T]:
    """Class decorator: make a class known as the sink `name`."""
    return _known("sink", name, config, traits)


def _known(kind: Kind, name: str, config: type[Model], traits: dict[str, Any]) -> Callable[[T], T]:
    def decorate(cls: T) -> T:
        cls.spec = ComponentSpec(kind, name, config, cls, **traits)
        return cls

    return decorate
