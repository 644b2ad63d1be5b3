"""Encode a corpus, or a Ray Dataset, on a cluster of Ray."""

from __future__ import annotations

import copy
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from embedkit.arguments import check_embedder, check_type
from embedkit.data.corpus import Corpus
from embedkit.data.tables import Row
from embedkit.data.texts import check_id, check_text
from embedkit.embedder.embedder import Embedder, LoadOptions
from embedkit.embedder.one_pass import Encoded
from embedkit.embedder.precision import check_not_auto
from embedkit.embedder.prompts import role_prompt
from embedkit.errors import InputError, first_line
from embedkit.integrations.encoding import Model, load
from embedkit.recipes.bound_recipe import BoundRecipe

try:
    import ray
except ImportError:
    raise ImportError(
        "embedkit.distributed.ray needs ray, which is not installed; run pip install "
        "'embedkit[ray]'"
    ) from None
from embedkit.distributed.actors import Actor, Actors, Job, in_actors

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

_ACTORS = Actors()
_BATCH = 4096  # rows
_SECONDS = 5.0  # until a port has answered
# Until what answers there has turned out to be Ray: its import takes a busy machine half of it.
_HEALTH_SECONDS = 60.0


@contextmanager
def connected(address: str | None = None) -> Iterator[str]:
    """A connection to a cluster, for a `with` block; yields where it is, in words.

    Args:
        address: `HOST:PORT` of the head of a cluster that this machine is a node of, or `auto` for
            one that runs here. None is the connection that this process has, else the one in the
            environment variable RAY_ADDRESS, else `local`: a cluster of this machine alone, which
            ends with the block.

    Raises:
        InputError: no cluster is there.
    """
    if ray.is_initialized():
        if address is not None:
            raise InputError(
                f"Ray's address is {address!r}, and this process is connected to "
                f"{_where()} already; expected None"
            )
        yield _where()
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options["include_dashboard"] = False
    elif address != "auto":
        _check_answers(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"Ray's address is {address!r}: {first_line(error)}") from None
    try:
        yield f"a local cluster at {_where()}" if address == "local" else _where()
    finally:
        ray.shutdown()


def _where() -> str:
    resources = ray.cluster_resources()
    counted = ", ".join(f"{resources.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
    return f"{ray.get_runtime_context().gcs_address} ({counted})"


def _check_answers(address: str) -> None:
    """Refuse an address where no cluster is: Ray itself would try it for minutes."""
    host, colon, port = address.rpartition(":")
    try:
        if not (host and colon and port.isdecimal() and "/" not in host):
            raise ValueError("expected HOST:PORT, auto or local")
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
        check = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
        subprocess.run(check, check=True, capture_output=True, timeout=_HEALTH_SECONDS)  # noqa: S603
    except subprocess.SubprocessError:
        reason = f"what answers there is no head of Ray {ray.__version__}"
    except (OSError, OverflowError, ValueError) as error:
        reason = first_line(error)
    else:
        return
    raise InputError(f"Ray's address is {address!r}: {reason}")


class ClusterEmbedder(Embedder):
    """An embedder whose `encode_corpus` runs in actors on all nodes of the cluster.

    This process reads the corpus and writes the folder, which is the same as without Ray: either
    resumes what the other began. The embedder reaches the nodes through Ray, so that they need no
    shared file system, but the same version of embedkit. Where an actor or a node dies, others
    repeat its texts. What is no corpus is encoded in this process.

    Args:
        embedder: of a precision other than `auto`, which machines may choose differently.
        actors: how many, and the CPUs and GPUs of each.

    Raises:
        InputError: `auto`, or no node for an actor; at `encode_corpus`, what is wrong with a text.
        ActorError: at `encode_corpus`, where actors died several times over the same texts.

    Example:
        >>> from embedkit import Corpus, Embedder, encode_corpus
        >>> from embedkit.distributed.ray import ClusterEmbedder, connected
        >>> embedder = Embedder("minilm", precision="float32", device="cpu")
        >>> with connected():  # doctest: +SKIP
        ...     encode_corpus(ClusterEmbedder(embedder), Corpus("corpus.txt"), "vectors").rows
        2
    """

    def __init__(self, embedder: Embedder, actors: Actors = _ACTORS) -> None:
        check_embedder(embedder)
        check_not_auto(embedder.asked_precision)
        vars(self).update(vars(embedder))
        self._local, self._actors = embedder, actors.fitted()

    def encode_each(
        self,
        parts: Iterable[Sequence[str]],
        recipes: Sequence[BoundRecipe],
        **options: Any,
    ) -> Iterator[Encoded]:
        return in_actors(_job(self._local, recipes, options, self._actors), parts)


def encode_dataset(
    dataset: Dataset,
    model: Model,
    *,
    text_column: str = "text",
    prompt: str | None = None,
    actors: Actors = _ACTORS,
    **options: Unpack[LoadOptions],
) -> Dataset:
    """A Ray Dataset with a column `embedding` more, float32 (dim,), by `map_batches` on Arrow.

    It is computed when the dataset is read or written, and no vector comes through this process.
    Ray repeats what actors and nodes that die had to do. To resume after a stop, and for a folder
    that `embedkit index` takes, use `encode_corpus` on a `DatasetCorpus`.

    Args:
        dataset: with texts in `text_column`.
        model: an `Embedder`, or anything that it takes; of a precision other than `auto`.
        text_column: of str.
        prompt: text to put in front of each text; None for the model's prompt of documents.
        actors: how many at most, and the CPUs and GPUs of each.
        options: of `Embedder`, for a model that is named.

    Raises:
        InputError: wrong input. Where the dataset is read, a cell that is no text is Ray's error.

    Example:
        >>> import ray
        >>> from embedkit.distributed.ray import encode_dataset
        >>> dataset = ray.data.from_items([{"text": "It rains."}])  # doctest: +SKIP
        >>> encode_dataset(dataset, "minilm", precision="float32").schema().names  # doctest: +SKIP
        ['text', 'embedding']
    """
    embedder = load(model, None, False, **options)
    check_not_auto(embedder.asked_precision)
    embedder.bound.check_fitted()
    if "embedding" in _columns(dataset, text_column):
        raise InputError("the dataset has a column 'embedding' already; expected none")
    actors = actors.fitted()
    prefix = role_prompt(embedder, "document", prompt)
    return dataset.map_batches(
        _Batches,
        fn_constructor_args=(
            _job(embedder, [embedder.bound], {"prompt": prefix}, actors),
            text_column,
        ),
        batch_format="pyarrow",
        batch_size=_BATCH,
        # One at first: reading needs CPUs too.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors.size),
        **actors.resources,
    )


class _Batches:
    """In an actor of Ray Data: batches get a column of embeddings."""

    def __init__(self, job: Job, text_column: str) -> None:
        self._actor, self._text_column = Actor(), text_column
        self._actor.load(job)

    def __call__(self, batch: pa.Table) -> pa.Table:
        import pyarrow as pa

        texts: list[Any] = batch.column(self._text_column).to_pylist()
        encoded = self._actor.encode(texts)
        vectors = encoded.vectors[0][encoded.distinct.inverse]
        values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        return batch.append_column("embedding", values)


class DatasetCorpus(Corpus):
    """A Ray Dataset as a corpus, for `encode_corpus`: it is read twice, through this process.

    Args:
        dataset: its rows may come in another order each time.
        id_column: of strings or whole numbers, each once.
        text_column: of str.

    Raises:
        InputError: a column that is not there; and where it is read, a cell.
    """

    _dataset: Dataset

    def __init__(self, dataset: Dataset, id_column: str, text_column: str = "text") -> None:
        _columns(dataset, id_column, text_column)
        own = {"text_columns": (text_column,), "id_column": id_column, "encoding": "utf-8"}
        vars(self).update(own, path=Path("the dataset"), _dataset=dataset)

    def _rows(self) -> Iterator[Row]:
        checks = {str(self.id_column): check_id, self.text_columns[0]: check_text}
        batches = self._dataset.iter_batches(batch_format="pyarrow", batch_size=_BATCH)
        rows = (row for batch in batches for row in batch.select([*checks]).to_pylist())
        for number, cells in enumerate(rows, start=1):
            location = f"{self.path}, row {number}"
            for name, check in checks.items():
                cells[name] = check(f"{location}, column {name!r}", cells[name])
            yield Row(location, cells)


def _columns(dataset: Dataset, *needed: str) -> list[str]:
    """The names of all columns of a dataset that has those that are needed."""
    check_type("dataset", dataset, ray.data.Dataset, "a Dataset of Ray")
    schema = dataset.schema()
    names = list(schema.names) if schema is not None else []
    if missing := [name for name in needed if name not in names]:
        raise InputError(f"the dataset has no column {missing[0]!r}, only {', '.join(names)}")
    return names


def _job(
    embedder: Embedder, recipes: Sequence[BoundRecipe], options: dict[str, Any], actors: Actors
) -> Job:
    # A copy: `to` changes an embedder, and nodes without a GPU could not read one that is on one.
    return Job((ray.put(copy.copy(embedder).to("cpu")),), recipes, options, actors)
