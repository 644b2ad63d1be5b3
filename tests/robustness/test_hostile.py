"""A few of the cases of hostile.py, of every kind; hypothesis makes values and texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit import Embedder, InputError
from robustness import hostile

CASES = 4  # of each kind

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return hostile.make_sources(tmp_path_factory.mktemp("sources"))


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_damage(sources: dict[str, Path], kind: str, tmp_path: Path) -> None:
    for number in range(CASES):
        case = hostile.run_case(number, seed=0, sources=sources, root=tmp_path, only=kind)
        assert case.outcome in ("result", "refused"), case


def test_code_that_runs_is_seen(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the cases would show nothing."""
    real = hostile.attempt

    def attempt(random: Any, folder: Path) -> str:
        (folder.parent / "marker").touch()
        return real(random, folder)

    monkeypatch.setattr(hostile, "attempt", attempt)
    case = hostile.run_case(0, seed=0, sources=sources, root=tmp_path, only="texts_only")
    assert case.outcome == "ran code"


def test_crashes_and_memory_are_seen(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(random: Any, folder: Path) -> str:
        raise KeyError("a bug")

    def grow(random: Any, folder: Path) -> str:
        return str(np.ones(2 * hostile.MEMORY // 8).sum() > 0)

    monkeypatch.setattr(hostile, "MEMORY", 1 << 26)
    for attempt, outcome in ((crash, "crash"), (grow, "memory")):
        monkeypatch.setattr(hostile, "attempt", attempt)
        case = hostile.run_case(0, seed=0, sources=sources, root=tmp_path, only="texts_only")
        assert case.outcome == outcome


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("model"), layers=1)


@pytest.fixture(scope="module")
def embedder(model: Path) -> Embedder:
    return Embedder.from_pretrained(model)


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(), min_size=1, max_size=5))
def test_any_text_has_a_vector(embedder: Embedder, texts: list[str]) -> None:
    vectors = embedder.encode(texts)
    assert vectors.shape == (len(texts), 32)
    assert np.isfinite(vectors).all()
    alone = np.concatenate([embedder.encode([text]) for text in texts])
    assert np.allclose(vectors, alone, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(text=st.text(st.characters(categories=["Cs"]), min_size=1))
def test_no_text_of_surrogates_has_one(embedder: Embedder, text: str) -> None:
    with pytest.raises(InputError, match=r"^texts\[0\]: got the lone surrogate"):
        embedder.encode([f"a{text}"])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_value_anywhere(model: Path, data: st.DataObject) -> None:
    """A result or an InputError of one line, whatever a key of a JSON file says."""
    folder = shutil.copytree(model, model.parent / "changed", dirs_exist_ok=True)
    path = folder / data.draw(st.sampled_from(["config.json", "tokenizer_config.json"]))
    content = json.loads(path.read_text(encoding="utf-8"))
    content[data.draw(st.sampled_from(sorted(content)))] = data.draw(VALUES)
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        vectors = Embedder.from_pretrained(folder).encode(["rain"])
    except InputError as error:
        said = str(error)
    else:
        said = f"{vectors.dtype} {vectors.shape}"
    assert hostile.is_one_sentence(said)
