"""What the recipes of an evaluation learn from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from embedkit.data.corpus import Corpus
from embedkit.data.datasets import DataSet
from embedkit.embedder.embedder import GIVEN, Embedder
from embedkit.errors import InputError
from embedkit.recipes.bound_recipe import BoundRecipe

ON_DATA = "the scored texts themselves"


FitTexts: TypeAlias = "str | Corpus | Iterable[str]"


@dataclass(frozen=True)
class CorpusTexts:
    """The texts of a corpus, read from its file again each time."""

    corpus: Corpus

    def __iter__(self) -> Iterator[str]:
        return (document.text for document in self.corpus)


def fit_for(
    embedder: Embedder,
    bounds: Sequence[BoundRecipe],
    fit: FitTexts | None,
    sets: Sequence[DataSet],
    prompts: Mapping[str, str],
    *,
    show_progress: bool | None = None,
) -> list[BoundRecipe]:
    """The recipes, fitted where they have to be.

    Args:
        embedder: encodes the texts.
        bounds: recipes; the model's own are fitted already and stay as they are.
        fit: a corpus or texts, "data" for the texts of `sets`, or None.
        sets: what is scored.
        prompts: what is put in front of the texts of each role. Other texts to fit on have that of
            sentences, or of documents where there are retrieval sets only.
        show_progress: as in `Embedder.fit`.

    Raises:
        InputError: a recipe to fit and no texts, texts and no recipe to fit, or scored texts to fit
            on whose roles have different prompts.
    """
    waiting = [bound for bound in bounds if bound.unfitted is not None]
    if fit is None:
        if waiting:
            raise InputError(
                f"recipe {str(waiting[0].recipe)!r} learns {waiting[0].unfitted} from texts, and "
                "none are named; name some with fit (--fit FILE), or fit it on the scored texts "
                "with fit='data' (--fit-on-data)"
            )
        return list(bounds)
    if not waiting:
        raise InputError("got texts to fit on, and no recipe learns from texts")
    roles = dict.fromkeys(role for each in sets for role in each.texts)
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
        texts = [text for each in sets for role in each.texts.values() for text in role]
        source = ON_DATA
    elif isinstance(fit, Corpus):
        texts, source = CorpusTexts(fit), fit.path.name
    else:
        texts, source = fit, GIVEN
    return embedder.fit_recipes(
        bounds, texts, source=source, prompt=prompt, show_progress=show_progress
    )
