from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import fields
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedkit.embedder import one_pass as onepass
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.one_pass import Distinct
from embedkit.encoders.encoder import Encoder
from embedkit.encoders.states import TokenStates
from embedkit.errors import InputError
from embedkit.pooling import POOLINGS
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe
from embedkit.tokenization.batching import TOKEN_BUDGET, Batches
from embedkit.tokenization.token_batch import TokenBatch
from embedkit.tokenization.tokenizer import Tokenized

RECIPES = ("mean", "cls@0", "max@1,2", "last+cls/normalize", "pooler", "weighted_mean@first-last")


def tokenized(texts: Sequence[Sequence[int]]) -> Tokenized:
    ids = np.concatenate([np.array(text, dtype=np.int32) for text in texts])
    offsets = np.array([0, *accumulate(map(len, texts))], dtype=np.int64)
    return Tokenized(ids, offsets, np.zeros(len(ids), dtype=np.bool_), np.zeros(len(texts)) > 0)


def bind(recipe: str, num_layers: int = 3) -> BoundRecipe:
    resolved = Recipe.parse(recipe).resolve(num_layers)
    return BoundRecipe.of(resolved, tiny.PositionEncoder.dim)


# Distinct


def test_distinct_in_order_of_first_appearance() -> None:
    distinct = Distinct.of(["b", "a", "b", "", "c", "a", ""])
    assert distinct.texts == ["b", "a", "", "c"]
    assert distinct.inverse.tolist() == [0, 1, 0, 2, 3, 1, 2]


def test_what_looks_alike_is_distinct() -> None:
    texts = ["a", "A", "a ", "é", "e\u0301"]
    assert Distinct.of(texts).texts == texts


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "d e", ""])))
def test_distinct_texts_are_undone_by_inverse(texts: list[str]) -> None:
    distinct = Distinct.of(texts)
    assert [distinct.texts[place] for place in distinct.inverse] == texts
    assert len(set(distinct.texts)) == len(distinct.texts)
    assert distinct.inverse.dtype == np.int64


# Batches


def test_batches_of_one_budget() -> None:
    got = [batch.tolist() for batch in Batches(np.array([3, 9, 1, 4, 4, 1]), budget=8)]
    assert got == [[1], [3, 4], [0, 2], [5]]


@settings(deadline=None)
@given(st.lists(st.integers(1, 600), min_size=1, max_size=80), st.integers(1, 2000))
def test_batches_cover_every_text_once(lengths: list[int], budget: int) -> None:
    got = [batch.tolist() for batch in Batches(np.array(lengths), budget)]
    order = [text for batch in got for text in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[text] for text in order] == sorted(lengths, reverse=True)
    for batch in got:
        longest = max(lengths[text] for text in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget


def test_equal_lengths_keep_their_order() -> None:
    (batch,) = Batches(np.array([2] * 50))
    assert batch.tolist() == list(range(50))


def test_the_budget_of_one_pass() -> None:
    torch.set_num_threads(1)
    encoder = tiny.PositionEncoder()
    texts = [[5] * 512] * 20
    onepass.run(encoder, tokenized(texts), [bind("mean")])
    assert [len(batch.token_ids) for batch in encoder.batches] == [4096, 4096, 2048]
    assert TOKEN_BUDGET == 4096


# One pass, in the head: hidden state k of token t at place i is [k, i, t]


def test_vectors_of_two_texts() -> None:
    tokens = tokenized([[7], [1, 2, 6]])
    recipes = ("mean", "cls@0", "max@1,2", "cls+last", "pooler", "mean@1,-1")
    vectors = onepass.run(tiny.PositionEncoder(), tokens, [bind(recipe) for recipe in recipes])
    assert [v.tolist() for v in vectors] == [
        [[3, 1, 7], [3, 2, 3]],
        [[0, 1, 7], [0, 1, 1]],
        [[1.5, 1, 7], [1.5, 3, 6]],
        [[3, 1, 7, 3, 1, 7], [3, 1, 1, 3, 3, 6]],
        [[-1, 1, 7], [-1, 3, 1]],
        [[2, 1, 7], [2, 2, 3]],
    ]
    assert {v.dtype for v in vectors} == {np.dtype(np.float32)}


def test_steps_are_run() -> None:
    (vectors,) = onepass.run(
        tiny.PositionEncoder(2), tokenized([[2, 2]]), [bind("cls/normalize", 2)]
    )
    np.testing.assert_allclose(vectors, [[2 / 3, 1 / 3, 2 / 3]], rtol=1e-6)


def test_the_prompt_is_left_out() -> None:
    tokens = tokenized([[9, 9, 4], [9, 9, 1, 5]])
    recipes = [bind("cls"), bind("mean"), bind("weighted_mean")]
    cls, mean, weighted = onepass.run(tiny.PositionEncoder(), tokens, recipes, prompt_tokens=2)
    assert cls.tolist() == [[3, 3, 4], [3, 3, 1]]
    assert mean.tolist() == [[3, 3, 4], [3, 3.5, 3]]
    assert weighted[1].tolist() == pytest.approx([3, (9 + 16) / 7, (3 * 1 + 4 * 5) / 7])


def test_concatenated_in_the_order_of_the_table() -> None:
    names = [
        name
        for name, row in POOLINGS.items()
        if name != "pooler" and not (row.fitted or row.trained)
    ]
    tokens = tokenized([[7, 3], [1, 2, 6]])
    run = partial(onepass.run, tiny.PositionEncoder(), tokens)
    (together,) = run([bind("+".join(reversed(names)))])
    apart = run([bind(name) for name in names])
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=1))


# Each text once, whatever the number of recipes


@pytest.mark.parametrize("count", range(1, len(RECIPES) + 1))
def test_each_text_is_run_once(count: int) -> None:
    encoder = tiny.PositionEncoder()
    texts = [[text] * (1 + text % 7) for text in range(5, 105)]
    onepass.run(encoder, tokenized(texts), [bind(recipe) for recipe in RECIPES[:count]])
    ran = [first for batch in encoder.batches for first in batch.token_ids[batch.offsets[:-1]]]
    assert sorted(map(int, ran)) == list(range(5, 105))


@pytest.mark.parametrize(
    ("recipes", "layers", "pooler"),
    [
        (["mean"], (3,), False),
        (["mean", "cls", "max+last/normalize"], (3,), False),
        (["mean@first-last", "cls@2", "max@-2"], (1, 2, 3), False),
        (["pooler"], (), True),
        (["cls@0", "pooler", "mean@0,1"], (0, 1), True),
    ],
)
def test_asked_for_the_union_of_layers(
    recipes: list[str], layers: tuple[int, ...], pooler: bool
) -> None:
    encoder = tiny.PositionEncoder()
    onepass.run(encoder, tokenized([[5, 6]]), [bind(recipe) for recipe in recipes])
    assert encoder.asked == [(layers, pooler)]


def test_a_recipe_asked_for_twice() -> None:
    one, two = onepass.run(tiny.PositionEncoder(), tokenized([[5], [6, 7]]), [bind("mean")] * 2)
    assert one.tolist() == two.tolist() == [[3, 1, 5], [3, 1.5, 6.5]]


def test_advance_counts_tokens() -> None:
    told: list[int] = []
    tokens = tokenized([[1], [1, 2, 3], [1, 2], [1, 2]])
    onepass.run(tiny.PositionEncoder(), tokens, [bind("mean")], budget=4, advance=told.append)
    assert told == [3, 4, 1]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=20),
    st.integers(1, 60),
)
def test_the_budget_does_not_matter(texts: list[list[int]], budget: int) -> None:
    recipes = [bind(recipe) for recipe in RECIPES]
    run = partial(onepass.run, tiny.PositionEncoder(), tokenized(texts), recipes)
    for one, other in zip(run(), run(budget=budget), strict=True):
        np.testing.assert_array_equal(one, other)


# Memory of a GPU that is too small


class Small(tiny.PositionEncoder):
    """Holds so many tokens."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens

    def __call__(
        self, batch: TokenBatch, layers: Collection[int], *, pooler: bool = False
    ) -> TokenStates:
        states = super().__call__(batch, layers, pooler=pooler)
        if len(batch.token_ids) > self.tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return states


def test_the_budget_is_halved_once_and_for_all() -> None:
    torch.set_num_threads(1)
    encoder, told = Small(600), list[int]()
    tokens = tokenized([[5] * 50] * 40)
    onepass.run(encoder, tokens, [bind("mean")], budget=2000, advance=told.append)
    asked = [len(batch.token_ids) for batch in encoder.batches]
    assert asked == [2000, 1000, 500, 500, 500, 500]
    assert told == [500] * 4


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=30),
    st.integers(9, 40),
)
def test_nothing_is_lost_with_small_memory(texts: list[list[int]], memory: int) -> None:
    recipes = [bind(recipe) for recipe in RECIPES]
    expected = onepass.run(tiny.PositionEncoder(), tokenized(texts), recipes)
    for one, other in zip(
        expected, onepass.run(Small(memory), tokenized(texts), recipes), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_memory_for_less_than_one_text() -> None:
    with pytest.raises(
        MemoryError,
        match=r"^that of cpu does not hold texts of 9 tokens; expected a smaller "
        r"max_length, or another device$",
    ):
        onepass.run(Small(8), tokenized([[5] * 9, [5] * 3]), [bind("mean")])


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["mean", "cls+max@1/normalize", "pooler"])
def test_a_gpu_gives_the_vectors_of_the_cpu(embedder: Embedder, recipe: str) -> None:
    here = embedder.with_recipe(recipe)
    there = Embedder.from_pretrained(embedder.name, recipe, device="cuda", precision="float32")
    texts = [" ".join(tiny.TEXTS[: 1 + number % 8]) + f" {number}" for number in range(500)]
    expected = here.encode(texts)
    got = there.encode(texts)
    assert np.abs(got - expected).max() <= 1e-3 * np.abs(expected).max()


# The same with a real encoder


class Counted:
    """An encoder that notes the texts it runs and the layers it is asked for."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.texts: Counter[tuple[int, ...]] = Counter()
        self.asked: set[tuple[tuple[int, ...], bool]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def __call__(
        self, batch: TokenBatch, layers: Collection[int], *, pooler: bool = False
    ) -> TokenStates:
        self.texts.update(tuple(ids.tolist()) for ids in batch.token_ids.split(batch.lengths))
        self.asked.add((tuple(layers), pooler))
        return self.encoder(batch, layers, pooler=pooler)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder.from_pretrained(tiny.make_bert(tmp_path_factory.mktemp("bert")), device="cpu")


def parsed(embedder: Embedder, recipes: Sequence[str]) -> list[BoundRecipe]:
    return [embedder.bind(Recipe.parse(recipe)) for recipe in recipes]


def test_duplicates_are_run_once(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(embedder.encoder)
    monkeypatch.setattr(embedder, "encoder", counted)
    texts = [*tiny.TEXTS, *reversed(tiny.TEXTS), tiny.TEXTS[0]]
    encoded = embedder.encode_recipes(texts, parsed(embedder, RECIPES))
    assert len(counted.texts) == len(tiny.TEXTS) == len(encoded.distinct.texts)
    assert set(counted.texts.values()) == {1}
    assert counted.asked == {((0, 1, 2, 3), True)}
    assert encoded.distinct.inverse.tolist() == [*range(8), *reversed(range(8)), 0]


def test_duplicates_get_the_same_vector(embedder: Embedder) -> None:
    vectors = embedder.encode([*tiny.TEXTS, *tiny.TEXTS])
    np.testing.assert_array_equal(vectors[:8], vectors[8:])
    np.testing.assert_array_equal(vectors[:8], embedder.encode(tiny.TEXTS))


@pytest.mark.parametrize("recipe", RECIPES)
def test_many_recipes_as_one_at_a_time(embedder: Embedder, recipe: str) -> None:
    together = embedder.encode_recipes(tiny.TEXTS, parsed(embedder, RECIPES)).vectors
    (alone,) = embedder.encode_recipes(tiny.TEXTS, parsed(embedder, [recipe])).vectors
    np.testing.assert_array_equal(together[RECIPES.index(recipe)], alone)


@pytest.mark.parametrize("budget", [1, 17, 40])
def test_the_budget_of_a_real_encoder(
    embedder: Embedder, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embedder.encode_recipes(tiny.TEXTS, parsed(embedder, RECIPES)).vectors
    monkeypatch.setattr(onepass, "TOKEN_BUDGET", budget)
    parts = embedder.encode_recipes(tiny.TEXTS, parsed(embedder, RECIPES)).vectors
    for one, other in zip(whole, parts, strict=True):
        assert_close(other, one)


def test_texts_tokenized_ahead(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, in parts of three of the eight texts, and with a text twice."""
    texts, recipes = [*tiny.TEXTS, tiny.TEXTS[0]], parsed(embedder, RECIPES)
    whole = embedder.encode_recipes(texts, recipes, prompt="the ")
    monkeypatch.setattr(onepass, "_texts_at_once", lambda encoder: 3)
    parts = embedder.encode_recipes(texts, recipes, prompt="the ")
    for one, other in zip(whole.vectors, parts.vectors, strict=True):
        assert_close(other, one)
    for field in fields(Tokenized):
        np.testing.assert_array_equal(
            getattr(parts.tokens, field.name), getattr(whole.tokens, field.name)
        )
    assert parts.distinct.inverse.tolist() == [*range(8), 0]


def test_an_error_while_tokenizing_ahead(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onepass, "_texts_at_once", lambda encoder: 3)
    tokenize = embedder.tokenizer

    def refuse(texts: list[str]) -> Tokenized:
        if tiny.TEXTS[7] in texts:
            raise InputError("the last part")
        return tokenize(texts)

    monkeypatch.setattr(embedder, "tokenizer", refuse)
    with pytest.raises(InputError, match=r"^the last part$"):
        embedder.encode(tiny.TEXTS)


def test_the_order_of_texts_does_not_matter(embedder: Embedder) -> None:
    forth = embedder.encode(tiny.TEXTS)
    back = embedder.encode(tiny.TEXTS[::-1])
    assert_close(back[::-1], forth)


def test_states_need_no_gradient(embedder: Embedder) -> None:
    states = embedder.encoder(tiny.pack([[5, 6]]), [0, 3], pooler=True)
    assert states.pooler_output is not None
    assert not any(s.requires_grad for s in [*states.layers.values(), states.pooler_output])
    assert torch.is_grad_enabled()


def assert_close(got: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert np.abs(got - expected).max() <= 1e-6 * max(1, np.abs(expected).max())
