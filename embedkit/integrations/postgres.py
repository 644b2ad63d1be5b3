"""Connections to PostgreSQL with pgvector; their errors are one sentence, without passwords."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from embedkit.errors import InputError, first_line

_OLDEST = (0, 8)  # of pgvector, the first with iterative scans
_TIMEOUT = 10  # seconds for a connection, where the URL does not say it
# One @, in front of the host. libpq reads a password with @, / or ? as parts of a URL, and its
# errors would show them.
_URL = re.compile(r"postgres(?:ql)?://(?:[^@/?#]*@)?[^@/?#]*(?:[/?][^@#]*)?")
_EXPECTED: Mapping[type[Exception], str] = {
    errors.InsufficientPrivilege: "a user with that right",
    errors.DuplicateTable: "a name of a new table",
    errors.UniqueViolation: "a name of a new table",
    errors.UndefinedTable: "a table that embedkit index export made",
    errors.FeatureNotSupported: "a server that has pgvector",
    errors.UndefinedFile: "a server that has pgvector",
    errors.CharacterNotInRepertoire: "texts without NUL, which PostgreSQL does not store",
}


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection, on which `transaction()` begins and commits one."""
    return psycopg.connect(
        **{"connect_timeout": _TIMEOUT, **_parameters(url), "client_encoding": "utf8"},
        autocommit=True,
        prepare_threshold=None,  # each plan is made for the values of its filter
    )


def use_pgvector(connection: psycopg.Connection[Any], *, create: bool = False) -> None:
    """Read and write vectors; `create` adds the extension where it is missing."""
    if create:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    query = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    version = next((str(row[0]) for row in connection.execute(query)), "none")
    if version == "none" or tuple(map(int, version.split(".")[:2])) < _OLDEST:
        raise InputError(f"got a database with pgvector {version}, expected 0.8 or newer")
    register_vector(connection)
    # Such as that the graph of HNSW outgrew maintenance_work_mem, which makes it slow.
    connection.add_notice_handler(
        lambda notice: warnings.warn(str(notice.message_primary), stacklevel=2)
    )


def _parameters(url: str) -> dict[str, Any]:
    """What libpq reads in a URL; its own errors are not shown, which may quote a password."""
    try:
        if isinstance(url, str) and _URL.fullmatch(url):
            parameters = conninfo_to_dict(url)
            if re.fullmatch(r"[\d,]*", str(parameters.get("port", ""))):
                return parameters
    except psycopg.Error:
        pass
    raise InputError(
        "the URL of the database is not one of PostgreSQL; expected "
        "postgresql://USER@HOST:PORT/DATABASE, with the password in PGPASSWORD or ~/.pgpass, or "
        "as USER:PASSWORD with % codes for special characters"
    )


@contextmanager
def one_sentence(table: str, url: str, *, connecting: bool = False) -> Iterator[None]:
    """PostgreSQL's errors as an InputError, or a ConnectionError where a server went away."""
    try:
        yield
    except psycopg.Error as error:
        message = error.diag.message_primary or first_line(error)
        secrets = _parameters(url)
        for name in ("password", "sslpassword"):
            if secrets.get(name):
                message = message.replace(secrets[name], "***")
        expected = next((x for kind, x in _EXPECTED.items() if isinstance(error, kind)), None)
        message += f"; expected {expected}" if expected else ""
        away = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        beyond_limits = (error.sqlstate or "").startswith("54")  # such as 1,600 columns
        if away and not beyond_limits and not connecting:
            raise ConnectionError(f"table {table!r}: {message}") from None
        raise InputError(message if connecting else f"table {table!r}: {message}") from None
