"""Choose a pooling for sentence embeddings, test whether it matters, and save the model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# The public names, by module. They are loaded at first use, because torch takes a second.
_PUBLIC = {
    "embedkit.errors": "InputError",
    "embedkit.version": "__version__",
    "embedkit.data.corpus": "Corpus",
    "embedkit.data.entities": "Span TaggedText TaggedTexts",
    "embedkit.data.entity_files": "read_entities write_entities",
    "embedkit.data.pairs": "PairColumns Pairs read_pairs",
    "embedkit.data.positives": "PositiveColumns Positives read_positives",
    "embedkit.data.retrieval_set": "RetrievalSet read_retrieval",
    "embedkit.embedder.embedder": "Embedder",
    "embedkit.evaluation.compare": "compare",
    "embedkit.evaluation.evaluate": "evaluate",
    "embedkit.evaluation.quantize": "quantize",
    "embedkit.evaluation.report.report": "Report",
    "embedkit.masked_lm": "MaskedLM",
    "embedkit.pooling": "POOLINGS",
    "embedkit.recipes.pooling_module": "Pooling",
    "embedkit.recipes.recipe": "Recipe RecipeError",
    "embedkit.retrieval.duplicates": "find_duplicates mine_paraphrases",
    "embedkit.vectors.embeddings": "Vectors",
    "embedkit.vectors.encode_corpus": "encode_corpus",
    "embedkit.vectors.merge": "merge_vectors",
    "embedkit.retrieval.index": "VectorIndex",
    "embedkit.retrieval.sync": "build_index sync_index",
    "embedkit.scoring.cross_encoder": "CrossEncoder",
    "embedkit.scoring.loading": "load_model",
    "embedkit.scoring.pair_regressor": "PairRegressor",
    "embedkit.scoring.regressor_folder": "load_head save_head",
    "embedkit.tagging.entity_scores": "evaluate_tagger",
    "embedkit.tagging.tagger": "Tagger",
    "embedkit.training.arguments": "TrainingSettings",
    "embedkit.training.bi_encoder": "train_bi_encoder",
    "embedkit.training.cross_encoder": "train_cross_encoder",
    "embedkit.training.masked_lm": "train_masked_lm",
    "embedkit.training.token_classifier": "train_token_classifier",
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names.split()}

if TYPE_CHECKING:  # what type checkers and editors know of them
    from embedkit.data.corpus import Corpus as Corpus
    from embedkit.data.entities import Span as Span
    from embedkit.data.entities import TaggedText as TaggedText
    from embedkit.data.entities import TaggedTexts as TaggedTexts
    from embedkit.data.entity_files import read_entities as read_entities
    from embedkit.data.entity_files import write_entities as write_entities
    from embedkit.data.pairs import PairColumns as PairColumns
    from embedkit.data.pairs import Pairs as Pairs
    from embedkit.data.pairs import read_pairs as read_pairs
    from embedkit.data.positives import PositiveColumns as PositiveColumns
    from embedkit.data.positives import Positives as Positives
    from embedkit.data.positives import read_positives as read_positives
    from embedkit.data.retrieval_set import RetrievalSet as RetrievalSet
    from embedkit.data.retrieval_set import read_retrieval as read_retrieval
    from embedkit.embedder.embedder import Embedder as Embedder
    from embedkit.errors import InputError as InputError
    from embedkit.evaluation.compare import compare as compare
    from embedkit.evaluation.evaluate import evaluate as evaluate
    from embedkit.evaluation.quantize import quantize as quantize
    from embedkit.evaluation.report.report import Report as Report
    from embedkit.masked_lm import MaskedLM as MaskedLM
    from embedkit.pooling import POOLINGS as POOLINGS
    from embedkit.recipes.pooling_module import Pooling as Pooling
    from embedkit.recipes.recipe import Recipe as Recipe
    from embedkit.recipes.recipe import RecipeError as RecipeError
    from embedkit.retrieval.duplicates import find_duplicates as find_duplicates
    from embedkit.retrieval.duplicates import mine_paraphrases as mine_paraphrases
    from embedkit.retrieval.index import VectorIndex as VectorIndex
    from embedkit.retrieval.sync import build_index as build_index
    from embedkit.retrieval.sync import sync_index as sync_index
    from embedkit.scoring.cross_encoder import CrossEncoder as CrossEncoder
    from embedkit.scoring.loading import load_model as load_model
    from embedkit.scoring.pair_regressor import PairRegressor as PairRegressor
    from embedkit.scoring.regressor_folder import load_head as load_head
    from embedkit.scoring.regressor_folder import save_head as save_head
    from embedkit.tagging.entity_scores import evaluate_tagger as evaluate_tagger
    from embedkit.tagging.tagger import Tagger as Tagger
    from embedkit.training.arguments import TrainingSettings as TrainingSettings
    from embedkit.training.bi_encoder import train_bi_encoder as train_bi_encoder
    from embedkit.training.cross_encoder import train_cross_encoder as train_cross_encoder
    from embedkit.training.masked_lm import train_masked_lm as train_masked_lm
    from embedkit.training.token_classifier import train_token_classifier as train_token_classifier
    from embedkit.vectors.embeddings import Vectors as Vectors
    from embedkit.vectors.encode_corpus import encode_corpus as encode_corpus
    from embedkit.vectors.merge import merge_vectors as merge_vectors
    from embedkit.version import __version__ as __version__
else:
    __all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'embedkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(_MODULES)
