"""Compare recipes of one model on sentence pairs and retrieval sets, from a single pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedkit.data.datasets import Data
from embedkit.evaluation.bootstrap import SEED
from embedkit.evaluation.candidates import Candidates, parse_recipe, parse_recipes
from embedkit.evaluation.evaluate import Model, load_embedder
from embedkit.evaluation.exact_search import EXACT, check_index
from embedkit.evaluation.fitting import FitTexts, fit_recipes
from embedkit.evaluation.heads import HeadTraining
from embedkit.evaluation.model_predictions import predict_by_embeddings, similarity_scorers
from embedkit.evaluation.options import EvaluationSets, Options
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.run import report_of
from embedkit.evaluation.set_embeddings import SetEmbeddings
from embedkit.recipes.recipe import Recipe

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


def compare(
    model: Model,
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
    seed: int = SEED,
    show_progress: bool | None = None,
) -> Report:
    """Score many recipes of one model on sentence pairs and retrieval sets, in one pass.

    Args:
        model: an `Embedder`, anything that `Embedder.from_pretrained` takes, or a function that
            returns an embedder, which is called once all other arguments are checked.
        data: one or several of: files of sentence pairs, folders of retrieval sets (see
            `read_pairs` and `read_retrieval`), `Pairs`, `RetrievalSet`.
        recipes: None for the poolings of sentence-transformers on the last layer, `pooler`,
            `mean@first-last` and the model's own recipe.
        select: data sets to select the best recipe and similarity on, as for `data`; None selects
            them on `data`, and the report says that their score is biased upwards.
        baseline: the recipe that differences are to; None for the model's own, else `mean`, else
            the first one, of those that are compared.
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
        prompt: put in front of each text.
        prompt_name: one of the model's prompts instead.
        query_prompt: for the queries of retrieval sets; without it and the two above, the model's
            prompt called `query`, else its default one.
        document_prompt: likewise for documents; the model's may be called `document`, `passage` or
            `corpus`.
        index: how retrieval sets are searched: `flat`, which is exact, `hnsw`, or a factory string
            of FAISS, to measure what approximation costs.
        seed: of the bootstrap.
        show_progress: a bar on stderr; None shows it if stderr is a terminal.

    Raises:
        InputError: wrong input, before the encoder runs.

    Example:
        >>> report = compare("minilm", "first_look", ["mean", "cls"], show_progress=False)
        >>> report.baseline, [row.recipe for row in report.deciding("spearman")]
        ('mean', ['mean', 'cls'])
    """
    sets = EvaluationSets.read(data, select, train)
    options = Options(
        similarities,
        aggregation,
        threshold,
        prompt,
        prompt_name,
        query_prompt,
        document_prompt,
        index,
        seed,
    )
    options.check_data(sets.all)
    training = HeadTraining.of(head, sets.training, options.head_metrics)
    if training is None:
        options.check_no_threshold()
    named = parse_recipes(recipes, layers)
    against = None if baseline is None else parse_recipe(baseline)

    embedder = load_embedder(model)
    candidates = Candidates.of(embedder, named, layers, against)
    prompts = options.prompts_of(embedder)
    dims = [bound.dim(embedder.encoder.dim) for bound in candidates.bounds]
    check_index(options.index, options.similarities, dims)
    bounds = fit_recipes(
        embedder, candidates.bounds, fit, sets.scored, prompts, show_progress=show_progress
    )
    embeddings = SetEmbeddings.of(embedder, sets.all, bounds, prompts, show_progress=show_progress)
    scorers = [similarity_scorers(options.similarities) for _ in bounds]
    if training is not None:
        scorers = [
            [*of_recipe, *training.fit(embeddings.training_pairs(position, sets))]
            for position, of_recipe in enumerate(scorers)
        ]
    predictions = predict_by_embeddings(
        embeddings,
        bounds,
        scorers,
        sets,
        options,
        similarities=tuple(options.similarities),
        decided_by=options.similarities[0] if training is None else "head",
    )
    return report_of(
        predictions,
        sets,
        options,
        baseline=candidates.baseline,
        convention=baseline is None,
        missing=candidates.missing,
        fitted=[
            bound
            for bound, before in zip(bounds, candidates.bounds, strict=True)
            if before.unfitted
        ],
        head=head,
        label_range=None if training is None else training.label_range,
    )
