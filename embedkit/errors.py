"""The one error that users cause."""

from __future__ import annotations


class InputError(ValueError):
    """Wrong input: one sentence that says what, what was got and what was expected.

    The command line prints it without a traceback and exits with code 2.
    """
