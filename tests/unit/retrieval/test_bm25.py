"""Words, BM25 and fusion: the scores of bm25s, and rankings worked out by hand."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import bm25s
import numpy as np
import pyarrow as pa
import pytest

from embedkit import InputError
from embedkit.retrieval.bm25 import Postings, TermCounts, search_terms
from embedkit.retrieval.fusion import check_mode, check_weights, fuse
from embedkit.retrieval.words import find_words

SYLLABLES = ["ka", "to", "mi", "re", "so", "nu", "pe", "가나", "다라"]


def texts(n: int, seed: int) -> list[str]:
    """Random texts, one of them empty; frequent words are much more frequent than rare ones."""
    random = np.random.default_rng(seed)
    vocabulary = [a + b for a in SYLLABLES for b in SYLLABLES]
    ranks = np.arange(1, len(vocabulary) + 1)
    made = [
        " ".join(random.choice(vocabulary, random.integers(1, 30), p=1 / ranks / (1 / ranks).sum()))
        for _ in range(n - 1)
    ]
    return [*made[: n // 2], "", *made[n // 2 :]]


def postings(documents: Sequence[str], *, batch: int = 7) -> Postings:
    words = find_words("unicode")
    starts = range(0, len(documents), batch)
    return Postings.of([TermCounts.of(documents[x : x + batch], words) for x in starts])


def oracle(documents: Sequence[str], queries: Sequence[str]) -> np.ndarray:
    """(queries, documents): what bm25s scores, with Lucene's formula and values."""
    words = find_words("unicode")
    model = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    model.index([words(text) for text in documents], show_progress=False)
    asked = [words(text) for text in queries]
    return np.stack([model.get_scores(own) if own else np.zeros(len(documents)) for own in asked])


def search(
    parts: Sequence[Postings],
    queries: Sequence[str],
    k: int,
    live: Sequence[np.ndarray] | None = None,
    wanted: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    words = find_words("unicode")
    live = [np.ones(part.n, bool) for part in parts] if live is None else live
    return search_terms(parts, live, [words(text) for text in queries], k, wanted)


class TestWords:
    @pytest.mark.parametrize(
        ("text", "terms"),
        [
            ("The cat's pyjamas, 42!", ["the", "cat", "s", "pyjamas", "42"]),
            ("ＦＵＬＬ Straße naïve", ["full", "strasse", "naïve"]),
            ("한국어 문장", ["한국", "국어", "문장"]),
            ("그 LG전자는", ["그", "lg", "전자", "자는"]),
            ("한국", ["한국"]),  # decomposed, as files of macOS have it
            ("東京タワー x", ["東京", "京タ", "タワ", "ワー", "x"]),
            ("हिन्दी में", ["हिन्दी", "में"]),  # marks belong to words
            (" ,;", []),
        ],
    )
    def test_unicode(self, text: str, terms: list[str]) -> None:
        assert find_words("unicode")(text) == terms

    def test_stems_are_of_words_only(self) -> None:
        assert find_words("english")("Running dogs 한국어") == ["run", "dog", "한국", "국어"]
        assert find_words("german")("Häuser") == ["haus"]

    @pytest.mark.thorough
    def test_kiwi_gives_nouns_and_predicates_of_korean(self) -> None:
        terms = find_words("kiwi")("그는 GPT 책을 읽고 있다.")
        assert {"gpt", "책", "읽"} <= set(terms)
        assert not {"을", "고", "는"} & set(terms)
        whole, split = map(find_words("kiwi"), ("비밀번호 변경", "비밀번호를 바꾸려면"))
        assert whole == ["비밀", "밀번", "번호", "변경"]  # one noun for Kiwi
        assert split == ["비밀", "밀번", "번호", "바꾸"]  # two
        assert find_words("kiwi")("no Korean") == ["no", "korean"]

    def test_unknown_names_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"words is 'klingon'; expected unicode, kiwi or one "):
            find_words("klingon")
        with pytest.raises(InputError, match="words is None; expected a str"):
            find_words(None)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("name", "package", "extra"),
        [("kiwi", "kiwipiepy", "korean"), ("english", "snowballstemmer", "stem")],
    )
    def test_a_missing_package_is_named(
        self, name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        find_words.cache_clear()
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=rf"pip install 'embedkit\[{extra}\]'"):
            find_words(name)


class TestPostings:
    def test_terms_rows_and_counts(self) -> None:
        made = postings(["b a b", "", "c b"], batch=2)
        assert made.terms.to_pylist() == ["a", "b", "c"]
        assert [part.tolist() for part in made.find("b")] == [[0, 2], [2, 1]]
        assert [part.tolist() for part in made.find("z")] == [[], []]
        assert made.lengths.tolist() == [3, 0, 2]

    def test_rows_taken_are_as_if_counted_alone(self) -> None:
        documents = texts(40, 0)
        rows = np.array([3, 4, 17, 30])
        taken = Postings.of([postings(documents).take(rows)])
        alone = postings([documents[row] for row in rows])
        assert taken.terms == alone.terms
        assert np.array_equal(taken.starts, alone.starts)
        assert np.array_equal(taken.rows, alone.rows)
        assert np.array_equal(taken.counts, alone.counts)

    def test_a_table_gives_them_back(self) -> None:
        made = postings(["b a b", "", "c b"])
        again = Postings.from_table(made.to_table(), 3)
        assert again.terms == made.terms
        assert [part.tolist() for part in again.find("b")] == [[0, 2], [2, 1]]
        empty = Postings.from_table(postings([""]).to_table(), 1)
        assert (len(empty.terms), empty.lengths.tolist()) == (0, [0])

    def test_a_wrong_table_is_refused(self) -> None:
        table = postings(["b a b", "", "c b"]).to_table()
        with pytest.raises(ValueError, match="rows that there are not"):
            Postings.from_table(table, 2)
        with pytest.raises(ValueError, match="expected terms with their rows and counts"):
            Postings.from_table(pa.table({"term": ["a"]}), 3)


class TestSearch:
    def test_scores_are_those_of_bm25s(self) -> None:
        documents, queries = texts(300, 1), [*texts(20, 2), "kaka kaka toto"]
        expected = oracle(documents, queries)
        scores, rows = search([postings(documents)], queries, 300)
        for query, own in enumerate(expected):
            there = rows[query] >= 0
            assert set(rows[query][there]) == set(np.flatnonzero(own > 0))
            assert np.allclose(scores[query][there], own[rows[query][there]], rtol=1e-5)
            assert (np.diff(scores[query][there]) <= 0).all()
        few = search([postings(documents)], queries, 5)
        assert np.array_equal(few[0], scores[:, :5])
        assert np.array_equal(few[1], rows[:, :5])

    def test_parts_and_removed_rows_do_not_show_in_the_scores(self) -> None:
        documents, queries = texts(200, 3), texts(10, 4)
        live = np.random.default_rng(0).random(200) < 0.6
        parts = [postings(documents[:50]), postings(documents[50:])]
        scores, rows = search(parts, queries, 10, [live[:50], live[50:]])
        kept = np.flatnonzero(live)
        alone = search([postings([documents[row] for row in kept])], queries, 10)
        assert np.array_equal(rows, np.where(alone[1] < 0, -1, kept[alone[1]]))
        assert np.allclose(scores, alone[0], rtol=1e-6)

    def test_a_filter_leaves_the_scores_alone(self) -> None:
        documents, queries = texts(100, 5), texts(5, 6)
        wanted = np.arange(100) % 7 == 0
        scores, rows = search([postings(documents)], queries, 100, wanted=[wanted])
        expected = oracle(documents, queries)
        for query, own in enumerate(expected):
            there = rows[query] >= 0
            assert set(rows[query][there]) == set(np.flatnonzero((own > 0) & wanted))
            assert np.allclose(scores[query][there], own[rows[query][there]], rtol=1e-5)

    def test_of_equal_rows_the_first_comes_first(self) -> None:
        assert search([postings(["a", "b", "a", "a"])], ["a"], 2)[1].tolist() == [[0, 2]]

    def test_nothing_is_found_where_there_is_nothing(self) -> None:
        scores, rows = search([postings(["a", ""])], ["z", "..."], 1)
        assert rows.tolist() == [[-1], [-1]]
        assert np.isneginf(scores).all()
        assert search([], ["a"], 1)[1].tolist() == [[-1]]


class TestFusion:
    def test_reciprocal_ranks_are_summed(self) -> None:
        none = np.zeros((1, 3), np.float32)
        dense, words = np.array([[5, 2, 9]]), np.array([[2, 7, -1]])
        scores, rows = fuse([(none, dense), (none, words)], 5)
        assert rows.tolist() == [[2, 5, 7, 9, -1]]
        assert np.allclose(scores[0, :4], [1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63])
        assert np.isneginf(scores[0, 4])

    def test_of_equal_rows_the_dense_one_comes_first(self) -> None:
        none = np.zeros((1, 2), np.float32)
        rows = fuse([(none, np.array([[8, 3]])), (none, np.array([[1, 0]]))], 3)[1]
        assert rows.tolist() == [[8, 1, 3]]

    def test_weights_are_of_scores_scaled_from_0_to_1(self) -> None:
        dense = np.array([[0.9, 0.7, 0.5]], np.float32), np.array([[4, 1, 3]])
        words = np.array([[12.0, 2.0, -np.inf]], np.float32), np.array([[3, 1, -1]])
        scores, rows = fuse([dense, words], 3, check_weights((0.75, 0.25)))
        assert rows.tolist() == [[4, 1, 3]]
        assert np.allclose(scores, [[0.75, 0.375, 0.25]])

    def test_wrong_weights_and_modes_are_refused(self) -> None:
        for weights in ((1,), (1, -1), (0, 0), "ab", (1, float("nan"))):
            with pytest.raises(InputError, match="expected two numbers from 0"):
                check_weights(weights)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="mode is 'sparse'; expected one of dense, bm25, hyb"):
            check_mode("sparse")
