"""Which pooling to use, whether it matters, and the model that comes of it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from embedkit.errors import InputError
from embedkit.version import __version__

if TYPE_CHECKING:
    from embedkit.corpus.encode import encode_corpus
    from embedkit.corpus.source import Corpus
    from embedkit.corpus.vectors import Vectors
    from embedkit.cross_encoder.model import CrossEncoder
    from embedkit.embedder import Embedder
    from embedkit.evaluation.compare import compare, evaluate
    from embedkit.evaluation.data import PairColumns, Pairs, read_pairs
    from embedkit.evaluation.report import Report
    from embedkit.evaluation.retrieval_data import RetrievalSet, read_retrieval
    from embedkit.heads.folder import load_head, save_head
    from embedkit.heads.regressor import PairRegressor
    from embedkit.index.vector_index import VectorIndex
    from embedkit.pooling import POOLINGS
    from embedkit.recipe import Recipe, RecipeError
    from embedkit.training.bi_encoder import train_bi_encoder
    from embedkit.training.cross_encoder import train_cross_encoder
    from embedkit.training.masked_lm import train_masked_lm
    from embedkit.training.positives import PositiveColumns, Positives, read_positives
    from embedkit.training.settings import TrainingSettings

# Public names and where they live: loaded at first use, because torch takes a second.
_PUBLIC = {
    "Embedder": "embedkit.embedder",
    "Corpus": "embedkit.corpus.source",
    "encode_corpus": "embedkit.corpus.encode",
    "Vectors": "embedkit.corpus.vectors",
    "VectorIndex": "embedkit.index.vector_index",
    "compare": "embedkit.evaluation.compare",
    "evaluate": "embedkit.evaluation.compare",
    "PairColumns": "embedkit.evaluation.data",
    "Pairs": "embedkit.evaluation.data",
    "read_pairs": "embedkit.evaluation.data",
    "Report": "embedkit.evaluation.report",
    "RetrievalSet": "embedkit.evaluation.retrieval_data",
    "read_retrieval": "embedkit.evaluation.retrieval_data",
    "PairRegressor": "embedkit.heads.regressor",
    "load_head": "embedkit.heads.folder",
    "save_head": "embedkit.heads.folder",
    "CrossEncoder": "embedkit.cross_encoder.model",
    "TrainingSettings": "embedkit.training.settings",
    "train_cross_encoder": "embedkit.training.cross_encoder",
    "train_bi_encoder": "embedkit.training.bi_encoder",
    "train_masked_lm": "embedkit.training.masked_lm",
    "PositiveColumns": "embedkit.training.positives",
    "Positives": "embedkit.training.positives",
    "read_positives": "embedkit.training.positives",
    "POOLINGS": "embedkit.pooling",
    "Recipe": "embedkit.recipe",
    "RecipeError": "embedkit.recipe",
}

__all__ = [
    "POOLINGS",
    "Corpus",
    "CrossEncoder",
    "Embedder",
    "InputError",
    "PairColumns",
    "PairRegressor",
    "Pairs",
    "PositiveColumns",
    "Positives",
    "Recipe",
    "RecipeError",
    "Report",
    "RetrievalSet",
    "TrainingSettings",
    "VectorIndex",
    "Vectors",
    "__version__",
    "compare",
    "encode_corpus",
    "evaluate",
    "load_head",
    "read_pairs",
    "read_positives",
    "read_retrieval",
    "save_head",
    "train_bi_encoder",
    "train_cross_encoder",
    "train_masked_lm",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'embedkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
