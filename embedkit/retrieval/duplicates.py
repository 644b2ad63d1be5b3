"""Near-duplicates of a corpus, and its most similar pairs, by exact search in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_count, check_embedder
from embedkit.data.texts import Texts, as_texts, check_number
from embedkit.errors import InputError
from embedkit.progress import progress
from embedkit.recipes.steps import Float32Array as Matrix
from embedkit.retrieval.rows import check_vectors
from embedkit.similarity import unit
from embedkit.vectors.embeddings import Vectors

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder

Items: TypeAlias = "Sequence[str] | NDArray[Any] | Vectors"
Rows: TypeAlias = NDArray[np.int64]

_ROWS, _COLUMNS = 1024, 2048  # of a block: 8 MiB of cosines
_ROUNDING = 1e-6  # of a float32 cosine: a threshold of 1 means equal vectors


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Which row of a corpus stands for each row.

    Attributes:
        representatives: (n,) int64, the row that is kept in the place of each; its own number for
            a row that is kept.
        scores: (n,) float32, the cosine with it; 1 where both texts are equal.
        exact: how many rows have the text of an earlier row.
    """

    representatives: Rows
    scores: NDArray[np.float32]
    exact: int

    @property
    def kept(self) -> Rows:
        """The rows that are kept, in their order."""
        return np.unique(self.representatives)

    @property
    def groups(self) -> list[list[int]]:
        """Rows of at least two that belong together, each led by the one that is kept."""
        members: dict[int, list[int]] = {}
        for row, leader in enumerate(self.representatives.tolist()):
            members.setdefault(leader, []).append(row)
        return [rows for rows in members.values() if len(rows) > 1]


def find_duplicates(
    items: Items,
    embedder: Embedder | None = None,
    *,
    threshold: float = 0.9,
    prompt: str | None = None,
    prompt_name: str | None = None,
    show_progress: bool | None = None,
) -> Duplicates:
    """Which rows repeat an earlier one, in its text or nearly.

    Rows are read in their order. One whose text is there already repeats it. Any other is compared
    with all rows that are kept so far: if the cosine with one of them is `threshold` or more, the
    row belongs to the most similar of them (of equal ones the first), else it is kept. So no two
    kept rows are that similar, each other row is that similar to the one kept in its place, and
    groups do not grow by chains in which neighbours are similar and the ends are not. The search
    is exact; its memory is that of the distinct vectors and a block of cosines.

    Args:
        items: n texts, vectors (n, dim), or `Vectors`, whose equal texts are known too.
        embedder: of items that are texts.
        threshold: from -1 to 1, up to the rounding of float32.
        prompt: text to put in front of each text.
        prompt_name: one of the embedder's prompts instead.
        show_progress: show a bar on stderr; None shows it if stderr is a terminal.

    Raises:
        InputError: wrong items or threshold, or texts without an embedder.

    Example:
        >>> import numpy as np
        >>> from embedkit import find_duplicates
        >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 2.0]])
        >>> duplicates = find_duplicates(vectors, threshold=0.95)
        >>> duplicates.groups, duplicates.kept.tolist()
        ([[0, 2], [1, 3]], [0, 1])
    """
    floor = check_threshold(threshold)
    items = _checked(items, embedder, prompt=prompt, prompt_name=prompt_name)
    equal = _equal_texts(items)
    distinct, inverse = np.unique(equal, return_inverse=True)
    if isinstance(items, Texts):
        items = Texts(items[row] for row in distinct)
    units = _units(items, embedder, prompt, prompt_name, show_progress)
    if len(units) > len(distinct):
        units = units[distinct]
    leaders, scores = _lead(units, floor, show_progress)
    return Duplicates(distinct[leaders[inverse]], scores[inverse], len(equal) - len(distinct))


class Paraphrase(NamedTuple):
    """Two rows and how similar they are."""

    score: float  # the cosine
    first: int
    second: int  # after `first`


def mine_paraphrases(
    items: Items,
    embedder: Embedder | None = None,
    *,
    threshold: float | None = None,
    top_k: int | None = None,
    max_pairs: int = 500_000,
    prompt: str | None = None,
    prompt_name: str | None = None,
    show_progress: bool | None = None,
) -> list[Paraphrase]:
    """The most similar pairs of rows, best first; of equal scores the earlier rows come first.

    Args:
        items: n texts, vectors (n, dim), or `Vectors`.
        embedder: of items that are texts.
        threshold: the least cosine, from -1 to 1; None for any.
        top_k: take only pairs in which one row is among the `top_k` nearest of the other; None
            takes all, and compares each pair once instead of twice.
        max_pairs: return at most so many.
        prompt: text to put in front of each text.
        prompt_name: one of the embedder's prompts instead.
        show_progress: show a bar on stderr; None shows it if stderr is a terminal.

    Raises:
        InputError: wrong items or numbers, or texts without an embedder.

    Example:
        >>> from embedkit import Embedder, mine_paraphrases
        >>> texts = ["A cat sleeps.", "Stocks fell.", "The cat is asleep."]
        >>> (best,) = mine_paraphrases(texts, Embedder("minilm"), threshold=0.8)
        >>> best.first, best.second
        (0, 2)
    """
    best = _BestPairs(
        check_count("max_pairs", max_pairs),
        -np.inf if threshold is None else check_threshold(threshold),
    )
    top_k = None if top_k is None else check_count("top_k", top_k)
    items = _checked(items, embedder, prompt=prompt, prompt_name=prompt_name)
    units = _units(items, embedder, prompt, prompt_name, show_progress)
    with progress(len(units), "rows compared", show=show_progress) as advance:
        for start in range(0, len(units), _ROWS):
            block = units[start : start + _ROWS]
            if top_k is None:
                for column in range(start, len(units), _COLUMNS):
                    scores = block @ units[column : column + _COLUMNS].T
                    hit = np.flatnonzero(scores.max(axis=1) >= best.floor)
                    rows, columns = np.nonzero(scores[hit] >= best.floor)
                    rows = hit[rows]
                    best.add(scores[rows, columns], rows + start, columns + column)
            else:
                best.add(*_nearest_others(units, start, block, top_k))
            advance(len(block))
    return best.pairs


class _BestPairs:
    """The best pairs so far."""

    def __init__(self, size: int, floor: float) -> None:
        self._size = size
        self.floor = floor  # a lower score cannot be among them
        self._parts: list[tuple[NDArray[np.float32], Rows, Rows]] = []

    def add(self, scores: NDArray[np.float32], first: Rows, second: Rows) -> None:
        """Pairs (first < second, others are left out), of which some may be there already."""
        scores = np.minimum(scores, 1)  # rounding above 1 must not order equal rows
        wanted = (first < second) & (scores >= self.floor)
        if wanted.any():
            self._parts.append((scores[wanted], first[wanted], second[wanted]))
        if sum(len(part[0]) for part in self._parts) > 2 * self._size:
            self._trim()

    def _trim(self) -> None:
        scores, first, second = map(np.concatenate, zip(*self._parts, strict=True))
        order = np.lexsort((second, first, -scores))
        _, once = np.unique((first << 32 | second)[order], return_index=True)
        order = order[np.sort(once)][: self._size]
        self._parts = [(scores[order], first[order], second[order])]
        if len(order) == self._size:
            self.floor = max(self.floor, float(scores[order[-1]]))

    @property
    def pairs(self) -> list[Paraphrase]:
        if not self._parts:
            return []
        self._trim()
        ((scores, first, second),) = self._parts
        return list(map(Paraphrase, scores.tolist(), first.tolist(), second.tolist()))


def _nearest_others(
    units: Matrix, start: int, block: Matrix, k: int
) -> tuple[NDArray[np.float32], Rows, Rows]:
    """Scores and pairs of each row of a block and its k nearest other rows."""
    import faiss

    asked = min(k + 1, len(units))
    scores, columns = faiss.knn(block, units, asked, metric=faiss.METRIC_INNER_PRODUCT)
    rows = np.broadcast_to(np.arange(start, start + len(block))[:, None], columns.shape)
    others = (columns != rows) & (columns >= 0)
    others &= others.cumsum(axis=1) <= k  # a row may be missing among its equals
    left, right = rows[others], columns[others]
    return scores[others], np.minimum(left, right), np.maximum(left, right)


def _lead(
    units: Matrix, floor: float, show_progress: bool | None
) -> tuple[Rows, NDArray[np.float32]]:
    """Of each row the one kept in its place, and the cosine; overwrites the vectors."""
    leaders, cosines = np.arange(len(units)), np.ones(len(units), np.float32)
    kept = np.empty(0, np.int64)  # rows; their vectors are moved to the front
    with progress(len(units), "rows compared", show=show_progress) as advance:
        for start in range(0, len(units), _ROWS):
            block = units[start : start + _ROWS].copy()
            best, nearest = _nearest(block, units[: len(kept)], floor)
            within = block @ block.T
            close = np.tril(within >= floor, -1)
            is_kept = nearest < 0
            leader = np.where(is_kept, np.arange(start, start + len(block)), 0)
            leader[~is_kept] = kept[nearest[~is_kept]]
            for row in np.flatnonzero(close.any(axis=1)):  # those before it are decided
                near = np.flatnonzero(close[row] & is_kept)
                if len(near) == 0:
                    continue
                is_kept[row] = False
                top = near[within[row, near].argmax()]
                if within[row, top] > best[row]:
                    best[row], leader[row] = within[row, top], start + top
            leaders[start : start + len(block)] = leader
            cosines[start : start + len(block)] = np.where(is_kept, 1, np.minimum(best, 1))
            own = np.flatnonzero(is_kept)
            units[len(kept) : len(kept) + len(own)] = block[own]
            kept = np.concatenate([kept, start + own])
            advance(len(block))
    return leaders, cosines


def _nearest(block: Matrix, others: Matrix, floor: float) -> tuple[NDArray[np.float32], Rows]:
    """The largest cosine of each row with others, and with which; -1 where none is `floor`."""
    best = np.full(len(block), -np.inf, np.float32)
    nearest = np.full(len(block), -1, np.int64)
    for start in range(0, len(others), _COLUMNS):
        scores = block @ others[start : start + _COLUMNS].T
        highest = scores.max(axis=1)
        better = np.flatnonzero((highest >= floor) & (highest > best))
        best[better] = highest[better]
        nearest[better] = start + scores[better].argmax(axis=1)
    return best, nearest


def check_threshold(threshold: float) -> float:
    """The least float32 cosine that counts as this one."""
    value = check_number("threshold", threshold)
    if not -1 <= value <= 1:
        raise InputError(f"threshold is {threshold!r}; expected a cosine, from -1 to 1")
    return value - _ROUNDING


def _checked(items: Items, embedder: Embedder | None, **prompts: str | None) -> Items:
    """Texts, vectors (n, dim) or `Vectors`."""
    is_matrix = getattr(getattr(items, "dtype", None), "kind", "O") in "fiu"
    if isinstance(items, Vectors) or is_matrix:
        given = next((name for name, value in prompts.items() if value is not None), None)
        if given is not None:
            raise InputError(f"got {given} with items that are vectors; expected texts with it")
        return items if isinstance(items, Vectors) else check_vectors("items", items)
    if embedder is None:
        raise InputError("got texts and no embedder; expected both, or vectors (n, dim)")
    check_embedder(embedder)
    return as_texts(items, "items")


def _equal_texts(items: Items) -> Rows:
    """(n,): the first row that has the text of each row; its own where texts are not known."""
    if isinstance(items, Texts):
        texts: Iterable[object] = items
    elif isinstance(items, Vectors):
        texts = items.contents.to_pylist()
    else:
        return np.arange(len(items))
    rows: dict[object, int] = {}
    return np.array([rows.setdefault(text, row) for row, text in enumerate(texts)], np.int64)


def _units(
    items: Items,
    embedder: Embedder | None,
    prompt: str | None,
    prompt_name: str | None,
    show_progress: bool | None,
) -> Matrix:
    """float32 (n, dim) of unit length, which may be overwritten."""
    if isinstance(items, Vectors):
        units = np.empty((len(items), items.dimension), np.float32)
        start = 0
        for batch in items:
            checked = check_vectors("items", batch.vectors)
            units[start : start + len(checked)] = unit(checked)
            start += len(checked)
        return units
    if isinstance(items, Texts) and embedder is not None:
        items = embedder.encode(
            items, prompt=prompt, prompt_name=prompt_name, show_progress=show_progress
        )
    return unit(cast("Matrix", items))
