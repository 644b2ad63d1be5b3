"""`embedkit index tune`: the search effort of an index that reaches a recall."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from embedkit.cli import options, output
from embedkit.errors import InputError

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder
    from embedkit.retrieval.index import VectorIndex

Queries = Annotated[
    Path | None,
    options.search_option(
        "Tune on the texts of this file, like those that users search for: "
        f"{options.TEXT_FILES}; by default on rows of the index."
    ),
]


def tune_command(
    index: options.IndexFolder,
    recall: Annotated[
        float, options.search_option("Find this share of the true nearest rows.")
    ] = 0.95,
    queries: Queries = None,
    model: options.IndexModel = None,
    as_json: options.Json = False,
) -> None:
    """Tune the search of an index to a recall, and store the setting.

    It is the smallest setting that reaches the recall on queries, compared with exact search.

    Example: [bold]embedkit index tune my-index --recall 0.98[/bold]
    """
    from embedkit.retrieval.index import VectorIndex
    from embedkit.retrieval.tune import check_recall

    check_recall(recall)
    if model is not None and queries is None:
        raise InputError("got --model without --queries, which it would encode; expected both")
    texts = None if queries is None else read_queries(queries)
    opened = VectorIndex.open(index)
    if texts is not None:
        opened.embedder = index_embedder(opened, model)
    opened.tune(recall, queries=texts)
    tell_tuning(opened)
    if as_json:
        output.print_json({"folder": str(index), **opened.info})


def read_queries(path: Path) -> list[str]:
    """The texts of a file, read before long work."""
    texts = [document.text for document in options.corpus(path, None, "utf-8")]
    if not texts:
        raise InputError(f"{path}: has no rows, expected texts")
    return texts


def index_embedder(index: VectorIndex, model: str | None, device: str | None = None) -> Embedder:
    """The model of an index, or the one that the user names where none is recorded."""
    from embedkit.embedder.embedder import Embedder

    if index.provenance is not None:
        return index.provenance.load(model, device=device)
    if model is None:
        raise InputError(
            f"{index.folder}: does not record the model of its vectors; give it with -m"
        )
    return Embedder.from_pretrained(model, device=device, precision="float32")


def tell_tuning(index: VectorIndex) -> None:
    """Say how an index was tuned, if it was."""
    tuning = index.tuning
    if tuning is None:
        return
    values = {**index.info, "rescore": tuning.rescore}
    settings = [
        f"{name} {values[name]}" for name in ("nprobe", "ef_search", "rescore") if values.get(name)
    ]
    output.inform(
        f"tuned on {tuning.queries:,} {'queries' if tuning.own_queries else 'rows'}: "
        f"{', '.join(settings) or 'exact search'}; recall@{tuning.k} {tuning.recall:.3f} "
        f"[{tuning.low:.3f}, {tuning.high:.3f}], {tuning.milliseconds:.2f} ms a query, "
        f"{tuning.memory / 1e6:,.1f} MB in memory"
    )
    if not tuning.reached:
        output.alert(
            "warning: the highest setting does not surely reach a recall of "
            f"{tuning.target:g}; expected a lower --recall, more queries, or another kind"
        )
