"""A bar on stderr for work over a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from embedkit.arguments import check_type


@contextmanager
def progress(total: int | None, unit: str, *, show: bool | None) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of units done.

    Args:
        total: units in all, or None where that is not known.
        unit: what is counted, in the plural.
        show: True or False, or None for "where stderr is a terminal".
    """
    if show is not None:
        check_type("show_progress", show, bool, "True, False or None")
    else:
        show = sys.stderr.isatty()
    if not show:
        yield lambda units: None
        return
    from tqdm import tqdm

    with tqdm(
        total=total,
        unit=f" {unit}",
        unit_scale=True,
        delay=1,  # seconds
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:

        def advance(units: int) -> None:
            bar.update(units)

        yield advance
