"""Progress bars: on stderr if it is a terminal, and widgets in a notebook."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from embedkit.arguments import check_type

_quiet: ContextVar[bool] = ContextVar("_quiet", default=False)

if "ipykernel.zmqshell" in sys.modules:
    # Without ipywidgets bars are text. Whoever imports tqdm first would warn, such as transformers.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import tqdm.auto  # noqa: F401


@contextmanager
def progress(total: int | None, unit: str, *, show: bool | None) -> Iterator[Callable[[int], None]]:
    """A bar for work over a second; yields a function that takes the number of units done."""
    if not is_shown(show):
        yield lambda units: None
        return
    from tqdm.auto import tqdm

    # tqdm's own format rounds counts: 2.56k/20.0k.
    counts = "{n:,}" if total is None else f"{{l_bar}}{{bar}}| {{n:,}}/{total:,}"
    times = "{elapsed}" if total is None else "{elapsed}<{remaining}"
    with tqdm(
        total=total,
        unit=f" {unit}",
        unit_scale=True,
        bar_format=f"{counts} {unit} [{times}, {{rate_fmt}}]",
        delay=1,  # seconds
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:

        def advance(units: int) -> None:
            bar.update(units)

        yield advance


def is_shown(show: bool | None) -> bool:
    """Whether to show progress: as asked, or with None in a terminal and in a notebook."""
    if show is not None:
        check_type("show_progress", show, bool, "True, False or None")
        return show
    in_notebook = "ipykernel.zmqshell" in sys.modules  # as tqdm.auto tells
    return not _quiet.get() and (in_notebook or sys.stderr.isatty())


def is_quiet() -> bool:
    """Whether the caller is within `quiet`."""
    return _quiet.get()


@contextmanager
def quiet() -> Iterator[None]:
    """Show no progress that nobody asked for, that of downloads included."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    hidden = are_progress_bars_disabled()
    token = _quiet.set(True)
    disable_progress_bars()
    try:
        yield
    finally:
        _quiet.reset(token)
        if not hidden:
            enable_progress_bars()
