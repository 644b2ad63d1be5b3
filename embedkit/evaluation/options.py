"""The options of compare and evaluate, checked once, and the data sets that they are about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from embedkit.arguments import check_list
from embedkit.data.datasets import Data, DataSet, check_names, only_pairs, read_sets
from embedkit.data.pairs import Pairs
from embedkit.data.retrieval_set import RetrievalSet
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.prompts import role_prompts
from embedkit.errors import InputError
from embedkit.evaluation.bootstrap import SEED
from embedkit.evaluation.correlation import AGGREGATIONS, CORRELATIONS
from embedkit.evaluation.exact_search import EXACT
from embedkit.similarity import find_similarity


@dataclass(frozen=True)
class Options:
    """How predictions are made and measured: the arguments of `compare` of the same names.

    Raises:
        InputError: an unknown name, a threshold that is no finite number, or no seed.
    """

    similarities: Sequence[str] = ("cosine",)
    aggregation: str = "all"
    threshold: float | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    index: str = EXACT
    seed: int = SEED

    def __post_init__(self) -> None:
        check_list("similarities", self.similarities, "a list of names")
        names = list(self.similarities)
        if not names:
            raise InputError("similarities is empty; expected a list of names")
        for name in names:
            find_similarity(name)
        object.__setattr__(self, "similarities", tuple(dict.fromkeys(names)))
        if self.aggregation not in [*AGGREGATIONS]:
            raise InputError(
                f"unknown aggregation {self.aggregation!r}; choose from {', '.join(AGGREGATIONS)}"
            )
        is_number = isinstance(self.threshold, Real) and not isinstance(self.threshold, bool)
        if self.threshold is not None and not (is_number and math.isfinite(self.threshold)):
            raise InputError(f"threshold is {self.threshold!r}; expected a finite number")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"seed is {self.seed!r}; expected a whole number from 0")

    @property
    def head_metrics(self) -> tuple[str, ...]:
        """The metrics of predictions that are on the labels' scale."""
        return (*CORRELATIONS, "mse") if self.threshold is None else (*CORRELATIONS, "mse", "f1")

    def check_data(self, sets: Sequence[DataSet]) -> None:
        """Refuse options of retrieval sets where there are none."""
        prompts = (self.query_prompt, self.document_prompt)
        given = any(prompt is not None for prompt in prompts) or self.index != EXACT
        if given and not any(isinstance(data, RetrievalSet) for data in sets):
            raise InputError(
                "got an index, or a prompt for queries or documents, but no retrieval set; "
                "expected a folder of one"
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
    """The data sets of one evaluation, by their roles.

    Raises:
        InputError: two sets have the same name.
    """

    scored: list[DataSet]
    selecting: list[DataSet]  # the best recipe is selected on these
    training: list[Pairs]  # heads are fitted on these

    def __post_init__(self) -> None:
        check_names([*self.scored, *self.selecting])

    @classmethod
    def read(
        cls, data: Data, select: Data | None = None, train: Data | None = None
    ) -> EvaluationSets:
        """Read what is not read yet; with training pairs, all sets must be sentence pairs."""
        scored = read_sets(data)
        selecting = read_sets(select, argument="select") if select is not None else []
        training = read_sets(train, argument="train") if train is not None else []
        if training:
            only_pairs([*scored, *selecting])
        return cls(scored, selecting, only_pairs(training))

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
