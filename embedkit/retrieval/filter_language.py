"""The language of filters: `category = 'faq' AND year >= 2024`, which lark parses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from embedkit.data.texts import check_text
from embedkit.errors import InputError
from embedkit.retrieval.filters import (
    Column,
    Comparison,
    Contains,
    Filter,
    IsNull,
    Joined,
    Like,
    Not,
    OneOf,
    Value,
)

if TYPE_CHECKING:
    from lark import Lark

Where: TypeAlias = "str | Mapping[str, Any] | Filter"
_LONGEST = 4096  # bytes of a condition
_DEEPEST = 50  # parentheses and NOTs inside one another
_GRAMMAR = r"""
?start: any
?any: all (_OR all)*
?all: term (_AND term)*
?term: _NOT term -> negation | atom
?atom: column OPERATOR value                    -> comparison
    | column _IN _list                          -> one_of
    | column _NOT _IN _list                     -> not_one_of
    | column _BETWEEN value _AND value          -> between
    | column _NOT _BETWEEN value _AND value     -> not_between
    | column _LIKE STRING [_ESCAPE STRING]      -> like
    | column _NOT _LIKE STRING [_ESCAPE STRING] -> not_like
    | column _IS _NULL                          -> is_null
    | column _IS _NOT _NULL                     -> is_not_null
    | STRING _IN column                         -> contains
    | STRING _NOT _IN column                    -> not_contains
    | _OPEN any _CLOSE                          -> group
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
_NOT.2: /NOT\b/i
_IN.2: /IN\b/i
_BETWEEN.2: /BETWEEN\b/i
_LIKE.2: /LIKE\b/i
_ESCAPE.2: /ESCAPE\b/i
_IS.2: /IS\b/i
_NULL.2: /NULL\b/i
BOOLEAN.2: /(TRUE|FALSE)\b/i
NAME: /[^\W\d]\w*/
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
        conditions = tuple(_equality(Column(name), value) for name, value in where.items())
        return Joined("and", conditions) if conditions else None
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
        got, names = repr(where[at : at + 20]), getattr(error, "allowed", None)
        if isinstance(error, UnexpectedToken):
            got, names = repr(str(error.token)), error.accepts
            if error.token.type == "$END":
                got, at = "the end", len(where)
        expected = ", ".join(sorted({_TOKENS.get(name, name.strip("_")) for name in names or ()}))
        raise InputError(f"where, character {at + 1}: got {got}, expected {expected}") from None
    if depth > _DEEPEST:
        raise InputError(
            f"where: got {depth} parentheses and NOTs inside one another, expected at most "
            f"{_DEEPEST}"
        )
    return cast("Filter", condition)


def _equality(column: Column, value: Any) -> Filter:
    if value is None:
        return IsNull(column)
    if isinstance(value, list | tuple | set | frozenset):
        return OneOf(column, tuple(value))
    return Comparison(column, "=", value)


_Nested: TypeAlias = "tuple[Filter, int]"  # a condition, and how deep it is nested


def _condition(make: Callable[..., Filter], *, negated: bool = False) -> Any:
    """How the parser makes a condition that has no other inside it."""

    def called(_: object, children: list[Any]) -> _Nested:
        condition = make(*children)
        return (Not(condition) if negated else condition), 0

    return called


@cache
def _parser() -> Lark:
    from lark import Lark, Token, Transformer

    def unquoted(token: Token) -> str:
        quote = token[0]
        return token[1:-1].replace(2 * quote, quote)

    def between(column: Column, low: Value, high: Value) -> Filter:
        return Joined("and", (Comparison(column, ">=", low), Comparison(column, "<=", high)))

    def join(operator: Literal["and", "or"]) -> Any:
        def called(_: object, children: list[_Nested]) -> _Nested:
            conditions, depths = zip(*children, strict=True)
            return Joined(operator, conditions), max(depths)

        return called

    class ToFilter(Transformer[Token, _Nested]):
        any, all = join("or"), join("and")

        def STRING(self, token: Token) -> str:  # noqa: N802
            return unquoted(token)

        def NUMBER(self, token: Token) -> float:  # noqa: N802
            return int(token) if token.lstrip("+-").isdigit() else float(token)

        def BOOLEAN(self, token: Token) -> bool:  # noqa: N802
            return token.upper() == "TRUE"

        def OPERATOR(self, token: Token) -> str:  # noqa: N802
            return "!=" if token == "<>" else str(token)  # noqa: S105

        def column(self, children: list[Token]) -> Column:
            (token,) = children
            name = unquoted(token) if token.type == "QUOTED" else str(token)
            return Column(name, (token.start_pos or 0) + 1)

        def value(self, children: list[Value]) -> Value:
            return children[0]

        def negation(self, children: list[_Nested]) -> _Nested:
            ((condition, depth),) = children
            return Not(condition), depth + 1

        def group(self, children: list[_Nested]) -> _Nested:
            ((condition, depth),) = children
            return condition, depth + 1

        is_null = _condition(IsNull)
        is_not_null = _condition(IsNull, negated=True)

    makers: dict[str, Callable[..., Filter]] = {
        "comparison": Comparison,
        "one_of": lambda column, *values: OneOf(column, values),
        "between": between,
        "like": Like,
        "contains": lambda value, column: Contains(column, value),
    }
    for name, make in makers.items():
        setattr(ToFilter, name, _condition(make))
        setattr(ToFilter, f"not_{name}", _condition(make, negated=True))
    return Lark(_GRAMMAR, parser="lalr", transformer=ToFilter())
