"""Which recipe: every one from a single pass over the distinct sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from embedkit.embedder import Embedder
from embedkit.errors import InputError
from embedkit.evaluation.bootstrap import Resamples
from embedkit.evaluation.data import Pairs
from embedkit.evaluation.fitted import FitTexts, fit_for
from embedkit.evaluation.heads import (
    Training,
    check_heads,
    check_threshold,
    find_head,
    head_metrics,
)
from embedkit.evaluation.prompts import role_prompts
from embedkit.evaluation.report import Report
from embedkit.evaluation.retrieval import Judged
from embedkit.evaluation.retrieval_data import RetrievalSet
from embedkit.evaluation.search import EXACT, check_index
from embedkit.evaluation.set_vectors import SetVectors
from embedkit.evaluation.sets import Data, DataSet, only_pairs, read_sets
from embedkit.evaluation.statistics import AGGREGATIONS
from embedkit.evaluation.sts import Result, absent, score_predictions, score_vectors
from embedkit.pooling import POOLINGS
from embedkit.recipe import FIRST_LAST, Recipe
from embedkit.similarity import find_similarity
from embedkit.steps import Bound

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sklearn.base import BaseEstimator
    from transformers import PreTrainedModel

    from embedkit.heads.regressor import PairRegressor

Model: TypeAlias = "Embedder | str | Path | PreTrainedModel | SentenceTransformer"
# What is known of a set before the vectors are.
_Prepared: TypeAlias = "Judged | tuple[Pairs, Resamples]"


def compare(
    model: Model,
    data: Data,
    recipes: Sequence[str | Recipe] | None = None,
    *,
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
    show_progress: bool | None = None,
) -> Report:
    """Score many recipes of one model on sentence pairs and retrieval sets, in one pass.

    Args:
        model: an `Embedder`, or anything that `Embedder.from_pretrained` takes.
        data: one or several of: files of sentence pairs, folders of retrieval sets (see
            `read_pairs` and `read_retrieval`), `Pairs`, `RetrievalSet`.
        recipes: which; None for the poolings of sentence-transformers on the last layer, `pooler`,
            `mean@first-last` and the model's own recipe.
        layers: with `recipes` None, cross the poolings with these hidden states; "all" for all.
        fit: what recipes with fitted steps or poolings learn from: texts, a `Corpus`, or "data" for
            the texts of `data` themselves, which the report then says. One pass over them serves
            all recipes, see `Embedder.fit`. The prompt in front of texts is that of sentences, or
            of documents where there are retrieval sets only.
        similarities: names from the table of similarities; the first one decides what is best.
        aggregation: which aggregation decides what is best, where the pairs have subsets.
        head: fit each recipe a head of its own on `train` (see `PairRegressor`), which then decides
            what is best; the first similarity and a line on it are shown beside.
        train: files or `Pairs` for the heads, from the same pass.
        threshold: adds the F1 score of "at least this" to what heads are measured by.
        prompt: put in front of each text.
        prompt_name: one of the model's prompts instead.
        query_prompt: for the queries of retrieval sets; without it and the two above, the model's
            prompt called `query`, if it has one.
        document_prompt: likewise for documents; the model's may be called `document`, `passage` or
            `corpus`.
        index: how retrieval sets are searched: `flat`, which is exact, `hnsw`, or a factory string
            of FAISS, to see what approximation costs.
        show_progress: a bar on stderr; None shows it where stderr is a terminal.

    Raises:
        InputError: wrong input, before the encoder runs.
    """
    sets = read_sets(data)
    check_retrieval(sets, query_prompt, document_prompt, index)
    check_heads(head, train, threshold)
    training = None
    if head is not None and train is not None:
        only_pairs(sets)
        training = Training.of(only_pairs(read_sets(train)), head)
    if isinstance(recipes, str):
        raise InputError(f"recipes is the str {recipes!r}; expected a list, such as [{recipes!r}]")
    parsed = None if recipes is None else [_parse(recipe) for recipe in recipes]
    check_options(similarities, aggregation)
    if parsed is not None and layers is not None:
        raise InputError("got recipes and layers; expected one of them: a recipe names its layers")
    if parsed is not None and not parsed:
        raise InputError("recipes is empty; expected at least one")
    embedder = _embedder(model)
    missing: list[Recipe] = []
    if parsed is not None:
        bounds = [embedder.bind(recipe) for recipe in parsed]
    else:
        bounds, missing = _default_recipes(embedder, layers)
    bounds = list({bound.recipe: bound for bound in bounds}.values())
    similarities = list(dict.fromkeys(similarities))
    prompts = role_prompts(
        embedder, prompt, prompt_name, query=query_prompt, document=document_prompt
    )
    check_index(index, similarities, [bound.width(embedder.encoder.width) for bound in bounds])
    waiting = [bound.recipe for bound in bounds if bound.unfitted]
    bounds = fit_for(embedder, bounds, fit, sets, prompts, show_progress=show_progress)
    found = SetVectors.of(
        embedder,
        [*sets, *(training.sets if training else [])],
        bounds,
        prompts,
        show_progress=show_progress,
    )
    prepared = [_prepare(data) for data in sets]
    results: list[Result] = []
    for recipe, bound in enumerate(bounds):
        name = str(bound.recipe)
        fitted = None
        if training is not None:
            numbers = range(len(sets), len(found.places))
            fitted = training.fit([found.pairs(recipe, number) for number in numbers])
        for number, known in enumerate(prepared):
            results += _score(name, known, found, recipe, number, similarities, index)
            if fitted is not None and not isinstance(known, Judged):
                pairs, resamples = known
                vectors = found.pairs(recipe, number)
                results += fitted.score(name, pairs, vectors, resamples, threshold)
    reason = "the checkpoint has no pooler weights"
    for known in prepared:
        for lacking in map(str, missing):
            if isinstance(known, Judged):
                results += known.absent(lacking, similarities, reason)
            else:
                results += absent(lacking, known[0], similarities, reason)
    return found.report(
        results,
        [*(bound.recipe for bound in bounds), *missing],
        fitted=[bound for bound in bounds if bound.recipe in waiting],
        decided_by=similarities[0] if training is None else "head",
        aggregation=aggregation,
        index=index,
    )


def evaluate(
    model: Model | PairRegressor,
    data: Data,
    *,
    similarities: Sequence[str] | None = None,
    aggregation: str = "all",
    threshold: float | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    index: str = EXACT,
    show_progress: bool | None = None,
) -> Report:
    """Score a model's own recipe on sentence pairs and retrieval sets, or a head on pairs.

    See `compare`. A head (a `PairRegressor`, or the folder of one) is scored by its predictions,
    with MSE beside the correlations and, with `threshold`, F1; `similarities` (None for the cosine)
    is for models.
    """
    sets = read_sets(data)
    check_retrieval(sets, query_prompt, document_prompt, index)
    check_options(("cosine",) if similarities is None else similarities, aggregation)
    head = find_head(model)
    if head is None:
        check_heads(None, None, threshold)
        embedder = _embedder(cast("Model", model))
    else:
        if similarities is not None:
            raise InputError("got a similarity for a head; a head is scored by its predictions")
        if prompt is not None or prompt_name is not None:
            raise InputError("got a prompt for a head; it uses the one that it was trained with")
        if head.embedder is None:
            raise InputError("the head has no embedder; expected one that can read texts")
        only_pairs(sets)
        check_threshold(threshold)
        embedder, prompt = head.embedder, head.prompt
    names = list(dict.fromkeys(similarities or ("cosine",)))
    check_index(index, names, [embedder.dimension])
    prompts = role_prompts(
        embedder, prompt, prompt_name, query=query_prompt, document=document_prompt
    )
    found = SetVectors.of(embedder, sets, [embedder.bound], prompts, show_progress=show_progress)
    results: list[Result] = []
    name = str(embedder.recipe)
    for number, known in enumerate(map(_prepare, sets)):
        if head is None or isinstance(known, Judged):
            results += _score(name, known, found, 0, number, names, index)
        else:
            pairs, resamples = known
            results += score_predictions(
                name,
                pairs,
                "head",
                head.predict(found.pairs(0, number)),
                head_metrics(threshold),
                resamples,
                threshold=threshold,
            )
    return found.report(
        results,
        [embedder.recipe],
        decided_by=names[0] if head is None else "head",
        aggregation=aggregation,
        index=index,
    )


def _prepare(data: DataSet) -> _Prepared:
    return Judged.of(data) if isinstance(data, RetrievalSet) else (data, Resamples.of(data))


def _score(
    name: str,
    known: _Prepared,
    found: SetVectors,
    recipe: int,
    number: int,
    similarities: Sequence[str],
    index: str,
) -> list[Result]:
    """The results of a recipe on a set, both by their numbers in `found`."""
    if isinstance(known, Judged):
        queries, documents = (found.texts(recipe, number, role) for role in ("query", "document"))
        return known.score(name, queries, documents, similarities, index)
    pairs, resamples = known
    return score_vectors(name, pairs, found.pairs(recipe, number), similarities, resamples)


def check_retrieval(
    sets: Sequence[DataSet], query_prompt: str | None, document_prompt: str | None, index: str
) -> None:
    """Refuse options of retrieval sets where there are none.

    Raises:
        InputError: as said.
    """
    given = query_prompt is not None or document_prompt is not None or index != EXACT
    if given and not any(isinstance(data, RetrievalSet) for data in sets):
        raise InputError(
            "got an index, or a prompt for queries or documents, but no retrieval set; expected a "
            "folder of one"
        )


def _parse(recipe: str | Recipe) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else Recipe.parse(recipe)


def check_options(similarities: Sequence[str], aggregation: str) -> None:
    """Refuse unknown names.

    Raises:
        InputError: the name and the choices.
    """
    if isinstance(similarities, str) or not similarities:
        raise InputError(f"similarities is {similarities!r}; expected a list of names")
    for name in similarities:
        find_similarity(name)
    if aggregation not in AGGREGATIONS:
        raise InputError(
            f"unknown aggregation {aggregation!r}; choose from {', '.join(AGGREGATIONS)}"
        )


def _embedder(model: Model) -> Embedder:
    return model if isinstance(model, Embedder) else Embedder.from_pretrained(model)


def _default_recipes(
    embedder: Embedder, layers: str | Sequence[int] | None
) -> tuple[list[Bound], list[Recipe]]:
    """The recipes to compare where none are named, and those that the model does not have."""
    top = embedder.encoder.num_layers
    if layers is None:
        chosen: Sequence[int] = (-1,)
    elif isinstance(layers, str):
        if layers != "all":
            raise InputError(f"layers is {layers!r}; expected all, or hidden states such as 0 6 -1")
        chosen = range(top + 1)
    else:
        chosen = layers
    if not isinstance(chosen, Sequence) or not chosen:
        raise InputError(f"layers is {layers!r}; expected all, or hidden states such as 0 6 -1")
    for layer in chosen:
        if isinstance(layer, bool) or not isinstance(layer, int) or not -top - 1 <= layer <= top:
            raise InputError(
                f"layers has {layer!r}, which is not in this model; expected 0 to {top}, or "
                f"{-top - 1} to -1 counted from the end"
            )
    # With the pooler below, these are what a saved model can have.
    poolings = [name for name, row in POOLINGS.items() if row.sentence_transformers]
    recipes = [Recipe((name,), (layer,)) for layer in chosen for name in poolings]
    if layers is None and top > 1:
        recipes.append(Recipe(("mean",), FIRST_LAST))
    pooler = Recipe(("pooler",))
    missing = []
    if embedder.encoder.pooler is None:
        missing.append(pooler)
    else:
        recipes.append(pooler)
    bounds = [embedder.bind(recipe) for recipe in recipes]
    if embedder.own is not None:
        bounds.append(embedder.bind(embedder.own.recipe))
    return bounds, missing
