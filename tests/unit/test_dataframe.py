"""DataFrames of pandas, which embedkit does not need."""

from __future__ import annotations

import sys

import pytest

from embedkit import InputError
from embedkit.dataframe import dataframe


def test_columns_have_their_dtypes() -> None:
    pytest.importorskip("pandas", reason="not installed: pandas")
    frame = dataframe({"s": ("str", ["가", None]), "f": ("float64", [1.5, None])})
    assert frame["s"].isna().tolist() == frame["f"].isna().tolist() == [False, True]
    assert frame["s"][0] == "가"
    assert frame["f"].dtype == "float64"


def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="needs pandas, which is not installed; run pip install"):
        dataframe({})
