"""MTEB runs an embedder, offline on local tasks, with the scores of `embedkit evaluate`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import beir, tiny
from helpers.command import Run

from embedkit import Embedder, InputError, read_pairs, read_retrieval
from embedkit.integrations.mteb import MTEBEncoder

PROMPTS = {"query": "query: ", "passage": "passage: ", "sts": "sts: "}
INSTALLED = importlib.util.find_spec("mteb") is not None
needs_mteb = pytest.mark.skipif(not INSTALLED, reason="not installed: mteb")

WORDS = ("cat", "dog", "bird", "city", "rain", "sun", "music", "book", "park", "train", "news")
DOCUMENTS = [
    {
        "_id": f"d{n}",
        "title": WORDS[n % 11] if n % 3 else "",
        "text": " ".join(WORDS[(n * k + k * k) % 11] for k in range(1, 3 + n % 5)) + f" {n}",
    }
    for n in range(40)
]
QUERIES = [{"_id": f"q{n}", "text": f"the {word} {WORDS[n - 3]}"} for n, word in enumerate(WORDS)]
QRELS = "".join(f"q{n}\td{(7 * n) % 40}\t1\nq{n}\td{3 * n}\t2\n" for n in range(1, 10))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With prompts of its own, and a default one."""
    folder = tmp_path_factory.mktemp("model")
    bert = tiny.make_bert(folder / "bert", layers=2, seed=4)
    Embedder(bert, "mean/normalize", prompts=PROMPTS).save_pretrained(folder / "tiny")
    return folder / "tiny"


@needs_mteb
def test_prompts_go_by_the_type(model: Path) -> None:
    embedder = Embedder(model, precision="float32")
    encoder = MTEBEncoder(embedder)
    batches = [{"text": ["rain", "a cat"]}, {"text": ["sun"]}]
    texts = ["rain", "a cat", "sun"]
    for prompt_type, prompt in ((None, ""), ("query", "query: "), ("document", "passage: ")):
        vectors = encoder.encode(
            batches, task_metadata=None, hf_split="test", prompt_type=prompt_type, batch_size=2
        )
        assert vectors.dtype == np.float32
        expected = embedder.encode([prompt + text for text in texts])
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
    for batch in ({"image": ["x"]}, "rain"):
        with pytest.raises(InputError, match=r"inputs has .*; expected batches with text"):
            encoder.encode([batch])  # type: ignore[list-item]
    with pytest.raises(InputError, match="text is one str; expected a list of str"):
        encoder.encode([{"text": "rain"}])
    with pytest.raises(InputError, match="prompt_type is 'passage'; expected query, document or"):
        encoder.encode(batches, prompt_type="passage")


@needs_mteb
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_similarities_are_the_embedders(model: Path, similarity: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 8)).astype(np.float32)
    embedder = Embedder(model)
    embedder.settings = embedder.settings.__class__(
        **{**vars(embedder.settings), "similarity": similarity}
    )
    encoder = MTEBEncoder(embedder)
    x, y = a, b
    if similarity == "cosine":
        x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    np.testing.assert_allclose(encoder.similarity(a, b), x @ y.T, atol=1e-5)
    np.testing.assert_allclose(encoder.similarity_pairwise(a, b), (x * y).sum(1), atol=1e-5)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(InputError) as error:
        MTEBEncoder("minilm")
    assert str(error.value) == (
        "MTEBEncoder needs mteb, which is not installed; run pip install 'embedkit[mteb]'"
    )


# Tasks


def metadata(name: str, kind: str, score: str) -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name=name,
        description="local",
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=score,
        dataset={"path": "NA", "revision": "NA"},
        reference=None,
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )


def scores(encoder: MTEBEncoder, task: Any) -> dict[str, float]:
    """MTEB's, of the only split and subset."""
    import mteb

    result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False)
    (of_task,) = result.task_results
    (of_split,) = of_task.scores["test"]
    return dict(of_split)


@needs_mteb
@pytest.mark.slow
@pytest.mark.parametrize("name", ["minilm", "tiny"])
def test_sts_scores_are_those_of_evaluate(run: Run, model: Path, name: str) -> None:
    from datasets import Dataset
    from mteb.abstasks import AbsTaskSTS

    pairs = read_pairs("first_look_en")
    columns = {"sentence1": pairs.sentence1, "sentence2": pairs.sentence2, "score": pairs.scores}

    class Local(AbsTaskSTS):  # type: ignore[misc]
        metadata = metadata("LocalSTS", "STS", "cosine_spearman")

        def load_data(self, **_: Any) -> None:
            rows = {key: list(values) for key, values in columns.items()}
            self.dataset = {"test": Dataset.from_dict(rows)}
            self.data_loaded = True

    path = str(model) if name == "tiny" else name
    theirs = scores(MTEBEncoder(path), Local())
    ours = run("evaluate", "first_look_en", "-m", path, "--precision", "float32", "--json").json
    for row in ours["results"]:
        for own in (f"cosine_{row['metric']}", row["metric"]):
            assert theirs[own] == pytest.approx(row["value"], abs=1e-6)
    assert theirs["main_score"] == theirs["cosine_spearman"]


@needs_mteb
@pytest.mark.slow
@pytest.mark.parametrize("name", ["minilm", "tiny"])
def test_retrieval_scores_are_those_of_evaluate(
    run: Run, model: Path, name: str, tmp_path: Path
) -> None:
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval

    folder = beir.write(tmp_path / "words", DOCUMENTS, QUERIES, QRELS)
    qrels = {query: dict(judged) for query, judged in read_retrieval(folder).judgements.items()}

    class Local(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = metadata("LocalRetrieval", "Retrieval", "ndcg_at_10")

        def load_data(self, **_: Any) -> None:
            corpus = [{"id": row["_id"], **row} for row in DOCUMENTS]
            queries = [{"id": row["_id"], **row} for row in QUERIES if row["_id"] in qrels]
            self.dataset = {
                "default": {
                    "test": {
                        "corpus": Dataset.from_list(corpus).remove_columns("_id"),
                        "queries": Dataset.from_list(queries).remove_columns("_id"),
                        "relevant_docs": qrels,
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

        def task_specific_scores(self, scores: Any, *_: Any, **__: Any) -> dict[str, float]:
            """The means before MTEB rounds them to five digits."""
            names = ("ndcg_cut_10", "recall_100", "map_cut_1000")
            return {name: float(np.mean([of[name] for of in scores.values()])) for name in names}

    path = str(model) if name == "tiny" else name
    theirs = scores(MTEBEncoder(path), Local())
    ours = run("evaluate", folder, "-m", path, "--precision", "float32", "--json").json
    values = {row["metric"]: row["value"] for row in ours["results"]}
    named = {
        "ndcg_cut_10": "ndcg@10",
        "recall_100": "recall@100",
        "mrr_at_10": "mrr@10",
        "map_cut_1000": "map",
    }
    assert {ours: theirs[name] for name, ours in named.items()} == pytest.approx(values, abs=1e-6)
    assert 0.05 < values["ndcg@10"] < 0.95
    assert theirs["main_score"] == theirs["ndcg_at_10"] == round(values["ndcg@10"], 5)


@needs_mteb
@pytest.mark.slow
def test_the_revision_tells_models_apart(model: Path) -> None:
    """MTEB files results under name and revision."""
    from mteb.models import EncoderProtocol

    embedders = [
        Embedder(model),
        Embedder(model, "cls"),
        Embedder(model, max_length=8),
        Embedder(model, prompts={"query": "other: "}),
    ]
    metas = [MTEBEncoder(embedder).mteb_model_meta for embedder in embedders]
    assert len({meta.revision for meta in metas}) == 4
    assert MTEBEncoder(model).mteb_model_meta.revision == metas[0].revision
    meta = metas[0]
    assert (meta.name, meta.embed_dim) == ("embedkit/tiny", embedders[0].dimension)
    assert meta.max_tokens == embedders[0].tokenizer.max_length
    assert (str(meta.similarity_fn_name), meta.use_instructions) == ("cosine", True)
    assert isinstance(MTEBEncoder(model), EncoderProtocol)
