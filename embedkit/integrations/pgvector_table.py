"""The table of an index in PostgreSQL: how it is made and filled, and hits from its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any, LiteralString, TypeAlias

import numpy as np
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.sql import SQL, Composed, Identifier, Literal
from psycopg.types.json import Json

from embedkit.errors import InputError
from embedkit.metadata.columns import metadata_fields, metadata_kinds, metadata_type, row_schema
from embedkit.metadata.sql import SQL_TYPES
from embedkit.metadata.typed_columns import NAMES, arrow_types
from embedkit.recipes.steps import Float32Array
from embedkit.retrieval.results import Hits
from embedkit.retrieval.rows import RowBatch
from embedkit.vectors.provenance import Provenance

if TYPE_CHECKING:
    import pyarrow as pa

    from embedkit.retrieval.index import VectorIndex

Cursor: TypeAlias = psycopg.Cursor[Any]
FoundRows: TypeAlias = list[tuple[Any, ...]]  # each a distance, and the columns of the row

VECTOR = Identifier("embedding")
_RECORD = "_embedkit"  # behind the name of a table, that of the table that records what it is
_LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer ones
_MOST_NUMBERS = 16000  # in a vector; and where HNSW finds it
_MOST_WITH_HNSW = {"vector": 2000, "halfvec": 4000}
# The operator of a similarity's distance, and the operators of an index behind the type of vectors.
_DISTANCES: dict[str, tuple[LiteralString, LiteralString]] = {
    "cosine": ("<=>", "_cosine_ops"),
    "dot": ("<#>", "_ip_ops"),
    "euclidean": ("<->", "_l2_ops"),
}


@dataclass(frozen=True)
class Table:
    """What the record of a table says, and its name."""

    name: str  # or SCHEMA.NAME
    similarity: str
    dimension: int
    schema: pa.Schema  # of the rows: id, and those that they have of text and metadata
    provenance: Provenance | None
    halfvec: bool
    hnsw: bool

    @classmethod
    def read(cls, name: str, cursor: Cursor) -> Table:
        """The table of that name."""
        found = cursor.execute(SQL("SELECT settings FROM {}").format(names(name)[1])).fetchone()
        try:
            content: Mapping[str, Any] = found[0]  # type: ignore[index]  # None is a TypeError
            origin, types = content["origin"], arrow_types()
            fields = {column: types[kind] for column, kind in content["metadata"].items()}
            return cls(
                name,
                str(content["similarity"]),
                int(content["dimension"]),
                row_schema(types[content["ids"]], content["texts"], False, _struct(fields)),
                None if origin is None else Provenance.from_json(origin),
                bool(content["halfvec"]),
                bool(content["hnsw"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(f"table {name!r}: its record was not written by embedkit") from None

    @classmethod
    def of(cls, index: VectorIndex, name: str, *, halfvec: bool, hnsw: bool) -> Table:
        """A new table for the rows of an index; InputError where PostgreSQL cannot hold them."""
        names(name)
        schema, vectors = index._schema, "halfvec" if halfvec else "vector"
        if schema is None:
            raise InputError("got an index without rows; expected at least one to export")
        most = _MOST_WITH_HNSW[vectors] if hnsw else _MOST_NUMBERS
        if index.dimension > most:
            raise InputError(
                f"got vectors of {index.dimension:,} numbers, expected at most {most:,} for "
                f"{vectors}{' with HNSW' if hnsw else ''}"
            )
        for column in index.metadata_columns:
            taken = column in ("id", "text", "embedding")
            if taken or "\0" in column or len(column.encode()) > _LONGEST_NAME:
                raise InputError(
                    f"metadata: got column {column!r}, expected a name of at most {_LONGEST_NAME} "
                    "bytes without NUL that is not id, text or embedding, which every table has"
                )
        own = row_schema(schema.field("id").type, index.has_texts, False, metadata_type(schema))
        similarity, provenance = index.similarity, index.provenance
        return cls(name, similarity, index.dimension, own, provenance, halfvec, hnsw)

    @property
    def vectors(self) -> LiteralString:
        """The type of the vectors."""
        return "halfvec" if self.halfvec else "vector"

    @cached_property
    def rows(self) -> Identifier:
        """The name, quoted."""
        return names(self.name)[0]

    @cached_property
    def columns(self) -> dict[str, pa.DataType]:
        """All columns but the vectors."""
        own = {field.name: field.type for field in self.schema if field.name != "metadata"}
        return own | {field.name: field.type for field in metadata_fields(self.schema)}

    @property
    def distance(self) -> Composed:
        """The distance from the parameter `query`."""
        operator = _DISTANCES[self.similarity][0]
        return SQL("{} {} %(query)s::{}").format(VECTOR, SQL(operator), SQL(self.vectors))

    def create(self, cursor: Cursor) -> None:
        """Make the table, without rows, and its record."""
        columns = [
            # Texts are ordered by their bytes, as in Arrow.
            SQL('{} {} COLLATE "C"' if str(kind) == "string" else "{} {}").format(
                Identifier(name), SQL(SQL_TYPES[NAMES[str(kind)]])
            )
            for name, kind in self.columns.items()
        ]
        vectors = SQL("{} {}({}) NOT NULL")
        columns.append(vectors.format(VECTOR, SQL(self.vectors), Literal(self.dimension)))
        record = names(self.name)[1]
        create = SQL("CREATE TABLE {} ({})")
        cursor.execute(create.format(self.rows, SQL(", ").join(columns)))
        cursor.execute(create.format(record, SQL("settings json NOT NULL")))
        content = {
            "similarity": self.similarity,
            "dimension": self.dimension,
            "ids": NAMES[str(self.schema.field("id").type)],
            "texts": "text" in self.schema.names,
            "metadata": metadata_kinds(self.schema),
            "origin": self.provenance and self.provenance.to_json(),
            "halfvec": self.halfvec,
            "hnsw": self.hnsw,
        }
        cursor.execute(SQL("INSERT INTO {} VALUES (%s)").format(record), [Json(content)])

    def load(
        self, cursor: Cursor, batches: Iterable[RowBatch], advance: Callable[[int], None]
    ) -> None:
        """Copy rows into the table, in PostgreSQL's binary format."""
        vector_type = cursor.adapters.types[self.vectors].oid
        members = {"format": Format.BINARY, "oid": vector_type, "dump": lambda _, packed: packed}
        cursor.adapters.register_dumper(bytes, type("_PackedDumper", (Dumper,), members))
        columns = SQL(", ").join([*map(Identifier, self.columns), VECTOR])
        copy_into = SQL("COPY {} ({}) FROM STDIN WITH (FORMAT BINARY)").format(self.rows, columns)
        with cursor.copy(copy_into) as copy:
            types = (SQL_TYPES[NAMES[str(kind)]] for kind in self.columns.values())
            copy.set_types([*types, vector_type])
            for batch in batches:
                flat = batch.rows.select(self.schema.names).flatten()
                cells = (column.to_pylist() for column in flat.columns)
                for row in zip(*cells, self._packed(batch.vectors), strict=True):
                    copy.write_row(row)
                advance(len(batch.vectors))

    def _packed(self, matrix: Float32Array) -> list[bytes]:
        """Vectors as pgvector reads them: how many numbers, a zero of 16 bits, and the numbers."""
        numbers = ("numbers", ">f2" if self.halfvec else ">f4", self.dimension)
        packed = np.zeros(len(matrix), [("dimension", ">i2"), ("zero", ">i2"), numbers])
        packed["dimension"] = self.dimension
        with np.errstate(over="ignore"):  # PostgreSQL refuses what is infinite
            packed["numbers"] = matrix
        rows: list[bytes] = packed.view(f"V{packed.itemsize}").tolist()
        return rows

    def build(self, cursor: Cursor, m: int, ef_construction: int) -> None:
        """Make the indexes of a table that is filled."""
        cursor.execute(SQL("ALTER TABLE {} ADD PRIMARY KEY (id)").format(self.rows))
        if self.hnsw:
            operators = SQL(self.vectors + _DISTANCES[self.similarity][1])
            build = "CREATE INDEX ON {} USING hnsw ({} {}) WITH (m = {}, ef_construction = {})"
            options = Literal(m), Literal(ef_construction)
            cursor.execute(SQL(build).format(self.rows, VECTOR, operators, *options))
        no_statistics = SQL("ALTER TABLE {} ALTER COLUMN {} SET STATISTICS 0")  # they are slow
        cursor.execute(no_statistics.format(self.rows, VECTOR))
        cursor.execute(SQL("ANALYZE {}").format(self.rows))

    def hits(self, found: Sequence[FoundRows]) -> Hits:
        """The hits of each query."""
        import pyarrow as pa

        flat: FoundRows = []
        scores = np.full((len(found), max(map(len, found), default=0)), -np.inf, np.float32)
        positions = np.full(scores.shape, -1, np.int64)
        for query, rows in enumerate(found):
            rows.sort(key=itemgetter(0))  # an iterative scan gives them in about this order
            scores[query, : len(rows)] = [(self.similarity == "cosine") - row[0] for row in rows]
            positions[query, : len(rows)] = np.arange(len(flat), len(flat) + len(rows))
            flat += rows
        columns: dict[str, Any] = {
            name: pa.array([row[place] for row in flat], kind)
            for place, (name, kind) in enumerate(self.columns.items(), start=1)
        }
        fields = metadata_fields(self.schema)
        if fields:
            cells = [columns.pop(field.name) for field in fields]
            columns["metadata"] = pa.StructArray.from_arrays(cells, fields=fields)
        return Hits(scores, positions, [pa.table(columns)])


def names(table: str) -> tuple[Identifier, Identifier]:
    """The names of a table and of its record, quoted."""
    parts = table.split(".") if isinstance(table, str) else []
    longest = _LONGEST_NAME - len(_RECORD)
    fit = all(0 < len(part.encode()) <= longest and not {*part} & {*"%\0"} for part in parts)
    if len(parts) not in (1, 2) or not fit:
        raise InputError(
            f"table is {table!r}; expected NAME or SCHEMA.NAME of at most {longest} bytes each, "
            "without % and NUL"
        )
    return Identifier(*parts), Identifier(*parts[:-1], parts[-1] + _RECORD)


def _struct(fields: Mapping[str, pa.DataType]) -> pa.DataType | None:
    import pyarrow as pa

    return pa.struct(list(fields.items())) if fields else None
