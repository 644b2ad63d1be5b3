"""A filter applied to the segments of an index."""

from __future__ import annotations

from typing import TypeAlias

from embedkit.metadata.filter_language import Where, as_filter
from embedkit.retrieval.segments import Segment

_Segments: TypeAlias = tuple[Segment, ...]


class SegmentFilter:
    """Gives segments without the rows that a condition leaves out; keeps those of the last one."""

    def __init__(self) -> None:
        self._last: tuple[_Segments, str, _Segments] | None = None

    def __call__(self, segments: _Segments, where: Where | None) -> _Segments:
        """The segments as a search with this condition sees them."""
        condition = None if where is None else as_filter(where)
        if condition is None:
            return segments
        key, last = repr(condition), self._last  # 1 == True, but not as texts
        if last is None or last[0] is not segments or last[1] != key:
            chosen = tuple(segment.only(condition.mask(segment.rows)) for segment in segments)
            last = self._last = segments, key, chosen
        return last[2]
