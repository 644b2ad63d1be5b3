"""A pandas DataFrame, for those who have pandas: embedkit itself does without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def dataframe(columns: Mapping[str, tuple[str, Sequence[Any]]]) -> pd.DataFrame:
    """A DataFrame of columns, each by its dtype and its values; None is a missing value."""
    try:
        import pandas as pd
    except ImportError:
        raise InputError(
            "to_dataframe needs pandas, which is not installed; run pip install pandas"
        ) from None
    return pd.DataFrame(
        {name: pd.Series(values, dtype=dtype) for name, (dtype, values) in columns.items()}
    )
