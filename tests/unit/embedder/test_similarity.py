"""Similarities and unit vectors at any scale; numpy in float64 is the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from embedkit import InputError
from embedkit.evaluation.error_analysis import Geometry
from embedkit.recipes.bound_recipe import RowStep
from embedkit.similarity import SIMILARITIES, float32_matrix

SCALES = [1e-42, 1e-30, 1e-20, 1e-12, 1.0, 1e12, 1e20, 1e30, 5e37]


def draw(n: int, dim: int = 8, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def unit_of(vectors: NDArray[np.float32]) -> NDArray[Any]:
    exact = vectors.astype(np.float64)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", SCALES)
def test_scales_normalize_makes_unit_vectors(scale: float) -> None:
    vectors = draw(5) * np.float32(scale)
    unit = RowStep("normalize")(vectors)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, unit_of(vectors), rtol=3e-7)


@given(
    arrays(
        np.float32,
        (3, 4),
        elements=st.floats(-1e5, 1e5, width=32).filter(lambda x: x == 0 or abs(x) > 1e-5),
    )
)
def test_scales_ordinary_vectors_are_normalized_to_the_same_bits(
    vectors: NDArray[np.float32],
) -> None:
    """As sentence-transformers does, v / max(|v|, 1e-12), with and without a row of zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    plain = vectors / np.maximum(norms, np.float32(1e-12))
    np.testing.assert_array_equal(RowStep("normalize")(vectors), plain)
    with_zeros = np.vstack([vectors, np.zeros((1, 4), np.float32)])
    np.testing.assert_array_equal(RowStep("normalize")(with_zeros)[:3], plain)
    assert not RowStep("normalize")(with_zeros)[3].any()


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_scales_the_cosine_does_not_depend_on_them(scale: float) -> None:
    a, b = draw(4).astype(np.float64), draw(4, seed=1).astype(np.float64)
    cosine = SIMILARITIES["cosine"]
    want = unit_of(draw(4)) @ unit_of(draw(4, seed=1)).T
    np.testing.assert_allclose(cosine.matrix(a * scale, b), want, atol=1e-14)
    np.testing.assert_allclose(cosine.pairwise(a * scale, b), want.diagonal(), atol=1e-14)


def test_scales_near_vectors_far_from_the_origin_keep_their_distance() -> None:
    far = 1e6 + draw(6).astype(np.float64) * 1e-4
    far[3] = far[0]
    want = -np.sqrt(np.square(far[:, None] - far[None, :]).sum(2))
    np.testing.assert_allclose(SIMILARITIES["euclidean"].matrix(far, far), want, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_scales_the_geometry_does_not_depend_on_them(scale: float) -> None:
    one, other = Geometry.of(draw(20)), Geometry.of(draw(20) * np.float32(scale))
    for name in ("mean_cosine", "top_share", "effective_rank"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-5)


@pytest.mark.filterwarnings("error")
def test_scales_a_similarity_beyond_float32_is_refused_by_its_place() -> None:
    a = draw(3).astype(np.float64)
    a[2] *= 1e30
    for name in ("cosine", "euclidean", "manhattan"):
        want = SIMILARITIES[name].matrix(a, a)
        np.testing.assert_allclose(float32_matrix(name, a, a), want, rtol=1e-6)
    with pytest.raises(InputError, match=r"^the dot similarity of a\[2\] and b\[2\] is .*e\+60; "):
        float32_matrix("dot", a, a)
