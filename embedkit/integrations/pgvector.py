"""`PgVectorIndex`: an index as a table of PostgreSQL with pgvector; exported, searched, changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from embedkit.arguments import check_count, check_embedder, check_type
from embedkit.errors import InputError
from embedkit.metadata.filter_language import Where, as_filter
from embedkit.metadata.sql import as_sql, column_name
from embedkit.metadata.typed_columns import Metadata
from embedkit.progress import progress
from embedkit.retrieval.faiss_index import find_ranking
from embedkit.retrieval.fusion import DENSE, check_mode
from embedkit.retrieval.results import Hits
from embedkit.retrieval.rows import NewRows, check_id_type, id_column, query_matrix

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder
    from embedkit.retrieval.index import Rows, VectorIndex

try:
    from psycopg import Connection, IsolationLevel
    from psycopg.sql import SQL, Composed

    from embedkit.integrations.pgvector_table import Cursor, FoundRows, Table, names
    from embedkit.integrations.postgres import connect, one_sentence, use_pgvector
except ImportError:
    raise ImportError(
        "PgVectorIndex needs psycopg and pgvector, which are not installed; run pip install "
        "'embedkit[pgvector]'"
    ) from None

TABLE = "embeddings"

_EF_SEARCH = 100
_MOST_EF, _MOST_M = 1000, 100  # that pgvector takes
_MOST_ROWS = 2**63 - 1  # that LIMIT takes
_SET_EFFORT = (
    "SELECT set_config('hnsw.ef_search', %s, true), "
    "set_config('hnsw.iterative_scan', 'relaxed_order', true)"
)


class PgVectorIndex:
    """Nearest neighbours among the rows of a table of PostgreSQL; `export` makes one.

    `search`, `update`, `remove` and `count` do what those of `VectorIndex` do, in one transaction a
    call. The table has the columns `id`, `embedding`, `text` if there are texts, and one for each
    column of the metadata. The table TABLE_embedkit beside it records the embedder, and is compared
    in every transaction. Threads may share an index; their calls wait for one another. Forked and
    pickled copies connect anew; a pickle holds the URL with its password.

    Args:
        url: `postgresql://USER@HOST:PORT/DATABASE`; libpq's parameters, environment variables and
            ~/.pgpass count too.
        table: its name, or SCHEMA.NAME.
        embedder: for queries that are texts.

    Attributes:
        similarity, dimension, provenance, embedder: as in `VectorIndex`.
        hnsw: whether searches may be approximate.
        ef_search: candidates that a search of HNSW keeps, 1 to 1,000.

    Raises:
        InputError: a wrong URL, no server, no rights, no such table, or another embedder.

    Example:
        >>> import numpy as np
        >>> from embedkit import VectorIndex
        >>> index = VectorIndex.build(np.eye(3), ids=["x", "y", "z"])
        >>> copy = PgVectorIndex.export(index, "postgresql://localhost/mine")  # doctest: +SKIP
        >>> copy.search(np.array([[3.0, 4.0, 0.0]]), k=2).ids  # doctest: +SKIP
        [['y', 'x']]
    """

    def __init__(self, url: str, *, table: str = TABLE, embedder: Embedder | None = None) -> None:
        names(table)
        self.url, self.table, self.ef_search = url, table, _EF_SEARCH
        if embedder is not None:
            check_embedder(embedder)
        self._lock, self._process = threading.RLock(), os.getpid()
        self._connection = self._connect()
        with one_sentence(table, url):
            self._table = stored = Table.read(table, self._connection.cursor())
        self.similarity, self.dimension = stored.similarity, stored.dimension
        self.hnsw, self.provenance = stored.hnsw, stored.provenance
        self._ranking = find_ranking(self.similarity)
        if embedder is not None and self.provenance is not None:
            embedder = self.provenance.check(embedder)
        self.embedder = embedder

    def __reduce__(self) -> tuple[Any, ...]:
        made = partial(PgVectorIndex, self.url, table=self.table, embedder=self.embedder)
        return made, (), {"ef_search": self.ef_search}

    @classmethod
    def export(
        cls,
        index: VectorIndex,
        url: str,
        *,
        table: str = TABLE,
        halfvec: bool = False,
        hnsw: bool = True,
        m: int = 16,
        ef_construction: int = 64,
        show_progress: bool | None = None,
    ) -> PgVectorIndex:
        """Copy an index into a new table: vectors, ids, texts and metadata, all or nothing.

        Args:
            index: what is copied, but for its BM25.
            url, table: see the class. The extension `vector` is created where it is missing.
            halfvec: keep 16 bits of each number, not 32.
            hnsw: build an HNSW index after the rows, in `maintenance_work_mem` of memory.
            m, ef_construction: links of a node, and candidates while building.
            show_progress: show a bar on stderr; None shows it if stderr is a terminal.

        Raises:
            InputError: no rows, more dimensions or longer names than PostgreSQL takes, a table that
                exists already; or see the class.
            ConnectionError: the server went away, or is full.
        """
        from embedkit.retrieval.index import VectorIndex

        check_type("index", index, VectorIndex, "a VectorIndex")
        if check_count("m", m, 2) > _MOST_M:
            raise InputError(f"m is {m:,}; expected at most {_MOST_M:,}")
        if check_count("ef_construction", ef_construction, 2 * m) > _MOST_EF:
            raise InputError(
                f"ef_construction is {ef_construction:,}; expected at most {_MOST_EF:,}"
            )
        new = Table.of(index, table, halfvec=halfvec, hnsw=hnsw)
        with one_sentence(table, url, connecting=True):
            connection = connect(url)
        with one_sentence(table, url), connection, connection.transaction():
            use_pgvector(connection, create=True)
            cursor = connection.cursor()
            new.create(cursor)
            batches = (batch for segment in index._segments for batch in segment.batches())
            with progress(len(index), "rows", show=show_progress) as advance:
                new.load(cursor, batches, advance)
            new.build(cursor, m, ef_construction)
        return cls(url, table=table, embedder=index.embedder)

    def __len__(self) -> int:
        return self.count()

    def close(self) -> None:
        """Close the connection; a later call opens another one."""
        self._connection.close()

    def count(self, where: Where | None = None) -> int:
        """How many rows a search with this condition chooses from."""
        condition, values = self._condition(where)
        query = SQL("SELECT count(*) FROM {} WHERE {}").format(self._table.rows, condition)
        with self._transaction() as cursor:
            return int(cursor.execute(query, values).fetchall()[0][0])

    def search(
        self,
        queries: Sequence[str] | NDArray[Any],
        k: int = 10,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        where: Where | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        mode: str = DENSE,
    ) -> Hits:
        """The k rows nearest to each query.

        HNSW goes on until k rows meet the condition (`hnsw.iterative_scan`); a query for which it
        ends with fewer is compared with all rows. It has no vectors of zeros where the similarity
        is cosine.

        Args:
            queries, k, prompt, prompt_name, where: see `VectorIndex.search`.
            ef_search: candidates that HNSW keeps, at least k; None for `ef_search` of the index.
            exact: compare queries with all rows; of equally near ones the lowest id comes first.
            mode: `dense`; PostgreSQL has no BM25.

        Raises:
            InputError: wrong queries, texts for an index without an embedder, or a wrong condition.
        """
        if check_mode(mode) != DENSE:
            raise InputError(f"mode is {mode!r}, which PgVectorIndex does not have; expected dense")
        k = min(check_count("k", k), _MOST_ROWS)
        effort = check_count("ef_search", self.ef_search if ef_search is None else ef_search)
        if effort > _MOST_EF:
            raise InputError(f"ef_search is {effort:,}; expected at most {_MOST_EF:,}")
        condition, values = self._condition(where)
        prepared = self._ranking.prepare(query_matrix(self, queries, prompt, prompt_name))
        # Where a vector is zero, pgvector's cosine is not a number; it is 0 here.
        distance = SQL("coalesce(nullif({}, 'NaN'), 1)").format(self._table.distance)
        columns = SQL(", ").join([distance, *map(column_name, self._table.columns)])
        select = SQL("SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT %(k)s")

        def ask(cursor: Cursor, order: SQL | Composed, chosen: Sequence[int]) -> list[FoundRows]:
            query = select.format(columns, self._table.rows, condition, order)
            given = [{**values, "query": prepared[row], "k": k} for row in chosen]
            cursor.executemany(query, given, returning=True)
            return [result.fetchall() for result in cursor.results()] if given else []

        with self._transaction() as cursor:
            found: list[FoundRows] = [[] for _ in prepared]
            if self.hnsw and not exact:
                cursor.execute(_SET_EFFORT, [str(min(max(effort, k), _MOST_EF))])
                found = ask(cursor, self._table.distance, range(len(found)))
            short = [row for row, hits in enumerate(found) if len(hits) < k]
            for row, hits in zip(short, ask(cursor, SQL("1, id"), short), strict=True):
                found[row] = hits
        return self._table.hits(found)

    def update(
        self,
        vectors: Rows,
        *,
        ids: Iterable[str | int] | None = None,
        texts: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        show_progress: bool | None = None,
    ) -> None:
        """Add rows; those with ids that are there already take their place. See `VectorIndex`.

        Raises:
            InputError: what is wrong, or vectors of another embedder; nothing is changed then.
        """
        with self._transaction(changing=True) as cursor:
            given, first_id = (vectors, ids, texts, metadata), partial(self._next_id, cursor)
            rows = NewRows.into(self, *given, schema=self._table.schema, first_id=first_id)
            delete = SQL("DELETE FROM {} WHERE id = ANY(%s)").format(self._table.rows)
            cursor.execute(delete, [rows.ids.to_pylist()])
            batches = rows.batches(self._ranking)
            with progress(len(rows), "rows", show=show_progress) as advance:
                self._table.load(cursor, batches, advance)

    def remove(self, ids: Iterable[str | int], *, missing_ok: bool = False) -> None:
        """Remove rows; with `missing_ok`, ids that are not there are passed over.

        Raises:
            InputError: an id that is not there; nothing is removed then.
        """
        column = id_column(ids)
        if len(column):
            check_id_type(column.type, self._table.schema)
        delete = SQL("DELETE FROM {} WHERE id = ANY(%s) RETURNING id").format(self._table.rows)
        wanted = column.to_pylist()
        with self._transaction(changing=True) as cursor:
            removed = {row[0] for row in cursor.execute(delete, [wanted])}
            unknown = next((name for name in wanted if name not in removed), None)
            if unknown is not None and not missing_ok:
                raise InputError(f"ids: the index has no {unknown!r}; nothing was removed")

    def _connect(self) -> Connection[Any]:
        with one_sentence(self.table, self.url, connecting=True):
            connection = connect(self.url)
            try:
                use_pgvector(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    @contextmanager
    def _transaction(self, *, changing: bool = False) -> Iterator[Cursor]:
        """Readers see one state; changes wait for one another, and readers for none."""
        with self._lock, one_sentence(self.table, self.url):
            if self._connection.closed or self._process != os.getpid():
                self._connection, self._process = self._connect(), os.getpid()
            connection, level = self._connection, IsolationLevel.REPEATABLE_READ
            connection.read_only, connection.isolation_level = not changing, level
            with connection.transaction(), connection.cursor() as cursor:
                if changing:
                    lock = SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE")
                    cursor.execute(lock.format(self._table.rows))
                if Table.read(self.table, cursor) != self._table:
                    raise InputError(
                        f"table {self.table!r}: was made anew, perhaps of another model, since it "
                        "was opened; open it again"
                    )
                yield cursor

    def _condition(self, where: Where | None) -> tuple[SQL | Composed, dict[str, Any]]:
        """A condition in SQL, and the values of its parameters."""
        values: dict[str, Any] = {}
        condition = None if where is None else as_filter(where)
        schema = self._table.schema
        return SQL("true") if condition is None else as_sql(condition, schema, values), values

    def _next_id(self, cursor: Cursor) -> int:
        if self._table.schema.field("id").type != "int64":
            raise InputError("ids: got none, expected strings as in the index")
        highest = SQL("SELECT coalesce(max(id) + 1, 0) FROM {}").format(self._table.rows)
        return int(cursor.execute(highest).fetchall()[0][0])
