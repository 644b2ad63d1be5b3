"""Random conditions on the metadata of rows, and the rows, for tests of filters."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from hypothesis import strategies as st

from embedkit.metadata.columns import row_schema
from embedkit.metadata.typed_columns import as_metadata, as_structs

TEXTS = ["", "faq", "FAQ", "a%b", "a_b", "a\\b", "질문", "질의 응답", "it's", "a\nb", "😀", "é"]
LARGE = [2**53, 2**53 + 1, -(2**63), 2**63 - 1]
DAYS = [date(2024, 1, 1) + timedelta(days=31 * n) for n in range(4)]
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "text": st.sampled_from(TEXTS),
    "n": st.integers(-3, 3) | st.sampled_from(LARGE),
    "x": st.integers(-3, 3).map(float) | st.sampled_from([-0.0, 0.5, 0.1, 2.0**53, 1e300]),
    "ok": st.booleans(),
    "날짜": st.sampled_from(DAYS),
    "tags": st.lists(st.sampled_from(TEXTS), max_size=3),
}
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | cells for name, cells in CELLS.items()}),
    min_size=1,
    max_size=8,
)
NUMBERS = st.sampled_from(["0", "1", "-2", "+3", "1.5", "0.1", ".5", "2.", "1e2", "1E-1"]) | (
    st.sampled_from([*LARGE, 2**63, 2**70, -(2**70)]).map(str)
)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


LITERALS = {
    "text": st.sampled_from(TEXTS).map(quoted),
    "n": NUMBERS,
    "x": NUMBERS,
    "ok": st.sampled_from(["TRUE", "false"]),
    "날짜": st.sampled_from([*map(str, DAYS), "2024-01-15"]).map(quoted),
}
OPERATORS = st.sampled_from(["=", "!=", "<>", "<", "<=", ">", ">="])
PATTERNS = st.lists(st.sampled_from([*TEXTS, "%", "_", "a", "b", "."]), max_size=4).map("".join)


@st.composite
def conditions(draw: st.DrawFn, depth: int = 3) -> str:
    if depth and draw(st.booleans()):
        inner = conditions(depth=depth - 1)
        kind = draw(st.sampled_from(["AND", "or", "NOT"]))
        if kind == "NOT":
            return f"NOT ({draw(inner)})"
        return f"({draw(inner)}) {kind} {draw(inner)}"
    column = draw(st.sampled_from([*CELLS]))
    no = draw(st.sampled_from(["", "NOT "]))
    if column == "tags":
        return f"{quoted(draw(st.sampled_from(TEXTS)))} {no}IN tags"
    literal = LITERALS[column]
    kinds = ["compare", "in", "null"]
    kinds += ["between"] * (column != "ok") + ["like"] * (column == "text")
    kind = draw(st.sampled_from(kinds))
    name = draw(st.sampled_from([column, f'"{column}"']))
    if kind == "compare":
        operator = draw(OPERATORS if column != "ok" else st.sampled_from(["=", "!="]))
        return f"{name} {operator} {draw(literal)}"
    if kind == "in":
        return f"{name} {no}IN ({', '.join(draw(st.lists(literal, min_size=1, max_size=3)))})"
    if kind == "between":
        return f"{name} {no}between {draw(literal)} AND {draw(literal)}"
    if kind == "like":
        escape = draw(st.sampled_from(["", " ESCAPE '\\'"]))
        pattern = draw(PATTERNS)
        if escape:
            pattern = pattern.replace("\\", "\\\\").replace("a_", "a\\_")
        return f"{name} {no}LIKE {quoted(pattern)}{escape}"
    return f"{name} IS {no}NULL"


def table_of(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    kinds = {
        "text": pa.string(),
        "n": pa.int64(),
        "x": pa.float64(),
        "ok": pa.bool_(),
        "날짜": pa.date32(),
        "tags": pa.list_(pa.string()),
    }
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
    structs = as_structs(as_metadata(columns))
    schema = row_schema(pa.int64(), False, False, structs.type)
    return pa.table([pa.array(range(len(rows))), structs], schema=schema)
