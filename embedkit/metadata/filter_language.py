"""The language of filters: `category = 'faq' AND year >= 2024`, which lark parses."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from embedkit.data.texts import as_python, check_text
from embedkit.errors import InputError
from embedkit.metadata.filters import Filter, Joined, Not, Test

if TYPE_CHECKING:
    from lark import Lark

Where: TypeAlias = "str | Mapping[str, Any] | Filter"
_LONGEST = 4096  # bytes of a condition
_DEEPEST = 50  # parentheses and NOTs inside one another
_GRAMMAR = r"""
?start: any
?any: all (_OR all)*
?all: term (_AND term)*
?term: NOT term -> negation | atom
?atom: column OPERATOR value                       -> compare
    | column [NOT] _IN _list                       -> one_of
    | column [NOT] _BETWEEN value _AND value       -> between
    | column [NOT] _LIKE STRING [_ESCAPE STRING]   -> like
    | column _IS [NOT] _NULL                       -> null
    | STRING [NOT] _IN column                      -> contains
    | _OPEN any _CLOSE                             -> group
_list: _OPEN value ("," value)* _CLOSE
column: NAME | QUOTED
value: STRING | NUMBER | BOOLEAN
OPERATOR: "!=" | "<>" | "<=" | ">=" | "=" | "<" | ">"
STRING: /'(?:[^']|'')*'/
QUOTED: /"(?:[^"]|"")+"/
NUMBER: /[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?!\w)/
_OPEN: "("
_CLOSE: ")"
_AND.2: /AND\b/i
_OR.2: /OR\b/i
NOT.2: /NOT\b/i
_IN.2: /IN\b/i
_BETWEEN.2: /BETWEEN\b/i
_LIKE.2: /LIKE\b/i
_ESCAPE.2: /ESCAPE\b/i
_IS.2: /IS\b/i
_NULL.2: /NULL\b/i
BOOLEAN.2: /(TRUE|FALSE)\b/i
NAME: /[^\W\d]\w*(?:\.[^\W\d]\w*)*/
%ignore /\s+/
"""
_TOKENS = {
    "OPERATOR": "a comparison",
    "STRING": "a text in '...'",
    "NUMBER": "a number",
    "BOOLEAN": "TRUE or FALSE",
    "NAME": "a column",
    "QUOTED": "a column",
    "_OPEN": "(",
    "_CLOSE": ")",
    "COMMA": "a comma",
    "$END": "the end",
}


def as_filter(where: str | Mapping[str, Any] | Filter) -> Filter | None:
    """The condition that a text says, or that columns have values; None of an empty mapping.

    Args:
        where: such as `category = 'faq' AND year >= 2024`; or a mapping of columns to a value, a
            list of values of which a row has one, or None for a missing value; or a `Filter`.

    Raises:
        InputError: what is wrong with the text, and where.

    Example:
        >>> as_filter("year BETWEEN 2020 AND 2024") == as_filter("year >= 2020 AND year <= 2024")
        True
        >>> as_filter({"category": ["faq", "guide"]}) == as_filter("category IN ('faq', 'guide')")
        True
    """
    if isinstance(where, Filter):
        return where
    if isinstance(where, Mapping):
        conditions = tuple(_equality(name, value) for name, value in where.items())
        if len(conditions) < 2:
            return conditions[0] if conditions else None
        return Joined("and", conditions)
    check_text("where", where)
    size = len(where.encode())
    if size > _LONGEST:
        raise InputError(f"where: got {size:,} bytes, expected at most {_LONGEST:,}")
    from lark import UnexpectedInput, UnexpectedToken

    try:
        parsed: Any = _parser().parse(where)
        condition, depth = parsed
    except UnexpectedInput as error:
        at = error.pos_in_stream or 0
        got = repr(where[at : at + 20])
        if isinstance(error, UnexpectedToken):
            got = repr(str(error.token))
            if error.token.type == "$END":
                got, at = "the end", len(where)
        before: Any = _parser().parse_interactive(where[:at])
        before.exhaust_lexer()
        expected = ", ".join(sorted({_TOKENS.get(x, x.strip("_")) for x in before.accepts()}))
        raise InputError(f"where, character {at + 1}: got {got}, expected {expected}") from None
    if depth > _DEEPEST:
        raise InputError(
            f"where: got {depth} parentheses and NOTs inside one another, expected at most "
            f"{_DEEPEST}"
        )
    return cast("Filter", condition)


def _equality(column: str, value: Any) -> Filter:
    value = as_python(value)
    if value is None:
        return Test(column, "null")
    is_list = isinstance(value, list | tuple | set | frozenset)
    for one in value if is_list else [value]:
        if isinstance(one, str):
            check_text(f"where, {column!r}", one)
    if is_list:
        return Test(column, "in", tuple(value))
    return Test(column, "=", value)


_Nested: TypeAlias = "tuple[Filter, int]"  # a condition, and how deep it is nested


@cache
def _parser() -> Lark:
    from lark import Lark, Token, Transformer, v_args

    def unquoted(token: Token) -> str:
        return token[1:-1].replace(2 * token[0], token[0])

    def test(column: Token, operator: str, value: Any = None, no: object = None) -> _Nested:
        name = unquoted(column) if column.type == "QUOTED" else str(column)
        condition = Test(name, operator, value, (column.start_pos or 0) + 1)
        return (Not(condition) if no else condition), 0

    @v_args(inline=True)
    class ToFilter(Transformer[Token, _Nested]):
        STRING = staticmethod(unquoted)

        def value(self, token: Any) -> Any:
            if not isinstance(token, Token):
                return token
            if token.type == "BOOLEAN":
                return token.upper() == "TRUE"
            return int(token) if token.lstrip("+-").isdigit() else float(token)

        def column(self, token: Token) -> Token:
            return token

        def compare(self, column: Token, operator: Token, value: Any) -> _Nested:
            return test(column, str(operator).replace("<>", "!="), value)

        def one_of(self, column: Token, no: object, *values: Any) -> _Nested:
            return test(column, "in", values, no)

        def between(self, column: Token, no: object, low: Any, high: Any) -> _Nested:
            ends = test(column, ">=", low)[0], test(column, "<=", high)[0]
            return (Not(Joined("and", ends)) if no else Joined("and", ends)), 0

        def like(self, column: Token, no: object, pattern: str, escape: str | None) -> _Nested:
            return test(column, "like", (pattern, escape), no)

        def null(self, column: Token, no: object) -> _Nested:
            return test(column, "null", None, no)

        def contains(self, value: str, no: object, column: Token) -> _Nested:
            return test(column, "contains", value, no)

        def negation(self, _: object, inner: _Nested) -> _Nested:
            return Not(inner[0]), inner[1] + 1

        def group(self, inner: _Nested) -> _Nested:
            return inner[0], inner[1] + 1

        def any(self, *inner: _Nested) -> _Nested:
            return Joined("or", tuple(x for x, _ in inner)), max(depth for _, depth in inner)

        def all(self, *inner: _Nested) -> _Nested:
            return Joined("and", tuple(x for x, _ in inner)), max(depth for _, depth in inner)

    return Lark(_GRAMMAR, parser="lalr", transformer=ToFilter(), maybe_placeholders=True)
