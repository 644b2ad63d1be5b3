"""The options of compare and evaluate, checked once, and the data sets that they are about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any

from embedkit.arguments import check_count, check_list
from embedkit.data.datasets import Data, DataSet, check_names, only_pairs, read_sets
from embedkit.data.named_sets import expand
from embedkit.data.pairs import Pairs
from embedkit.data.retrieval_set import RetrievalSet
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.prompts import role_prompts
from embedkit.errors import InputError
from embedkit.evaluation.bootstrap import SEED
from embedkit.evaluation.correlation import AGGREGATIONS, CORRELATIONS
from embedkit.evaluation.exact_search import EXACT
from embedkit.retrieval.fusion import BM25, DENSE, HYBRID, check_mode, check_weights
from embedkit.retrieval.words import UNICODE, find_words
from embedkit.scoring.loading import LoadedModel
from embedkit.similarity import find_similarity

_OF_EMBEDDINGS = (
    "similarities",
    "prompt",
    "prompt_name",
    "query_prompt",
    "document_prompt",
    "index",
)


@dataclass(frozen=True)
class Options:
    """How predictions are made and measured: the arguments of `compare` of the same names."""

    similarities: Sequence[str] = ("cosine",)
    aggregation: str = "all"
    threshold: float | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    index: str = EXACT
    modes: Sequence[str] = (DENSE,)
    words: str = UNICODE
    weights: Sequence[float] | None = None
    rerank: str | Path | LoadedModel | None = None
    rerank_depth: int = 100
    seed: int = SEED

    def __post_init__(self) -> None:
        check_list("similarities", self.similarities, "a list of names")
        names = list(self.similarities)
        if not names:
            raise InputError("similarities is empty; expected a list of names")
        for name in names:
            find_similarity(name)
        object.__setattr__(self, "similarities", tuple(dict.fromkeys(names)))
        check_list("modes", self.modes, "a list of names")
        object.__setattr__(self, "modes", tuple(dict.fromkeys(map(check_mode, self.modes))))
        if not self.modes:
            raise InputError("modes is empty; expected a list of names")
        if self.modes == (BM25,):
            for name in _OF_EMBEDDINGS:
                if getattr(self, name) != getattr(Options, name):
                    raise InputError(
                        f"got {name} for bm25 alone, which has no embeddings; expected none, or "
                        "dense or hybrid too"
                    )
        if self.modes != (DENSE,):
            find_words(self.words)
        elif self.words != UNICODE:
            raise InputError("got words without a mode that reads them; expected bm25 or hybrid")
        if check_weights(self.weights) is not None and HYBRID not in self.modes:
            raise InputError("got weights without a mode that reads them; expected hybrid")
        check_count("rerank_depth", self.rerank_depth)
        if self.rerank is None and self.rerank_depth != Options.rerank_depth:
            raise InputError("got rerank_depth without rerank; expected both")
        if self.aggregation not in [*AGGREGATIONS]:
            raise InputError(
                f"unknown aggregation {self.aggregation!r}; choose from {', '.join(AGGREGATIONS)}"
            )
        is_number = isinstance(self.threshold, Real) and not isinstance(self.threshold, bool)
        if self.threshold is not None and not (is_number and math.isfinite(self.threshold)):
            raise InputError(f"threshold is {self.threshold!r}; expected a finite number")
        object.__setattr__(self, "seed", check_count("seed", self.seed, 0))

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Options:
        """From the arguments of a function that has them all; no similarities are the cosine."""
        own = {option.name: arguments[option.name] for option in fields(cls)}
        if own["similarities"] is None:
            del own["similarities"]
        return cls(**own)

    @property
    def ranks(self) -> bool:
        """Whether documents are ranked by more than the similarity of embeddings."""
        return self.modes != (DENSE,) or self.rerank is not None

    @property
    def reranked(self) -> tuple[str | None, int | None]:
        """The reranker's name, and how many documents of a query it orders."""
        if self.rerank is None:
            return None, None
        named = isinstance(self.rerank, str | Path)
        return str(self.rerank if named else getattr(self.rerank, "name", "")), self.rerank_depth

    @property
    def head_metrics(self) -> tuple[str, ...]:
        """The metrics of predictions that are on the labels' scale."""
        return (*CORRELATIONS, "mse") if self.threshold is None else (*CORRELATIONS, "mse", "f1")

    def check_data(self, sets: Sequence[DataSet]) -> None:
        """Refuse options of retrieval sets where there are none."""
        given = (self.query_prompt, self.document_prompt, self.index) != (None, None, EXACT)
        if given and not any(isinstance(data, RetrievalSet) for data in sets):
            raise InputError(
                "got an index, or a prompt for queries or documents, but no retrieval set; "
                "expected a folder of one"
            )
        if self.ranks and (pairs := [data.name for data in sets if isinstance(data, Pairs)]):
            raise InputError(
                f"got modes or a reranker for {pairs[0]}, which is sentence pairs; expected only "
                "retrieval sets"
            )

    def check_no_threshold(self) -> None:
        """Refuse a threshold where nothing predicts on the labels' scale."""
        if self.threshold is not None:
            raise InputError("threshold was given without a head; it is for predictions of heads")

    def prompts_of(self, embedder: Embedder) -> dict[str, str]:
        """The prompt of each role; see `role_prompts`."""
        return role_prompts(
            embedder,
            self.prompt,
            self.prompt_name,
            query=self.query_prompt,
            document=self.document_prompt,
        )


@dataclass(frozen=True)
class EvaluationSets:
    """The data sets of one evaluation, by their roles; no two have one name."""

    scored: list[DataSet]
    selecting: list[DataSet]  # the best recipe is selected on these
    training: list[Pairs]  # heads are fitted on these
    suites: dict[str, tuple[str, ...]] = field(default_factory=dict)  # names of scored sets

    def __post_init__(self) -> None:
        check_names([*self.scored, *self.selecting])
        names = [data.name for data in self.scored]
        for suite, of_suite in self.suites.items():
            if lacking := [name for name in of_suite if name not in names]:
                raise InputError(
                    f"suite {suite!r} has {lacking[0]!r}, which is not scored; expected some of "
                    f"{', '.join(names)}"
                )

    @classmethod
    def read(
        cls,
        data: Data,
        select: Data | None = None,
        train: Data | None = None,
        suites: Mapping[str, Sequence[str]] | None = None,
    ) -> EvaluationSets:
        """Read what is not read yet; with training pairs, all sets must be sentence pairs.

        Suites are names of scored sets; None for those that `data` names.
        """
        scored = read_sets(data)
        selecting = [] if select is None else read_sets(select, argument="select")
        training = [] if train is None else read_sets(train, argument="train")
        if training:
            only_pairs([*scored, *selecting])
        if suites is None:
            suites = expand(data if isinstance(data, list | tuple) else [data]).suites
        named = {name: tuple(sets) for name, sets in suites.items()}
        return cls(scored, selecting, only_pairs(training), named)

    @property
    def all(self) -> list[DataSet]:
        """Scored, selecting and training sets, in this order."""
        return [*self.scored, *self.selecting, *self.training]

    @property
    def roles(self) -> list[str]:
        """What each of `all` is used for."""
        return [
            *["scored"] * len(self.scored),
            *["selected on"] * len(self.selecting),
            *["trained on"] * len(self.training),
        ]
