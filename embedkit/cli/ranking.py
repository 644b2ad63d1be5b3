"""Options of BM25, hybrid search and rerankers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from embedkit.cli import choices, options
from embedkit.errors import InputError

Words: TypeAlias = Annotated[
    str,
    options.search_option(
        "Split texts for BM25 into words (unicode; Chinese, Japanese and Korean: bigrams), into "
        "stems of english or another language of Snowball, or into the morphemes of Korean (kiwi).",
        values=choices.WORDS,
    ),
]
Weights: TypeAlias = Annotated[
    str | None,
    options.search_option(
        "Fuse hybrid search by a weighted sum of the scores of dense search and BM25, each scaled "
        "to 0 to 1. Give two weights, such as 0.7,0.3; by default fuse by reciprocal rank."
    ),
]
Rerank: TypeAlias = Annotated[
    str | None,
    options.search_option(
        "Rerank the first documents of each query by this cross-encoder, or by the similarity of "
        "this model.",
        autocompletion=choices.complete_model,
    ),
]
RerankDepth: TypeAlias = Annotated[
    int, options.search_option("Rerank this many documents of each query.")
]


@dataclass(frozen=True)
class Ranking:
    """How `compare` and `evaluate` search retrieval sets."""

    mode: Annotated[
        str,
        options.search_option(
            "Search retrieval sets by embeddings (dense), by words (bm25, which needs no model) or "
            "by both, fused by reciprocal rank (hybrid). Several, separated by spaces or commas, "
            "are compared.",
            values=choices.MODES,
            several=True,
        ),
    ] = "dense"
    words: Words = "unicode"
    weights: Weights = None
    rerank: Rerank = None
    rerank_depth: RerankDepth = 100

    @property
    def modes(self) -> list[str]:
        """The modes that the user named."""
        return self.mode.replace(",", " ").split()

    def arguments(self, device: str | None) -> dict[str, Any]:
        """Keyword arguments of `compare` and `evaluate`; a reranker runs on the device."""
        others = {name: value for name, value in vars(self).items() if name != "mode"}
        if self.rerank is not None and device is not None:
            from embedkit.evaluation.models import ModelSettings

            settings = ModelSettings(self.rerank, name=self.rerank, loading={"device": device})
            others["rerank"] = settings
        return {**others, "modes": self.modes, "weights": read_weights(self.weights)}


def read_weights(text: str | None) -> list[float] | None:
    """The numbers that `--weights` lists."""
    if text is None:
        return None
    try:
        return [float(x) for x in text.replace(",", " ").split()]
    except ValueError:
        raise InputError(
            f"--weights is {text!r}; expected two numbers, of dense search and of BM25, such as "
            "0.7,0.3"
        ) from None
