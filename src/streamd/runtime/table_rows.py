"""Records of a source with `table:` to rows: a chain of its own, as any other of the pipeline is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streamd.codecs import Codec
from streamd.codecs.beside import Beside, key_of, owner_of
from streamd.component.model import Model
from streamd.component.spec import ComponentSpec
from streamd.component.stage import Body
from streamd.component.table import as_text, type_name
from streamd.config.diagnostics import Diagnostic
from streamd.config.pipeline import ComponentConfig
from streamd.errors import ConfigError, RecordError, TransformError
from streamd.expr import Expression
from streamd.plan.body import FuseError
from streamd.plan.fuse import fuse
from streamd.plan.graph import ChainPlan, PartPlan
from streamd.record import RawRecord
from streamd.runtime.failure import Failure, failure_of

_NO_KEY = "the record has no key, and `table: {key: …}` names none"


class _Nothing(Model):
    """The settings of what no user writes."""

    format: str = "json"


class TableRows:
    """The code for one table. `columns`: what rows are cut down to, None for whole ones."""

    def __init__(self, source: ComponentConfig, columns: tuple[str, ...] | None, codecs: Mapping[str, Codec]) -> None:
        """Raises ConfigError for a key that cannot be."""
        assert source.table is not None
        settings = source.settings
        if hasattr(settings, "tombstones") and "tombstones" not in settings.model_fields_set:
            # A record without a value deletes its row, unless the user says something else of it.
            settings = settings.model_copy(update={"tombstones": "forward"})
        self._entry = replace(source, settings=settings)
        self._codecs = [codec for name, codec in codecs.items() if owner_of(name) == source.id]
        self._decode_key = Beside(source.id, settings, codecs).decode_key if key_of(source.id) in codecs else None
        key = source.table.key
        self._named = "" if key is None else str(key)
        spec = ComponentSpec("stage", "table", _Nothing, lambda _, context: None)
        # An id that no component of the user's can have.
        name = f"{source.id}.row"
        self._stage = ComponentConfig(name, "stage", "table", _Nothing(), spec, source.place, (source.id,))
        rows = ComponentSpec("sink", "rows", _Nothing, lambda _, context: None)
        target = ComponentConfig(f"{source.id}.rows", "sink", "rows", _Nothing(), rows, source.place, (name,))
        part = PartPlan(
            -1, (self._entry,), (self._stage,), (target,), (), {source.id: (self._stage,), name: (target,)},
            (chain := ChainPlan(self._entry, (self._stage,), (target,)),),
        )  # fmt: skip
        row = _ToRow(key, columns, decoded=self._decode_key is not None)
        try:
            self._chain = fuse(part, chain, {name: row}, codecs)
        except FuseError as error:
            problem = Diagnostic("unknown-field", f"{source.id}: {error}", source.place)
            raise ConfigError("The pipeline cannot be compiled.", (problem,)) from None

    async def made_of(
        self, partition: int, records: Sequence[RawRecord]
    ) -> tuple[list[tuple[str, bytes | None]], list[Failure]]:
        """(key, row, None for a deletion) of records, in their order, and those that make none."""
        changes, failures = self._made_of(partition, records)
        while failures and any([await codec.learn() for codec in self._codecs]):
            changes, failures = self._made_of(partition, records)
        return changes, failures

    def _made_of(
        self, partition: int, records: Sequence[RawRecord]
    ) -> tuple[list[tuple[str, bytes | None]], list[Failure]]:
        made: list[tuple[Any, bytes | None, int, Any]] = []
        errors: list[tuple[RawRecord, BaseException]] = []
        chain = self._chain
        chain.function(records, partition, errors, made)
        changes: list[tuple[str, bytes | None]] = []
        nameless = False
        for key, value, _, _ in made:
            if value is None:
                # The record's own key: there is no document that an expression could be of.
                try:
                    key = self._deleted(key)
                except RecordError:
                    nameless = True
                    continue
            # A copy: what an encoder gives may lie in a much larger piece of memory.
            changes.append((key, None if value is None else bytes(memoryview(value))))
        failures = [failure_of(r, error, self._component_of(error), chain) for r, error in errors]
        errors.clear()  # tracebacks hold the function's frame, and that holds the list
        if nameless:
            failures += [failure_of(r, error, self._stage, chain) for r, error in self._nameless(records)]
        return changes, failures

    def _deleted(self, key: bytes | None) -> str:
        """The key of the row that a record without a value deletes. Raises ExtractError, TransformError."""
        if self._decode_key is None:
            return record_key(key)
        value = self._decode_key(key)
        # An object may have the very field that rows are told apart by.
        return key_of_row(value.get(self._named, value) if type(value) is dict else value)

    def _nameless(self, records: Iterable[RawRecord]) -> Iterator[tuple[RawRecord, Exception]]:
        """Records that delete nothing, since nobody can tell which row."""
        for record in records:
            if record.value is None:
                try:
                    self._deleted(record.key)
                except RecordError as error:
                    yield record, error

    def _component_of(self, error: BaseException) -> ComponentConfig:
        return self._stage if self._chain.owner_of(error) == self._stage.id else self._entry


class _ToRow:
    """The stage that gives a record the key and the value of its row."""

    def __init__(self, key: Expression | None, columns: tuple[str, ...] | None, *, decoded: bool) -> None:
        """`decoded`: records' keys have a format."""
        self._key, self._columns, self._decoded = key, columns, decoded

    async def prepare(self) -> None:
        """Nothing to load."""

    def fuse(self, body: Body) -> None:
        """See `FusedStage`."""
        if self._key is None and self._decoded:
            body.set_key(f"{body.constant('key_of_row', key_of_row)}({body.metadata('_key')})")
        elif self._key is None:
            body.set_key(f"{body.constant('record_key', record_key)}({body.key()})")
        else:
            body.set_key(f"{body.constant('row_key', row_key)}({body.value(self._key)})")
        columns = self._columns
        if columns is not None:

            def cut(document: dict[str, Any]) -> dict[str, Any]:
                return {name: document.get(name) for name in columns}

            body.replace_document(f"{body.constant('cut', cut)}({body.document()})")


def record_key(key: bytes | None) -> str:
    """A record's key as that of its row."""
    if key is None:
        raise TransformError(_NO_KEY)
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise TransformError("the record's key is not UTF-8 text") from None


def key_of_row(value: Any) -> str:
    """A record's decoded key as that of its row."""
    if value is None:
        raise TransformError(_NO_KEY)
    return row_key(value)


def row_key(value: Any) -> str:
    """The value of the key's expression as text."""
    text = as_text(value)
    if type(text) is not str:
        raise TransformError(f"the key of a row must be text or a number, got {type_name(value)}")
    return text
