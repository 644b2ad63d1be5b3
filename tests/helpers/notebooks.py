"""Notebooks, each run by a kernel of its own."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

_PATIENCE = 3600  # seconds, for machines that are slow or busy


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run all cells in `folder`; raises where one fails.

    The kernel talks through files, as another process may take a port before it does, and has a
    folder of settings of its own.
    """
    with TemporaryDirectory(prefix="kernel-") as own:  # sockets have short paths
        kernel = {"transport": "ipc", "connection_file": f"{own}/kernel.json"}
        NotebookClient(
            notebook,
            config=Config(AsyncKernelManager=kernel),
            kernel_name="python3",
            timeout=_PATIENCE,
            startup_timeout=_PATIENCE,
            iopub_timeout=_PATIENCE,
            resources={"metadata": {"path": folder}},
        ).execute(env=os.environ | {"IPYTHONDIR": own})
