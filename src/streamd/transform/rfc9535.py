"""The library's parser of JSONPath, made to refuse what the grammar of the RFC has no rule for.

It takes anything for an operand: `(@.a == 1) == true`, `!@.a == 1`, `@.a < 1 < 2`, `@.a == (1)`.
"""

from __future__ import annotations

from jsonpath_rfc9535 import JSONPathEnvironment
from jsonpath_rfc9535 import filter_expressions as tree
from jsonpath_rfc9535.exceptions import JSONPathSyntaxError
from jsonpath_rfc9535.function_extensions import ExpressionType
from jsonpath_rfc9535.parse import Parser
from jsonpath_rfc9535.tokens import TokenStream

_COMPARABLE = (tree.FilterExpressionLiteral, tree.FilterQuery, tree.FunctionExtension)


class StrictParser(Parser):
    """One use for one text. `grouped`: expressions that stand in parentheses, by their ids."""

    def __init__(self, *, env: JSONPathEnvironment) -> None:
        super().__init__(env=env)
        self.grouped: dict[int, tree.Expression] = {}

    def parse_grouped_expression(self, stream: TokenStream) -> tree.Expression:
        expression = super().parse_grouped_expression(stream)
        self._condition(expression)
        self.grouped[id(expression)] = expression
        return expression

    def parse_prefix_expression(self, stream: TokenStream) -> tree.Expression:
        expression = super().parse_prefix_expression(stream)
        assert isinstance(expression, tree.PrefixExpression)
        self._condition(expression.right)
        if isinstance(expression.right, tree.PrefixExpression) and id(expression.right) not in self.grouped:
            raise JSONPathSyntaxError("! cannot follow !", token=expression.right.token)
        return expression

    def parse_infix_expression(self, stream: TokenStream, left: tree.Expression) -> tree.Expression:
        expression = super().parse_infix_expression(stream, left)
        if isinstance(expression, tree.ComparisonExpression):
            for side in (expression.left, expression.right):
                if not isinstance(side, _COMPARABLE) or id(side) in self.grouped:
                    raise JSONPathSyntaxError(
                        "only values can be compared: literals, paths to one value, and functions", token=side.token
                    )
        elif isinstance(expression, tree.LogicalExpression):
            self._condition(expression.left)
            self._condition(expression.right)
        return expression

    def _condition(self, expression: tree.Expression) -> None:
        """Refuse a value where a condition has to stand."""
        value = isinstance(expression, tree.FilterExpressionLiteral) or (
            isinstance(expression, tree.FunctionExtension)
            and self.env.function_extensions[expression.name].return_type is ExpressionType.VALUE
        )
        if value:
            raise JSONPathSyntaxError("a value must be compared with something", token=expression.token)


class StrictEnvironment(JSONPathEnvironment):
    """JSONPath with nothing beyond the RFC."""

    parser_class = StrictParser
