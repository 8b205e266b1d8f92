"""What Python can say and expressions cannot, with a hint of what would be right."""

from __future__ import annotations

import ast
from collections.abc import Mapping

REFUSED: Mapping[type[ast.AST], tuple[str, str | None]] = {
    ast.Lambda: ("there are no functions of one's own", "use a comprehension: [f(x) for x in items]"),
    ast.NamedExpr: ("there is no assignment in an expression", "use == to compare"),
    ast.Starred: ("* is not allowed before a value", "use concat(a, b)"),
    ast.Set: ("a set can only stand to the right of 'in'", "use a list: [a, b]"),
    ast.SetComp: ("there are no sets", "use unique([… for x in items])"),
    ast.DictComp: ("there are no comprehensions of objects", "use from_entries([[name, value] for x in items])"),
    ast.GeneratorExp: ("a loop stands alone", "write [… for x in items]"),
    ast.Await: ("there is no await in an expression", None),
    ast.Yield: ("there is no yield in an expression", None),
    ast.YieldFrom: ("there is no yield in an expression", None),
    ast.Slice: ("a range stands in brackets after a value", "write items[1:3]"),
}

BINARY_HINTS: Mapping[type[ast.operator], tuple[str, str]] = {
    ast.BitAnd: ("&", "use and for conditions, bit_and(a, b) for bits"),
    ast.BitOr: ("|", "use or for conditions, merge(a, b) for objects, bit_or(a, b) for bits"),
    ast.BitXor: ("^", "use ** for powers, bit_xor(a, b) for bits"),
    ast.LShift: ("<<", "use * 2 ** n"),
    ast.RShift: (">>", "use // 2 ** n"),
    ast.MatMult: ("@", "use * to multiply"),
}
