"""sentence-transformers' habits: the same calls give the same values."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from helpers import tiny
from sentence_transformers import SentenceTransformer

from embedkit import Embedder, InputError
from embedkit.embedder.encode_arguments import _warn_once

TEXTS = list(tiny.TEXTS)
PROMPTS = {"query": "query: ", "passage": "the cat ", "news": "news: "}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("habits")
    bert = tiny.make_bert(path / "bert", seed=5)
    SentenceTransformer(str(bert), prompts=PROMPTS, device="cpu").save_pretrained(str(path / "st"))
    return path / "st"


@pytest.fixture(scope="module")
def theirs(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Embedder:
    return Embedder(str(folder), device="cpu", precision="float32")


def close(got: Any, want: Any) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_the_constructor_is_from_pretrained(folder: Path, ours: Embedder) -> None:
    other = Embedder.from_pretrained(folder, device="cpu", precision="float32")
    assert ours.fingerprint == other.fingerprint
    assert np.array_equal(ours.encode(TEXTS), other.encode(TEXTS))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompt": "a "},
        {"prompt_name": "news"},
        {"normalize_embeddings": True},
        {"truncate_dim": 5},
        {"truncate_dim": 5, "normalize_embeddings": True},
        {"truncate_dim": 500},
        {"device": "cpu"},
        {"show_progress_bar": False},
        {"convert_to_numpy": True},
        {"output_value": "sentence_embedding", "precision": "float32"},
    ],
    ids=str,
)
def test_encode_gives_the_same(
    ours: Embedder, theirs: SentenceTransformer, options: dict[str, Any]
) -> None:
    close(ours.encode(TEXTS, **options), theirs.encode(TEXTS, **options))
    close(ours.encode(TEXTS[0], **options), theirs.encode(TEXTS[0], **options))
    tensors = [
        model.encode(TEXTS, convert_to_tensor=True, **options)
        for model in (ours, theirs)
        if "convert_to_numpy" not in options
    ]
    if tensors:
        assert isinstance(tensors[0], torch.Tensor)
        assert tensors[0].device == tensors[1].device
        close(*tensors)


@pytest.mark.parametrize("method", ["encode_query", "encode_document"])
def test_roles_take_their_prompts(method: str, ours: Embedder, theirs: SentenceTransformer) -> None:
    for options in ({}, {"prompt": "a "}, {"prompt_name": "news"}, {"convert_to_tensor": True}):
        close(getattr(ours, method)(TEXTS, **options), getattr(theirs, method)(TEXTS, **options))
    close(getattr(ours, method)("rain"), getattr(theirs, method)("rain"))


@pytest.mark.parametrize("empty", [[], (), np.array([], dtype=str)], ids=repr)
def test_no_texts_give_no_rows(empty: Any, ours: Embedder) -> None:
    assert ours.encode(empty).shape == (0, 32)
    assert ours.encode(empty, truncate_dim=3, normalize_embeddings=True).shape == (0, 3)
    tensor = ours.encode(empty, convert_to_tensor=True)
    assert (tensor.shape, tensor.dtype) == ((0, 32), torch.float32)
    with pytest.raises(InputError, match="unknown prompt_name"):
        ours.encode(empty, prompt_name="no")


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities(name: str, folder: Path, theirs: SentenceTransformer) -> None:
    theirs = SentenceTransformer(str(folder), device="cpu", similarity_fn_name=name)
    ours = Embedder(theirs, precision="float32")
    a, b = theirs.encode(TEXTS), theirs.encode(TEXTS[::-1])
    want = theirs.similarity(a, b).numpy()
    np.testing.assert_allclose(ours.similarity(a, b), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.similarity(TEXTS, torch.tensor(b)), want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours.similarity(a[2], b), want[2:3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.similarity(TEXTS[2], b), want[2:3], rtol=1e-4, atol=1e-4)
    want = theirs.similarity_pairwise(a, b).numpy()
    got = ours.similarity_pairwise(a, torch.tensor(b))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        ours.similarity_pairwise(TEXTS[0], TEXTS[-1]), want[:1], rtol=1e-4, atol=1e-4
    )
    with pytest.raises(InputError, match="a has 8 rows and b has 2; expected as many"):
        ours.similarity_pairwise(a, b[:2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 64}, "batch_size has no effect here: batches are formed by a budget of"),
        ({"convert_to_numpy": False}, "with convert_to_tensor=True a tensor"),
        ({"pool": {}}, "pool has no effect here"),
        ({"chunk_size": 8}, "chunk_size has no effect here"),
    ],
)
def test_arguments_without_a_meaning_warn_once(
    options: dict[str, Any], message: str, ours: Embedder
) -> None:
    _warn_once.cache_clear()
    expected = ours.encode(TEXTS)
    with pytest.warns(UserWarning, match=message) as caught:
        assert np.array_equal(ours.encode(TEXTS, **options), expected)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.encode(TEXTS, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_value": "token_embeddings"}, "encode returns sentence embeddings only"),
        ({"precision": "int8"}, "precision is 'int8'; embeddings are float32"),
        ({"truncate_dim": 0}, "truncate_dim is 0; expected a whole number from 1"),
        ({"truncate_dim": 1.5}, "truncate_dim is 1.5; expected a whole number from 1"),
        ({"device": "no"}, "no"),
    ],
)
def test_arguments_of_another_result_are_refused(
    options: dict[str, Any], message: str, ours: Embedder
) -> None:
    with pytest.raises(InputError, match=message):
        ours.encode(TEXTS, **options)


def test_an_unknown_argument_is_a_type_error(ours: Embedder) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'batchsize'"):
        ours.encode(TEXTS, batchsize=3)


def test_device_and_to(ours: Embedder, other_device: str) -> None:
    assert ours.device == torch.device("cpu")
    assert ours.to("cpu") is ours
    with pytest.raises(InputError):
        ours.to("no")
    other = Embedder(ours.name, device="cpu", precision="float32")
    assert other.to(other_device) is other
    assert other.device == torch.device(other_device)
    assert np.array_equal(other.to("cpu").encode(TEXTS), ours.encode(TEXTS))


def test_save_is_save_pretrained(ours: Embedder, tmp_path: Path) -> None:
    ours.save(tmp_path / "saved")
    close(
        SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS), ours.encode(TEXTS)
    )


def test_push_to_hub_uploads_the_saved_folder(
    ours: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's client is replaced; what it is given is a folder that loads."""
    calls: list[tuple[str, Any]] = []

    class Api:
        def __init__(self, token: str | None) -> None:
            calls.append(("token", token))

        def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
            calls.append(("create", (repo_id, private, exist_ok)))

        def upload_folder(self, *, repo_id: str, folder_path: str, **options: Any) -> Any:
            model = SentenceTransformer(folder_path, device="cpu")
            close(model.encode(TEXTS), ours.encode(TEXTS))
            calls.append(("upload", (repo_id, options)))
            return SimpleNamespace(commit_url="https://hub/commit/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    url = ours.push_to_hub("me/model", token="t", private=True, commit_message="First")  # noqa: S106
    assert url == "https://hub/commit/1"
    assert calls == [
        ("token", "t"),
        ("create", ("me/model", True, False)),
        ("upload", ("me/model", {"commit_message": "First", "revision": None})),
    ]


def test_repr(ours: Embedder) -> None:
    assert repr(ours) == (
        f"Embedder({ours.name!r}, recipe='mean', dimension=32, max_length=512, "
        "precision='float32', device='cpu')"
    )
