"""`reproducible`: the same bits for the same text, whatever else is encoded."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.tiny_tokenizers import VOCAB
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit import Embedder
from embedkit.encoders import linear
from embedkit.recipes.dense import Dense
from embedkit.recipes.steps import Float32Array
from embedkit.tokenization.batching import equal_batches

# Wide enough for the blocked kernels of matrix products, whose sums depend on their shape.
SIZES: dict[str, Any] = {"layers": 2, "width": 96, "heads": 3, "max_positions": 128}
WORDS = [word for word in VOCAB if word.isalpha() and word.isascii()]
SCRATCH = TemporaryDirectory(prefix="embedkit-")
RECIPES = ("mean", "cls+max@1/normalize", "mean/whiten:8", "idf_mean", "pooler")

POOL = [" ".join(WORDS[n * k % len(WORDS)] for k in range(1, n + 1)) for n in range(0, 61, 2)]
texts = st.lists(st.sampled_from(POOL), min_size=1, max_size=24)


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> None:
    torch.set_num_threads(request.param)


@cache
def folder(family: str) -> Path:
    return tiny.make_model(Path(SCRATCH.name) / family, family, **SIZES)


@cache
def embedder(precision: str, recipe: str = "mean", family: str = "bert") -> Embedder:
    made = Embedder.from_pretrained(folder(family), recipe, precision=precision, reproducible=True)
    if made.recipe.to_fit:
        made.fit([" ".join(WORDS[i : i + 3]) for i in range(40)])
    return made


@cache
def alone(precision: str, recipe: str, threads: int, text: str) -> Float32Array:
    vector: Float32Array = embedder(precision, recipe).encode([text])[0]
    return vector


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.usefixtures("threads")
@settings(max_examples=8, deadline=None)
@given(texts=texts, data=st.data())
def test_a_text_has_one_vector(
    precision: str, recipe: str, texts: list[str], data: st.DataObject
) -> None:
    """In any company, order and number of times, as alone."""
    texts = data.draw(st.permutations(texts + texts[: len(texts) // 2]))
    vectors = embedder(precision, recipe).encode(texts)
    for text, vector in zip(texts, vectors, strict=True):
        expected = alone(precision, recipe, torch.get_num_threads(), text)
        assert vector.tobytes() == expected.tobytes(), text


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_many_texts_of_one_length(precision: str) -> None:
    """The case where a kernel would choose by the number of rows."""
    many = [f"{a} {b} {c}" for a in WORDS[:9] for b in WORDS[:9] for c in WORDS[:3]]
    vectors = embedder(precision).encode(many)
    for count in (1, 2, 31, 32, 33, 100):
        some = many[-count:]
        np.testing.assert_array_equal(embedder(precision).encode(some), vectors[-count:])


def test_steps_whose_products_depend_on_the_place_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in some of OpenBLAS's kernels, which this machine may not have."""
    product = Dense.__call__

    def by_place(self: Dense, vectors: Float32Array) -> Float32Array:
        out = product(self, vectors)
        return out + np.arange(len(out), dtype=np.float32)[:, None]

    one = embedder("float32", "mean/whiten:8")
    monkeypatch.setattr(Dense, "__call__", by_place)
    many = [f"{a} {b}" for a in WORDS[:20] for b in WORDS[:9]]
    vectors = one.encode(many)
    np.testing.assert_array_equal(one.encode(many[7:40]), vectors[7:40])
    np.testing.assert_array_equal(one.encode(many[::-1])[::-1], vectors)


def test_without_the_fused_linears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "fuses", lambda dtype: False)
    plain = Embedder.from_pretrained(folder("bert"), precision="float32", reproducible=True)
    many = [f"{a} {b}" for a in WORDS[:20] for b in WORDS[:9]]
    vectors = plain.encode(many)
    np.testing.assert_array_equal(plain.encode(many[7:40]), vectors[7:40])
    np.testing.assert_array_equal(plain.encode(many[100:101]), vectors[100:101])


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_other_families(family: str) -> None:
    many = [f"{a} {b}" for a in WORDS[:20] for b in WORDS[:9]]
    one = embedder("float32", family=family)
    vectors = one.encode(many)
    np.testing.assert_array_equal(one.encode(many[7:40]), vectors[7:40])
    np.testing.assert_array_equal(one.encode(many[::-1])[::-1], vectors)


def test_it_goes_with_the_recipe() -> None:
    assert embedder("float32").with_recipe("cls").reproducible


def test_it_agrees_with_the_fast_way() -> None:
    fast = Embedder.from_pretrained(folder("bert"), precision="float32")
    difference = fast.encode(tiny.TEXTS) - embedder("float32").encode(tiny.TEXTS)
    assert np.abs(difference).max() <= 1e-5


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_the_shape_of_a_batch_is_that_of_its_length(lengths: list[int]) -> None:
    counted = np.array(lengths)
    seen: list[int] = []
    for batch in equal_batches(counted):
        (length,) = set(counted[batch])
        assert len(batch) == max(1, 256 // length)
        seen += np.unique(batch).tolist()
    assert sorted(seen) == list(range(len(lengths)))
