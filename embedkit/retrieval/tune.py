"""A kind of index by size and memory, and the search effort that reaches a recall."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_count
from embedkit.data.texts import check_number
from embedkit.errors import InputError
from embedkit.progress import progress
from embedkit.recipes.steps import Float32Array as Matrix
from embedkit.retrieval.faiss_index import Effort, Ranking, bytes_of, scores_exactly
from embedkit.retrieval.rows import query_matrix
from embedkit.retrieval.segments import Segment, search_segments
from embedkit.vectors.shards import rows_of_parts

if TYPE_CHECKING:
    from embedkit.retrieval.index import VectorIndex

AUTO = "auto"
RECALL = 0.95

_MEMORY = 4.0  # GB
_FLAT = 50_000  # rows that are compared one by one
_LINKS = 8 * 32 + 16  # bytes of a row in HNSW32 beside its vector
_LISTS = 4096  # of IVF: as many as `index.train`'s sample is enough for
_QUERIES = 1000
_TIMED = 100  # queries
_CANDIDATES = (1, 2, 4, 8, 16, 32, 64)  # that are rescored for a hit
_MOST = 4096  # candidates of HNSW
_GROWTH = 1.5  # rows, times those at the tuning, from which it is stale
_ROUNDING = 1e-5  # of a score


def as_kind(kind: str, rows: int, dimension: int, memory: float | None = None) -> str:
    """The kind itself; for `auto` the one chosen for `memory`, in GB, or for 4 GB."""
    if memory is not None and not check_number("memory", memory) > 0:
        raise InputError(f"memory is {memory!r}; expected GB, above 0")
    if memory is not None and kind != AUTO:
        raise InputError(f"got memory and kind {kind!r}; expected kind 'auto' with it")
    return choose_kind(rows, dimension, memory or _MEMORY) if kind == AUTO else kind


def choose_kind(rows: int, dimension: int, memory: float = _MEMORY) -> str:
    """The kind for a number of rows, by size alone.

    `flat`, which is exact, up to 50,000 rows; else `hnsw` where its vectors and links fit into
    `memory` (GB); else IVF with about 4 * sqrt(rows) lists, at most 4,096, and product quantization
    with a byte for about 8 numbers (scalar quantization where the dimension has no such divisor),
    whose candidates are rescored from the vectors on disk.
    """
    if rows <= _FLAT:
        return "flat"
    if rows * (4 * dimension + _LINKS) <= memory * 1e9:
        return "hnsw"
    lists = min(_LISTS, 2 ** round(math.log2(4 * math.sqrt(rows))))
    codes = max((m for m in range(1, dimension // 8 + 1) if dimension % m == 0), default=0)
    return f"IVF{lists},PQ{codes}" if codes > dimension // 16 else f"IVF{lists},SQ8"


@dataclass(frozen=True)
class Tuning:
    """What a search was tuned on.

    Attributes:
        target: the recall that was asked for.
        recall: reached: the part of the true k nearest rows that a search finds, over queries.
        low, high: its 95 % bootstrap interval over queries.
        k: hits of a query.
        queries: how many; rows of the index, each left out of its own hits, unless `own_queries`.
        own_queries: whether the user gave them.
        rows: of the index.
        effort, rescore: what was set, see `VectorIndex`.
        milliseconds: of one query, the median.
        memory: bytes that FAISS holds. This and the time are not stored; nothing depends on them.
    """

    target: float
    recall: float
    low: float
    high: float
    k: int
    queries: int
    own_queries: bool
    rows: int
    effort: int | None
    rescore: int | None
    milliseconds: float = 0
    memory: int = 0

    @classmethod
    def from_json(cls, content: dict[str, Any] | None) -> Tuning | None:
        """What `to_json` gave; TypeError where it did not."""
        if content is None:
            return None
        tuning = cls(**content)
        for value in (tuning.effort, tuning.rescore):
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"tuning is {content!r}")
        return tuning

    def to_json(self) -> dict[str, Any]:
        """What is stored."""
        return {k: v for k, v in vars(self).items() if k not in ("milliseconds", "memory")}

    @property
    def reached(self) -> bool:
        """Whether the whole interval is at the target or above."""
        return self.low >= self.target

    def is_stale(self, rows: int) -> bool:
        """Whether the index has more than half as many rows again."""
        return rows > _GROWTH * self.rows


def check_recall(recall: float) -> float:
    """The value, a recall to reach."""
    value = check_number("recall", recall)
    if not 0 < value <= 1:
        raise InputError(f"recall is {recall!r}; expected a number above 0, at most 1")
    return value


def recall_to_reach(
    recall: float | None, queries: object, kind: str, *efforts: int | None
) -> float | None:
    """What a new index is tuned to, by the arguments of `VectorIndex.build`; None for nothing."""
    given = any(effort is not None for effort in efforts)
    if recall is None and kind == AUTO and not given:
        return RECALL
    if recall is None:
        if queries is not None:
            raise InputError("got queries without a recall to tune on them; expected both")
        return None
    if given:
        raise InputError("got nprobe or ef_search, and a recall to tune it to; expected one")
    return check_recall(recall)


def warn_if_stale(
    tuning: Tuning | None, before: Sequence[Segment], after: Sequence[Segment]
) -> None:
    """Warn where a change makes the tuning of a search stale."""
    old, new = (sum(segment.live for segment in segments) for segments in (before, after))
    if tuning is not None and tuning.is_stale(new) and not tuning.is_stale(old):
        warnings.warn(
            f"the search was tuned on {tuning.rows:,} rows, and there are {new:,}; its recall may "
            "be lower now (embedkit index tune, in Python index.tune)",
            stacklevel=2,
        )


def tune_index(
    index: VectorIndex,
    recall: float = RECALL,
    *,
    queries: Sequence[str] | NDArray[Any] | None = None,
    k: int = 10,
    prompt: str | None = None,
    show_progress: bool | None = None,
) -> Tuning:
    """Tune the search effort, so that a search finds this share of the true nearest rows.

    Settings are tried on queries and compared with exact search; the least one is taken whose 95 %
    interval of the recall, over queries, lies at `recall` or above. Time plays no part. The
    setting, the recall and the number of rows are stored with the index; adding more than half as
    many rows again warns that they are stale. Where no setting reaches the recall, the highest is
    set, and `Tuning.reached` is False.

    Args:
        index: with rows.
        recall: above 0, at most 1.
        queries: texts or vectors (n, dim) like those that users search for; None for a sample of
            up to 1,000 rows of the index, each left out of its own hits.
        k: hits of a query.
        prompt: put in front of queries that are texts; None for the recorded prompt of queries.
        show_progress: what is tried; None shows it where stderr is a terminal.

    Raises:
        InputError: a wrong recall or queries, or an index without rows.

    Example:
        >>> import numpy as np
        >>> from embedkit import VectorIndex
        >>> vectors = np.random.default_rng(0).normal(size=(2000, 8))
        >>> index = VectorIndex.build(vectors, kind="IVF64,Flat")
        >>> tuning = index.tune(0.9)
        >>> tuning.low >= 0.9, index.effort == tuning.effort, tuning.queries
        (True, True, 1000)
    """
    check_recall(recall)
    k = check_count("k", k)
    if len(index) == 0:
        raise InputError("the index has no rows; expected at least 1 to tune its search")
    matrix = None if queries is None else query_matrix(index, queries, prompt)
    if matrix is not None and len(matrix) == 0:
        raise InputError("queries is empty; expected at least one")
    with index._changing():
        tuning = tune(index._segments, index._ranking, recall, matrix, k, show_progress)
        index.effort, index.tuning = tuning.effort, tuning
        index._commit(index._segments)
    return tuning


def tune(
    segments: Sequence[Segment],
    ranking: Ranking,
    target: float,
    queries: Matrix | None,
    k: int,
    show_progress: bool | None,
) -> Tuning:
    """The least effort whose recall reaches the target with its whole interval, by recall alone.

    Where FAISS holds vectors only approximately, half of the allowed loss is left to that: the
    effort is the least one that loses the other half with 64 candidates a hit, and then the number
    of candidates is the least one that reaches the target. What reaches no target is set highest.
    """
    live = sum(segment.live for segment in segments)
    own = None
    if queries is None:
        queries, own = _sample(segments, min(_QUERIES, live))
    k = max(1, min(k, live - (own is not None)))
    truth = _scores(segments, ranking, queries, k, own, exact=True)[:, -1:]
    least = truth - _ROUNDING * np.maximum(np.abs(truth), 1)
    index = segments[0].index

    with progress(None, "settings tried", show=show_progress) as advance:

        @cache
        def recall(effort: int | None, rescore: int | None) -> tuple[float, float, float]:
            scores = _scores(segments, ranking, queries, k, own, effort=effort, rescore=rescore)
            advance(1)
            return _interval((scores >= least).mean(axis=1))

        def reaches(value: float, effort: int | None, rescore: int | None) -> bool:
            return recall(effort, rescore)[1] >= value

        exact = scores_exactly(index)
        most = None if exact else _CANDIDATES[-1]
        efforts = _efforts(Effort.of(index), max(map(len, segments)), k)
        wanted = target if exact else (1 + target) / 2
        at = bisect_left(efforts, True, key=lambda effort: reaches(wanted, effort, most))
        effort = efforts[min(at, len(efforts) - 1)]
        rescore = most
        if not exact:
            at = bisect_left(_CANDIDATES, True, key=lambda x: reaches(target, effort, x))
            rescore = _CANDIDATES[min(at, len(_CANDIDATES) - 1)]
        value, low, high = recall(effort, rescore)
    times = []
    for query in queries[:_TIMED]:
        started = time.perf_counter()
        search_segments(segments, ranking, query[None], k, effort, rescore)
        times.append(1000 * (time.perf_counter() - started))
    return Tuning(
        target,
        value,
        low,
        high,
        k,
        len(queries),
        own is None,
        live,
        effort,
        rescore,
        statistics.median(times),
        sum(bytes_of(segment.index) for segment in segments),
    )


def _sample(segments: Sequence[Segment], size: int) -> tuple[Matrix, NDArray[np.int64]]:
    """Vectors of rows drawn at random, and where they are among the rows of all segments."""
    live = np.concatenate([~segment.removed for segment in segments])
    rows = np.flatnonzero(live)
    chosen = np.sort(np.random.default_rng(0).choice(rows, size, replace=False))
    parts = zip(segments, rows_of_parts(chosen, map(len, segments)), strict=True)
    return np.concatenate([segment.vectors_of(own) for segment, (_, own) in parts]), chosen


def _scores(
    segments: Sequence[Segment],
    ranking: Ranking,
    queries: Matrix,
    k: int,
    own: NDArray[np.int64] | None,  # row that is no hit of a query
    **how: Any,
) -> NDArray[np.float32]:
    """(queries, k): scores of a search, best first; -inf where there are fewer."""
    asked = k if own is None else k + 1
    scores, rows = search_segments(segments, ranking, queries, asked, **how)
    if own is not None:
        scores = np.where(rows == own[:, None], -np.inf, scores)
    best: NDArray[np.float32] = -np.sort(-scores, axis=1)[:, :k]
    return best


def _efforts(usual: Effort, rows: int, k: int) -> list[int | None]:
    """What is tried, about 1.4 times as much each time."""
    if usual.option is None:
        return [None]
    least, most = (1, usual.most) if usual.option == "nprobe" else (k, min(rows, _MOST))
    steps = range(math.ceil(2 * math.log2(max(most / least, 1))))
    return [*sorted({round(least * 2 ** (step / 2)) for step in steps} - {most}), most]


def _interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean and its 95 % bootstrap interval."""
    drawn = np.random.default_rng(0).integers(len(values), size=(1000, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)
