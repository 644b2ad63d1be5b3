"""Which recipe: every one from a single pass over the distinct sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from embedkit.arguments import check_list
from embedkit.data.datasets import SELECTION, Data, DataSet, check_names, only_pairs, read_sets
from embedkit.data.pairs import Pairs
from embedkit.data.retrieval_set import RetrievalSet
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.prompts import role_prompts
from embedkit.errors import InputError
from embedkit.evaluation.bootstrap import SEED
from embedkit.evaluation.candidates import Candidates, parse_recipe, parse_recipes
from embedkit.evaluation.correlation import AGGREGATIONS
from embedkit.evaluation.cross_encoders import CROSS_ENCODERS, evaluate_cross_encoder
from embedkit.evaluation.embeddings import SetVectors
from embedkit.evaluation.error_analysis import Diagnosis, Evidence, diagnose
from embedkit.evaluation.exact_search import EXACT, check_index
from embedkit.evaluation.fitting import FitTexts, fit_for
from embedkit.evaluation.heads import (
    Training,
    against_lines,
    check_heads,
    check_threshold,
    head_metrics,
)
from embedkit.evaluation.pairs import Predictions, absent, predict, score_predictions
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.results import Scored
from embedkit.evaluation.retrieval import Judged
from embedkit.evaluation.run_metadata import ModelUsed, Protocol
from embedkit.evaluation.selection import Selection
from embedkit.evaluation.significance import judge
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe
from embedkit.scoring.loading import find_cross_encoder, find_head
from embedkit.similarity import find_similarity

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sklearn.base import BaseEstimator
    from transformers import PreTrainedModel

    from embedkit.scoring.cross_encoder import CrossEncoder
    from embedkit.scoring.pair_regressor import PairRegressor

Model: TypeAlias = "Embedder | str | Path | PreTrainedModel | SentenceTransformer"

_NO_POOLER = "the checkpoint has no pooler weights"


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
        model: an `Embedder`, or anything that `Embedder.from_pretrained` takes.
        data: one or several of: files of sentence pairs, folders of retrieval sets (see
            `read_pairs` and `read_retrieval`), `Pairs`, `RetrievalSet`.
        recipes: which; None for the poolings of sentence-transformers on the last layer, `pooler`,
            `mean@first-last` and the model's own recipe.
        select: other files of sentence pairs or `Pairs`, on which the best recipe and similarity
            are chosen; None chooses them on `data`, and the report calls that optimistic.
        baseline: the recipe that the others are held against; None for the model's own, else
            `mean`, else the first one, of those that are compared.
        layers: with `recipes` None, cross the poolings with these hidden states; "all" for all.
        fit: what recipes with fitted steps or poolings learn from: texts, a `Corpus`, or "data" for
            the texts of `data` themselves, which the report then says. One pass over them serves
            all recipes, see `Embedder.fit`. The prompt in front of texts is that of sentences, or
            of documents where there are retrieval sets only.
        similarities: names from the table of similarities; without `select` the first one decides
            what is best.
        aggregation: which aggregation decides what is best, where the pairs have subsets.
        head: fit each recipe a head of its own on `train` (see `PairRegressor`), which then decides
            what is best; the first similarity and a line on it are shown beside.
        train: files or `Pairs` for the heads, from the same pass.
        threshold: adds the F1 score of "at least this" to what heads are measured by.
        prompt: put in front of each text.
        prompt_name: one of the model's prompts instead.
        query_prompt: for the queries of retrieval sets; without it and the two above, the model's
            prompt called `query`, else its default one.
        document_prompt: likewise for documents; the model's may be called `document`, `passage` or
            `corpus`.
        index: how retrieval sets are searched: `flat`, which is exact, `hnsw`, or a factory string
            of FAISS, to see what approximation costs.
        seed: of the bootstrap.
        show_progress: a bar on stderr; None shows it where stderr is a terminal.

    Raises:
        InputError: wrong input, before the encoder runs.
    """
    scored_sets = read_sets(data)
    select_sets = (
        [] if select is None else only_pairs(read_sets(select, argument="select"), SELECTION)
    )
    sets = [*scored_sets, *select_sets]
    check_names(sets)
    check_retrieval(scored_sets, query_prompt, document_prompt, index)
    check_heads(head, train, threshold)
    training = None
    if head is not None and train is not None:
        only_pairs(sets)
        training = Training.of(only_pairs(read_sets(train, argument="train")), head)
    parsed = parse_recipes(recipes)
    against = None if baseline is None else parse_recipe(baseline)
    check_options(similarities, aggregation, seed)
    if parsed is not None and layers is not None:
        raise InputError("got recipes and layers; expected one of them: a recipe names its layers")
    embedder = _embedder(model)
    candidates = Candidates.of(embedder, parsed, layers, against)
    similarities = list(dict.fromkeys(similarities))
    prompts = role_prompts(
        embedder, prompt, prompt_name, query=query_prompt, document=document_prompt
    )
    widths = [bound.dim(embedder.encoder.dim) for bound in candidates.bounds]
    check_index(index, similarities, widths)
    waiting = [bound.recipe for bound in candidates.bounds if bound.unfitted]
    bounds = fit_for(
        embedder, candidates.bounds, fit, scored_sets, prompts, show_progress=show_progress
    )
    train_sets = [] if training is None else training.sets
    found = SetVectors.of(
        embedder, [*sets, *train_sets], bounds, prompts, show_progress=show_progress
    )
    predictions = _predict(found, sets, bounds, similarities, training, threshold)
    names = [str(bound.recipe) for bound in bounds]
    scored: list[Scored] = []
    for number, scored_set in enumerate(scored_sets):
        if isinstance(scored_set, RetrievalSet):
            judged = Judged.of(scored_set)
            scored += _rank(judged, found, number, names, similarities, index, seed)
            for recipe in candidates.missing:
                scored += judged.absent(str(recipe), similarities, _NO_POOLER)
        else:
            of_set = predictions[number]
            scored += score_predictions(scored_set, of_set, threshold=threshold, seed=seed)
            for recipe in candidates.missing:
                rows = absent(str(recipe), scored_set, similarities, _NO_POOLER)
                scored += [Scored(row, None) for row in rows]
    scored = against_lines(scored)
    several = len(candidates.recipes) > 1
    decided_by = similarities[0] if training is None else "head"
    selection = None
    if select_sets:
        selection = Selection.of(
            [predictions[number] for number in range(len(scored_sets), len(sets))],
            select_sets,
            [data for data in scored_sets if isinstance(data, Pairs)],
            similarities=similarities if training is None else ["head"],
            aggregation=aggregation,
            own=None if embedder.own is None else str(embedder.own.recipe),
        )
        decided_by = selection.similarity
    evidence = {
        number: Evidence(
            data, {x.recipe: x.values for x in predictions[number] if x.similarity == decided_by}
        )
        for number, data in enumerate(scored_sets)
        if isinstance(data, Pairs)
    }
    baseline_name = str(candidates.baseline)
    roles = ["scored"] * len(scored_sets) + ["selected on"] * len(select_sets)
    return found.report(
        judge(scored, baseline_name) if several else [one.result for one in scored],
        candidates.recipes,
        Protocol.of(
            ModelUsed.of(embedder),
            prompts,
            found.used([*roles, *["trained on"] * len(train_sets)]),
            index=index,
            similarities=tuple(similarities),
            aggregation=aggregation,
            head=None if head is None else str(head),
            threshold=threshold,
            label_range=None if training is None else training.label_range,
            seed=seed,
        ),
        decided_by=decided_by,
        evidence=[*evidence.values()],
        diagnoses=_diagnose(found, evidence, names, baseline_name),
        fitted=[bound for bound in bounds if bound.recipe in waiting],
        baseline=baseline_name if several else None,
        selection=selection,
    )


def _rank(
    judged: Judged,
    found: SetVectors,
    number: int,
    recipes: Sequence[str],
    similarities: Sequence[str],
    index: str,
    seed: int,
) -> list[Scored]:
    """Every recipe's results on a retrieval set, by its number in `found`."""
    scored: list[Scored] = []
    for recipe, name in enumerate(recipes):
        queries, documents = (found.texts(recipe, number, role) for role in ("query", "document"))
        scored += judged.score(name, queries, documents, similarities, index, seed=seed)
    return scored


def _predict(
    found: SetVectors,
    sets: Sequence[DataSet],
    bounds: Sequence[BoundRecipe],
    similarities: Sequence[str],
    training: Training | None,
    threshold: float | None,
) -> dict[int, list[Predictions]]:
    """Of each set of pairs, by number, every recipe's similarities and its head's predictions.

    Heads are fitted on the sets of `found` after these.
    """
    predictions: dict[int, list[Predictions]] = {
        number: [] for number, data in enumerate(sets) if isinstance(data, Pairs)
    }
    for recipe, bound in enumerate(bounds):
        name = str(bound.recipe)
        fitted = None
        if training is not None:
            numbers = range(len(sets), len(found.places))
            fitted = training.fit([found.pairs(recipe, number) for number in numbers])
        for number, of_set in predictions.items():
            vectors = found.pairs(recipe, number)
            of_set.extend(predict(name, vectors, similarities))
            if fitted is not None:
                of_set.extend(fitted.predict(name, vectors, threshold))
    return predictions


def _diagnose(
    found: SetVectors, evidence: Mapping[int, Evidence], recipes: Sequence[str], baseline: str
) -> list[Diagnosis]:
    """Of sets of pairs, by their numbers in `found`."""
    diagnoses = []
    for number, of_set in evidence.items():
        geometries = {name: found.geometry(recipe, number) for recipe, name in enumerate(recipes)}
        diagnoses.append(diagnose(of_set.pairs, of_set.predictions, geometries, baseline))
    return diagnoses


def evaluate(
    model: Model | PairRegressor | CrossEncoder,
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
    seed: int = SEED,
    show_progress: bool | None = None,
) -> Report:
    """Score a model's own recipe on sentence pairs and retrieval sets, or a head on pairs.

    See `compare`. A head (a `PairRegressor`, or the folder of one) and a cross-encoder (likewise)
    are scored by their predictions, with MSE beside the correlations and, with `threshold`, F1;
    `similarities` (None for the cosine) is for models.
    """
    sets = read_sets(data)
    check_retrieval(sets, query_prompt, document_prompt, index)
    check_options(("cosine",) if similarities is None else similarities, aggregation, seed)
    cross_encoder = find_cross_encoder(model)
    if cross_encoder is not None:
        if similarities is not None or prompt is not None or prompt_name is not None:
            raise InputError("got a similarity or a prompt for a cross-encoder; it has neither")
        check_threshold(threshold)
        return evaluate_cross_encoder(
            cross_encoder,
            only_pairs(sets, CROSS_ENCODERS),
            aggregation=aggregation,
            threshold=threshold,
            seed=seed,
            show_progress=show_progress,
        )
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
    recipe = str(embedder.recipe)
    scored: list[Scored] = []
    evidence = {}
    for number, scored_set in enumerate(sets):
        if isinstance(scored_set, RetrievalSet):
            judged = Judged.of(scored_set)
            scored += _rank(judged, found, number, [recipe], names, index, seed)
            continue
        vectors = found.pairs(0, number)
        if head is None:
            predictions = predict(recipe, vectors, names)
        else:
            values = head.predict(vectors)
            predictions = [Predictions(recipe, "head", values, head_metrics(threshold))]
        scored += score_predictions(scored_set, predictions, threshold=threshold, seed=seed)
        evidence[number] = Evidence(scored_set, {recipe: predictions[0].values})
    protocol = Protocol.of(
        ModelUsed.of(embedder),
        prompts,
        found.used(["scored"] * len(sets)),
        index=index,
        similarities=tuple(names) if head is None else ("head",),
        aggregation=aggregation,
        head=None if head is None else str(head.head),
        threshold=threshold,
        label_range=None if head is None else head.range_,
        seed=seed,
    )
    return found.report(
        [one.result for one in scored],
        [embedder.recipe],
        protocol,
        decided_by=names[0] if head is None else "head",
        evidence=[*evidence.values()],
        diagnoses=_diagnose(found, evidence, [recipe], recipe),
    )


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


def check_options(similarities: Sequence[str], aggregation: str, seed: int = SEED) -> None:
    """Refuse unknown names, and what is no seed.

    Raises:
        InputError: what was got and the choices.
    """
    check_list("similarities", similarities, "a list of names")
    if not similarities:
        raise InputError("similarities is empty; expected a list of names")
    for name in similarities:
        find_similarity(name)
    if aggregation not in [*AGGREGATIONS]:
        raise InputError(
            f"unknown aggregation {aggregation!r}; choose from {', '.join(AGGREGATIONS)}"
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed is {seed!r}; expected a whole number from 0")


def _embedder(model: Model) -> Embedder:
    return (
        model
        if isinstance(model, Embedder)
        else Embedder.from_pretrained(model, precision="float32")
    )
