"""Fit the recipes of an evaluation whose poolings or steps learn from texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from embedkit.arguments import check_list
from embedkit.data.corpus import Corpus
from embedkit.data.datasets import DataSet
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.recipe_encoder import GIVEN
from embedkit.errors import InputError
from embedkit.recipes.bound_recipe import BoundRecipe

ON_DATA = "the scored texts themselves"

FitTexts: TypeAlias = "str | Corpus | Iterable[str]"


@dataclass(frozen=True)
class CorpusTexts:
    """The texts of a corpus; each iteration reads its file again."""

    corpus: Corpus

    def __iter__(self) -> Iterator[str]:
        return (document.text for document in self.corpus)


def fit_recipes(
    embedder: Embedder,
    bounds: Sequence[BoundRecipe],
    fit: FitTexts | None,
    sets: Sequence[DataSet],
    prompts: Mapping[str, str],
    *,
    show_progress: bool | None = None,
) -> list[BoundRecipe]:
    """The recipes, fitted if they have to be; those of the model are fitted already.

    `fit` is a corpus or texts, "data" for the texts of the scored `sets`, or None. Texts are fitted
    behind the prompt of sentences, or of documents if there are only retrieval sets.
    """
    for bound in bounds:
        bound.check_trained()
    unfitted = [bound for bound in bounds if bound.unfitted is not None]
    if fit is None:
        if unfitted:
            raise InputError(
                f"recipe {str(unfitted[0].recipe)!r} learns {unfitted[0].unfitted} from texts, and "
                "none are named; name some with fit (--fit FILE), or fit it on the scored texts "
                "with fit='data' (--fit-on-data)"
            )
        return list(bounds)
    if not unfitted:
        raise InputError("got texts to fit on, and no recipe learns from texts")
    roles = dict.fromkeys(role for data in sets for role in data.texts)
    prompt = prompts["sentence" if "sentence" in roles else "document"]
    texts: Iterable[str]
    if isinstance(fit, str):
        if fit != "data":
            raise InputError(f"fit is {fit!r}; expected texts, a Corpus, or 'data'")
        for role in roles:
            if prompts[role] != prompt:
                raise InputError(
                    f"the scored texts have several prompts, {prompt!r} and {prompts[role]!r} "
                    "among them, and recipes are fitted behind one; name other texts to fit on "
                    "(--fit FILE)"
                )
        texts = [text for data in sets for role in data.texts.values() for text in role]
        source = ON_DATA
    elif isinstance(fit, Corpus):
        texts, source = CorpusTexts(fit), fit.path.name
    else:
        check_list("fit", fit, "texts to fit on")
        texts, source = fit, GIVEN
    return embedder.fit_recipes(
        bounds, texts, source=source, prompt=prompt, show_progress=show_progress
    )
