"""Folders that earlier versions wrote open as they did, see helpers/make_fixtures.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.make_fixtures import KINDS, PAIRS, READS, RECIPES, TEXTS
from helpers.paths import TESTS

from embedkit import (
    Corpus,
    CrossEncoder,
    Embedder,
    VectorIndex,
    Vectors,
    encode_corpus,
    load_head,
)

VERSIONS = sorted(path for path in (TESTS / "fixtures").iterdir())


@pytest.fixture(params=VERSIONS, ids=lambda path: str(path.name))
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of a version's folders, and what they gave in it."""
    folder = tmp_path / "saved"
    shutil.copytree(request.param, folder)
    return folder, json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def load(folder: Path) -> Embedder:
    return Embedder.from_pretrained(folder, device="cpu", precision="float32")


def close(got: Any, expected: Any, atol: float = 1e-6) -> bool:
    return np.allclose(np.asarray(got), np.asarray(expected), rtol=1e-5, atol=atol)


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_saved_embedders_give_the_embeddings_of_their_time(
    saved: tuple[Path, dict[str, Any]], number: int
) -> None:
    folder, expected = saved
    embeddings = load(folder / f"embedder-{number}").encode(TEXTS)
    assert close(embeddings, expected["embeddings"][RECIPES[number]], 1e-5)


def test_saved_heads_give_the_predictions_of_their_time(
    saved: tuple[Path, dict[str, Any]],
) -> None:
    folder, expected = saved
    assert close(load_head(folder / "head", device="cpu").predict(PAIRS), expected["head"], 1e-4)


@pytest.mark.parametrize("reads", READS)
def test_saved_cross_encoders_give_the_scores_of_their_time(
    saved: tuple[Path, dict[str, Any]], reads: str
) -> None:
    folder, expected = saved
    model = CrossEncoder.from_pretrained(folder / f"cross-encoder-{reads}", device="cpu")
    assert close(model.predict(PAIRS), expected["cross_encoders"][reads], 1e-5)


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_saved_indexes_find_the_rows_of_their_time_and_can_be_changed(
    saved: tuple[Path, dict[str, Any]], number: int
) -> None:
    folder, expected = saved
    queries = np.array(expected["vectors"], dtype=np.float32)
    hits = expected["indexes"][KINDS[number]]
    index = VectorIndex.open(folder / f"index-{number}")
    found = index.search(queries, 3)
    if KINDS[number] == "IVF2,Flat":  # later versions probe more lists: they find more
        assert (np.asarray(found.scores) >= np.asarray(hits["scores"]) - 1e-6).all()
    else:
        assert found.ids == hits["ids"]
        scores = hits["scores"]
        if KINDS[number] == "SQ8":  # later versions rescore hits: the scores are exact
            rows = [[row.vector for row in index.get(ids, vectors=True)] for ids in found.ids]
            units = queries / np.linalg.norm(queries, axis=1, keepdims=True)
            scores = np.einsum("qd,qkd->qk", units, np.array(rows))
            assert close(scores, hits["scores"], 5e-3)
        assert close(found.scores, scores)
    rows = len(index)
    index.remove([2])
    assert len(VectorIndex.open(folder / f"index-{number}")) == rows - 1


def test_saved_vectors_read_as_they_did_and_are_taken_up(
    saved: tuple[Path, dict[str, Any]],
) -> None:
    folder, expected = saved
    assert close(Vectors.open(folder / "vectors").to_numpy(), expected["vectors"])
    embedder, corpus = load(folder / "embedder-0"), Corpus(folder / "corpus.txt")
    embedder.name = "embedder-0"
    whole = encode_corpus(embedder, corpus, folder / "vectors", texts=True)
    assert (whole.kept, whole.encoded) == (len(TEXTS), 0)
    rest = encode_corpus(embedder, corpus, folder / "vectors-partial", texts=True)
    assert (rest.kept, rest.encoded) == (3, len(TEXTS) - 3)
    assert close(Vectors.open(folder / "vectors-partial").to_numpy(), expected["vectors"])


def test_report_json_keeps_its_keys(saved: tuple[Path, dict[str, Any]]) -> None:
    """Keys may be added to schema 1, and none may go."""
    from helpers.make_fixtures import LABELS

    from embedkit import Pairs, compare

    folder, _ = saved
    before = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    pairs = Pairs.from_columns("pairs", *map(list, zip(*PAIRS, strict=True)), LABELS)
    now = compare(load(folder / "embedder-0"), pairs, ["mean", "max"]).to_dict()
    assert now["schema"] == before["schema"] == 1
    assert missing_keys(before, json.loads(json.dumps(now))) == []
    for old, new in zip(before["results"], now["results"], strict=True):
        assert (old["recipe"], old["metric"]) == (new["recipe"], new["metric"])
        assert new["value"] == pytest.approx(old["value"], abs=1e-6)


def missing_keys(before: Any, now: Any, path: str = "") -> list[str]:
    """Paths of keys that were there before."""
    if isinstance(before, list) and isinstance(now, list):
        return [key for b, n in zip(before, now, strict=False) for key in missing_keys(b, n, path)]
    if not isinstance(before, dict) or not isinstance(now, dict):
        return []
    gone = [f"{path}.{key}" for key in before if key not in now]
    both = [key for key in before if key in now]
    return gone + [k for key in both for k in missing_keys(before[key], now[key], f"{path}.{key}")]
