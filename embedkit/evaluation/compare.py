"""Compare recipes of a model, or of several, on sentence pairs and retrieval sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.data.datasets import Data
from embedkit.embedder.embedder import Embedder
from embedkit.evaluation.bootstrap import SEED
from embedkit.evaluation.candidates import Candidates, parse_recipes
from embedkit.evaluation.exact_search import EXACT
from embedkit.evaluation.fitting import FitTexts
from embedkit.evaluation.heads import HeadTraining
from embedkit.evaluation.models import Models, ModelSettings, read_models
from embedkit.evaluation.options import EvaluationSets, Options
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.run_models import Work
from embedkit.recipes.recipe import Recipe
from embedkit.retrieval.fusion import DENSE
from embedkit.retrieval.words import UNICODE
from embedkit.scoring.loading import LoadedModel

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


def compare(
    model: Models,
    data: Data,
    recipes: Sequence[str | Recipe] | None = None,
    *,
    select: Data | None = None,
    baseline: str | Recipe | None = None,
    layers: str | Sequence[int] | None = None,
    fit: FitTexts | None = None,
    similarities: Sequence[str] = ("cosine",),
    aggregation: str = "all",
    head: str | BaseEstimator | None = None,
    train: Data | None = None,
    threshold: float | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    index: str = EXACT,
    modes: Sequence[str] = (DENSE,),
    words: str = UNICODE,
    weights: Sequence[float] | None = None,
    rerank: str | Path | LoadedModel | None = None,
    rerank_depth: int = 100,
    seed: int = SEED,
    suites: Mapping[str, Sequence[str]] | None = None,
    cache: bool | str | Path | None = None,
    show_progress: bool | None = None,
) -> Report:
    """Score many recipes of a model on sentence pairs and retrieval sets, in one pass.

    Args:
        model: an `Embedder`, anything that `Embedder.from_pretrained` takes, or a function that
            returns an embedder, which is called once all other arguments are checked; or a list of
            models, which are crossed with the recipes; see `evaluate`.
        data: one or several of: files of sentence pairs, folders of retrieval sets (see
            `read_pairs` and `read_retrieval`), `Pairs`, `RetrievalSet`.
        recipes: None for the poolings of sentence-transformers on the last layer, `pooler`,
            `mean@first-last` and the model's own recipe.
        select: data sets to select the best recipe and similarity on, as for `data`; None selects
            them on `data`, and the report says that their score is biased upwards.
        baseline: the recipe to compare the others with; None for the model's own, else `mean`, else
            the first one, of those that are compared. Of several models, the name of one, a recipe
            of the first one, or both as in "minilm mean".
        layers: with `recipes` None, cross the poolings with these hidden states; "all" for all.
        fit: the texts that steps or poolings are fitted on: texts, a `Corpus`, or "data" for the
            texts of `data` themselves, which the report then says. One pass over them serves all
            recipes, see `Embedder.fit`. They get the prompt of sentences, or that of documents if
            there are only retrieval sets.
        similarities: names from the table of similarities; without `select` the first one decides
            which recipe is best.
        aggregation: the aggregation that decides which recipe is best, if the pairs have subsets.
        head: fit a head for each recipe on `train` (see `PairRegressor`); the heads then decide
            which recipe is best, beside the first similarity and a line on it.
        train: files of sentence pairs or `Pairs` to fit the heads on, from the same pass.
        threshold: adds the F1 score of "at least this" to the metrics of heads.
        prompt: text to put in front of each text.
        prompt_name: one of the model's prompts instead.
        query_prompt: the prompt for the queries of retrieval sets; without it and the two above,
            the model's prompt called `query`, else its default one.
        document_prompt: likewise for documents; the model's may be called `document`, `passage` or
            `corpus`.
        index: how retrieval sets are searched: `flat`, which is exact, `hnsw`, or a factory string
            of FAISS, to measure what approximation costs.
        modes: how retrieval sets are searched, each a candidate: `dense` by embeddings, `bm25`
            by words, which needs no model, and `hybrid` by both.
        words: how BM25 splits texts, see `embedkit.retrieval.words`.
        weights: of dense and BM25 scores in hybrid; None fuses by reciprocal rank.
        rerank: a cross-encoder, or another model or its name; each candidate is compared with and
            without it, which orders the first `rerank_depth` documents of a query anew.
        seed: the random seed of the bootstrap.
        suites: names of scored data sets to average over; None for the suites that `data` names,
            or else all data sets.
        cache: keep embeddings on disk and reuse those that are there: True, or a folder.
            None does so for several models only. See `embedkit.embedder.cache`.
        show_progress: a bar on stderr; None shows it if stderr is a terminal.

    Raises:
        InputError: wrong input, before the encoder runs.

    Example:
        >>> report = compare("minilm", "first_look", ["mean", "cls"], show_progress=False)
        >>> report.baseline, [row.recipe for row in report.deciding("spearman")]
        ('mean', ['mean', 'cls'])
    """
    sets, options = EvaluationSets.read(data, select, train, suites), Options.of(locals())
    training = HeadTraining.of(head, sets.training, options.head_metrics)
    named = parse_recipes(recipes, layers)

    def choose(embedder: Embedder, settings: ModelSettings, against: Recipe | None) -> Candidates:
        if settings.recipe is not None:
            return Candidates.of(embedder, [embedder.recipe], None, against)
        return Candidates.of(embedder, named, layers, against)

    models = read_models(model, embedders=True, crossed=True)
    if len(models) > 1 and isinstance(fit, Iterator):
        fit = list(fit)
    work = Work(sets, options, choose, fit=fit, training=training, show_progress=show_progress)
    return work.report(models, baseline, cache)
