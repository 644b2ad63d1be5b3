"""`embedkit index export`: copy an index into PostgreSQL."""

from __future__ import annotations

from typing import Annotated

from embedkit.cli import options, output
from embedkit.errors import InputError, counted

_PANEL = "Database"


def export_command(
    index: options.IndexFolder,
    to: Annotated[
        str,
        options.option(
            "Copy into this database: postgresql://USER@HOST:PORT/DATABASE. The password is read "
            "from PGPASSWORD or ~/.pgpass, or stands behind USER as :PASSWORD.",
            panel=_PANEL,
        ),
    ],
    table: Annotated[
        str, options.option("Make a table of this name, or SCHEMA.NAME.", panel=_PANEL)
    ] = "embeddings",
    halfvec: Annotated[
        bool, options.option("Store numbers in 16 bits instead of 32.", "--halfvec", panel=_PANEL)
    ] = False,
    hnsw: Annotated[
        bool,
        options.option(
            "Build an HNSW index, or leave every search exact.", "--hnsw/--no-hnsw", panel=_PANEL
        ),
    ] = True,
    as_json: options.Json = False,
) -> None:
    """Copy an index into a new table of PostgreSQL with pgvector, all or nothing.

    Vectors, ids, texts, metadata and the record of the model are copied; BM25 is not.

    Example: [bold]embedkit index export my-index --to postgresql://localhost/mine[/bold]
    """
    try:
        from embedkit.integrations.pgvector import PgVectorIndex
    except ImportError as error:
        raise InputError(error) from None
    from embedkit.retrieval.index import VectorIndex

    opened = VectorIndex.open(index)
    new = PgVectorIndex.export(opened, to, table=table, halfvec=halfvec, hnsw=hnsw)
    numbers = "halfvec" if halfvec else "vector"
    if as_json:
        content = {"table": table, "rows": len(new), "dimension": new.dimension}
        content |= {"similarity": new.similarity, "type": numbers, "hnsw": hnsw}
        output.print_json(content)
        return
    output.inform(
        f"table {table}: {counted(len(new), 'row')} of {new.dimension} numbers ({numbers}), "
        f"{new.similarity}, {'HNSW' if hnsw else 'without an index of vectors'}"
        f"{'' if opened.words is None else '; BM25 was not copied'}"
    )
