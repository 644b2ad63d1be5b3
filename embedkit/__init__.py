"""Choose a pooling for sentence embeddings, test whether it matters, and save the model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from embedkit.errors import InputError
from embedkit.version import __version__

if TYPE_CHECKING:
    from embedkit.data.corpus import Corpus
    from embedkit.data.entities import Span, TaggedText, TaggedTexts
    from embedkit.data.entity_files import read_entities, write_entities
    from embedkit.data.pairs import PairColumns, Pairs, read_pairs
    from embedkit.data.positives import PositiveColumns, Positives, read_positives
    from embedkit.data.retrieval_set import RetrievalSet, read_retrieval
    from embedkit.embedder.embedder import Embedder
    from embedkit.evaluation.compare import compare
    from embedkit.evaluation.evaluate import evaluate
    from embedkit.evaluation.report.report import Report
    from embedkit.masked_lm import MaskedLM
    from embedkit.pooling import POOLINGS
    from embedkit.recipes.pooling_module import Pooling
    from embedkit.recipes.recipe import Recipe, RecipeError
    from embedkit.retrieval.embeddings import Vectors
    from embedkit.retrieval.encode_corpus import encode_corpus
    from embedkit.retrieval.index import VectorIndex
    from embedkit.scoring.cross_encoder import CrossEncoder
    from embedkit.scoring.loading import load_model
    from embedkit.scoring.pair_regressor import PairRegressor
    from embedkit.scoring.regressor_folder import load_head, save_head
    from embedkit.tagging.entity_scores import evaluate_tagger
    from embedkit.tagging.tagger import Tagger
    from embedkit.training.arguments import TrainingSettings
    from embedkit.training.bi_encoder import train_bi_encoder
    from embedkit.training.cross_encoder import train_cross_encoder
    from embedkit.training.masked_lm import train_masked_lm
    from embedkit.training.token_classifier import train_token_classifier

# Public names and where they live: loaded at first use, because torch takes a second.
_PUBLIC = {
    "Embedder": "embedkit.embedder.embedder",
    "Corpus": "embedkit.data.corpus",
    "encode_corpus": "embedkit.retrieval.encode_corpus",
    "Vectors": "embedkit.retrieval.embeddings",
    "VectorIndex": "embedkit.retrieval.index",
    "compare": "embedkit.evaluation.compare",
    "evaluate": "embedkit.evaluation.evaluate",
    "PairColumns": "embedkit.data.pairs",
    "Pairs": "embedkit.data.pairs",
    "read_pairs": "embedkit.data.pairs",
    "Report": "embedkit.evaluation.report.report",
    "RetrievalSet": "embedkit.data.retrieval_set",
    "read_retrieval": "embedkit.data.retrieval_set",
    "PairRegressor": "embedkit.scoring.pair_regressor",
    "load_head": "embedkit.scoring.regressor_folder",
    "save_head": "embedkit.scoring.regressor_folder",
    "CrossEncoder": "embedkit.scoring.cross_encoder",
    "load_model": "embedkit.scoring.loading",
    "TrainingSettings": "embedkit.training.arguments",
    "train_cross_encoder": "embedkit.training.cross_encoder",
    "train_bi_encoder": "embedkit.training.bi_encoder",
    "train_masked_lm": "embedkit.training.masked_lm",
    "train_token_classifier": "embedkit.training.token_classifier",
    "Span": "embedkit.data.entities",
    "TaggedText": "embedkit.data.entities",
    "TaggedTexts": "embedkit.data.entities",
    "read_entities": "embedkit.data.entity_files",
    "write_entities": "embedkit.data.entity_files",
    "Tagger": "embedkit.tagging.tagger",
    "evaluate_tagger": "embedkit.tagging.entity_scores",
    "MaskedLM": "embedkit.masked_lm",
    "PositiveColumns": "embedkit.data.positives",
    "Positives": "embedkit.data.positives",
    "read_positives": "embedkit.data.positives",
    "POOLINGS": "embedkit.pooling",
    "Pooling": "embedkit.recipes.pooling_module",
    "Recipe": "embedkit.recipes.recipe",
    "RecipeError": "embedkit.recipes.recipe",
}

__all__ = [
    "POOLINGS",
    "Corpus",
    "CrossEncoder",
    "Embedder",
    "InputError",
    "MaskedLM",
    "PairColumns",
    "PairRegressor",
    "Pairs",
    "Pooling",
    "PositiveColumns",
    "Positives",
    "Recipe",
    "RecipeError",
    "Report",
    "RetrievalSet",
    "Span",
    "TaggedText",
    "TaggedTexts",
    "Tagger",
    "TrainingSettings",
    "VectorIndex",
    "Vectors",
    "__version__",
    "compare",
    "encode_corpus",
    "evaluate",
    "evaluate_tagger",
    "load_head",
    "load_model",
    "read_entities",
    "read_pairs",
    "read_positives",
    "read_retrieval",
    "save_head",
    "train_bi_encoder",
    "train_cross_encoder",
    "train_masked_lm",
    "train_token_classifier",
    "write_entities",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'embedkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
