"""A JSON Patch whose operations are known beforehand, as one Python function: what one would write by hand for them.

Which lists and objects are copies, and so may be changed, is known while it is written. Names become plain subscripts:
what a value lacks raises LookupError or TypeError, as a value without parts does. Only where a name may be an index as
well does a function look what the value is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from streamd.errors import TransformError
from streamd.expr.limits import MAX_CELLS, cells
from streamd.transform.nodes import equal

_INDEX = re.compile(r"0|[1-9][0-9]*")
_END = "-"
Path = tuple[str, ...]


class Step(NamedTuple):
    """An operation. `value` is of add, replace and test, `source` of move and copy."""

    op: str
    path: Path
    value: Any
    source: Path


def compile_patch(steps: Sequence[Step]) -> Callable[[Any], Any]:
    """The function from a value to the patched one. It raises TransformError where an operation cannot be done."""
    writer, ops = _Writer(), [step.op for step in steps]
    for step in steps:
        writer.step(step)
    body = "\n".join(f"        {line}" for line in writer.lines)
    source = (
        f"def patch(document):\n    at, left = 0, {MAX_CELLS}\n    try:\n{body}\n"
        "    except (LookupError, TypeError):\n        raise nothing_there(at) from None\n    return document\n"
    )

    def nothing_there(at: int) -> TransformError:
        return TransformError(f"patch: operation {at} ({ops[at]}) has nothing at its path")

    namespace = {**_RUNTIME, **writer.constants, "nothing_there": nothing_there}
    exec(compile(source, "<streamd patch>", "exec"), namespace)
    patch: Callable[[Any], Any] = namespace["patch"]
    return patch


class _Writer:
    """`owned`: the variable of each list or object, by its path, that was copied and may be changed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self.owned: dict[Path, str] = {}
        self.number = -1

    def step(self, step: Step) -> None:
        self.number += 1
        self.lines.append(f"at = {self.number}")
        op, path, value, source = step
        match op:
            case "add":
                self.add(path, self.constant(value))
            case "remove":
                self.remove(path)
            case "replace":
                self.replace(path, self.constant(value))
            case "test":
                self.test(path, value)
            case "copy":
                self.lines += [f"copied = {_read(source)}", "left = paid(copied, left)"]
                # It is in two places then, of which one may be inside the other.
                self.owned.clear()
                self.add(path, "copied")
            case "move" if path == source:
                self.lines.append(_read(source))
            case "move":
                self.remove(source, "moved = ")
                self.add(path, "moved")

    def add(self, path: Path, value: str) -> None:
        if not path:
            self.root(value)
            return
        held, name = self.held(path), path[-1]
        if _may_be_index(name):
            self.lines.append(f"add({held}, {_key(name)}, {value})")
            self.forget_below(path[:-1])
        else:
            self.lines.append(f"{held}[{name!r}] = {value}")
            self.forget(path)

    def remove(self, path: Path, target: str = "") -> None:
        if not path:
            self.lines.append("raise LookupError")
            return
        held, name = self.held(path), path[-1]
        if _may_be_index(name):
            self.lines.append(f"{target}remove({held}, {_key(name)})")
            self.forget_below(path[:-1])
        else:
            self.lines.append(f"{target}{held}.pop({name!r})" if target else f"del {held}[{name!r}]")
            self.forget(path)

    def replace(self, path: Path, value: str) -> None:
        if not path:
            self.root(value)
            return
        held, name = self.held(path), path[-1]
        if _may_be_index(name):
            self.lines.append(f"replace({held}, {_key(name)}, {value})")
        else:
            self.lines += [f"{held}[{name!r}]", f"{held}[{name!r}] = {value}"]
        self.forget(path)

    def test(self, path: Path, value: Any) -> None:
        read = _read(path)
        differs = f"{read} != {value!r}" if value.__class__ is str else f"not equal({read}, {self.constant(value)})"
        message = f"patch: operation {self.number} (test): the value is another one"
        self.lines.append(f"if {differs}: raise TransformError({message!r})")

    def root(self, value: str) -> None:
        self.owned.clear()
        self.lines.append(f"document = {value}")

    def held(self, path: Path) -> str:
        """The variable of what holds the value at the path, a copy."""
        *outer, _ = path
        at = tuple(outer)
        if at not in self.owned:
            copy = "own({})" if _may_be_index(path[-1]) else "{{**{}}}"
            if not at:
                self.owned[at] = "document"
                self.lines.append(f"document = {copy.format('document')}")
                return "document"
            around, name = self.held(at), at[-1]
            self.owned[at] = held = f"part_{len(self.lines)}"
            if _may_be_index(name):
                self.lines.append(f"{held} = own_part({around}, {_key(name)})")
            else:
                self.lines.append(f"{held} = {around}[{name!r}] = {copy.format(f'{around}[{name!r}]')}")
        return self.owned[at]

    def forget(self, path: Path) -> None:
        """Another value is at the path."""
        self.owned = {at: held for at, held in self.owned.items() if at[: len(path)] != path}

    def forget_below(self, path: Path) -> None:
        """Elements of a list have moved."""
        self.owned = {at: held for at, held in self.owned.items() if at == path or at[: len(path)] != path}

    def constant(self, value: Any) -> str:
        if value is None or value.__class__ in (str, int, bool):
            return repr(value)
        name = f"value_{self.number}"
        self.constants[name] = value
        return name


def _may_be_index(name: str) -> bool:
    return name == _END or _INDEX.fullmatch(name) is not None


def _read(path: Path) -> str:
    read = "document"
    for name in path:
        read = f"part({read}, {_key(name)})" if _may_be_index(name) else f"{read}[{name!r}]"
    return read


def _key(name: str) -> str:
    """Source of what it is in an object and in a list, where the end is None."""
    return f"{name!r}, {None if name == _END else int(name[:18])}"


def index(held: list[Any], name: str, *, end: bool = False) -> int:
    """The index that a name is in a list; with `end` it may be just behind the last one. Raises IndexError."""
    if not _INDEX.fullmatch(name) or len(name) > 18 or int(name) >= len(held) + end:
        raise IndexError("no such index")
    return int(name)


def part(value: Any, name: str, at: Any) -> Any:
    """What a list or an object has there. Raises LookupError, TypeError."""
    if value.__class__ is list:
        return value[at]
    if value.__class__ is not dict:
        raise TypeError("a value without parts")
    return value[name]


def add(held: Any, name: str, at: int | None, value: Any) -> None:
    """Put a value into a list or an object. Raises IndexError."""
    if held.__class__ is not list:
        held[name] = value
    elif at is None:
        held.append(value)
    elif at > len(held):
        raise IndexError("no such index")
    else:
        held.insert(at, value)


def replace(held: Any, name: str, at: int | None, value: Any) -> None:
    """Put a value in the place of another. Raises LookupError, TypeError."""
    part(held, name, at)
    held[at if held.__class__ is list else name] = value


def remove(held: Any, name: str, at: int | None) -> Any:
    """Take a value out of a list or an object. Raises LookupError, TypeError."""
    if held.__class__ is list and at is None:
        raise IndexError("no such index")
    return held.pop(at if held.__class__ is list else name)


def own(value: Any) -> Any:
    """A copy of a list or an object. Raises TypeError."""
    if value.__class__ is not dict and value.__class__ is not list:
        raise TypeError("a value without parts")
    return value.copy()


def own_part(held: Any, name: str, at: int | None) -> Any:
    """A part of a list or an object, which is a copy from now on. Raises LookupError, TypeError."""
    copied = own(part(held, name, at))
    held[at if held.__class__ is list else name] = copied
    return copied


def paid(value: Any, left: int) -> int:
    """What may be copied yet: copies of copies double each time, so what they come to is bounded."""
    left -= cells(value, left)
    if left < 0:
        raise TransformError(f"patch: it copies more than {MAX_CELLS:,} values and characters")
    return left


_RUNTIME: dict[str, Any] = {
    "TransformError": TransformError,
    **{function.__name__: function for function in (add, equal, own, own_part, paid, part, remove, replace)},
}
