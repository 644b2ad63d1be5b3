"""An error is one line that any terminal can show."""

from __future__ import annotations

import pickle

from hypothesis import example, given
from hypothesis import strategies as st

from embedkit import InputError
from embedkit.errors import first_line, printable
from embedkit.recipes.recipe import RecipeError


@given(st.text())
@example("\x1b[31mred\x1b[0m")
@example("\x9b2J\x07\r\n\u2028\u202e\ud800\0")
def test_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    if "\\" not in text and "'" not in text:  # what was escaped can be read back
        assert shown.encode("latin-1", "backslashreplace").decode("unicode_escape") == text


@given(st.text(min_size=1))
def test_errors_are_printable(text: str) -> None:
    assert str(InputError(text)) == printable(text)
    assert str(InputError(InputError(text))) == str(InputError(text))


def test_what_is_readable_stays() -> None:
    text = "pairs.tsv, 3행: 값이 \\ '' 없다 — مرحبا 😀"
    assert str(RecipeError(text)) == text
    assert str(pickle.loads(pickle.dumps(RecipeError(text)))) == text  # noqa: S301


def test_the_middle_of_a_long_message_is_left_out() -> None:
    said = str(InputError("a" * 10**6 + "b" * 10**6))
    assert len(said) <= 2000
    assert (said[0], said[-1]) == ("a", "b")
    assert " [...] " in said


def test_first_line() -> None:
    assert first_line(ValueError("\n one \ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
