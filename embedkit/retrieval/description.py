"""What `embedkit index info` and notebooks say of an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedkit.errors import counted
from embedkit.html_table import html_table
from embedkit.retrieval.faiss_index import Effort, new_index

if TYPE_CHECKING:
    from embedkit.retrieval.index import VectorIndex


def info(index: VectorIndex) -> dict[str, Any]:
    """The contents and settings of an index, as plain values."""
    segments, state = index._segments, index._state
    rows = sum(segment.live for segment in segments)
    usual = Effort.of(new_index(state.kind, state.dimension, state.similarity))
    return {
        "kind": state.kind,
        **({usual.option: index.effort or usual.value} if usual.option else {}),
        "tuning": index.tuning and {**index.tuning.to_json(), "stale": index.tuning.is_stale(rows)},
        "similarity": state.similarity,
        "dimension": state.dimension,
        "dtype": state.dtype,
        "rows": rows,
        "removed": sum(map(len, segments)) - rows,
        "texts": index.has_texts,
        "bm25": state.words,
        "metadata": index.metadata_columns,
        "segments": len(segments),
        "bytes": None if index.folder is None else sum(entry.bytes for entry in state.entries),
        "origin": None if state.provenance is None else state.provenance.to_json(),
    }


def facts(index: VectorIndex) -> dict[str, str]:
    """What people want to know of an index, by name."""
    about, made, tuning = info(index), index.provenance, index.tuning
    columns = ", ".join(f"{name} ({kind})" for name, kind in index.metadata_columns.items())
    model, recall = "unknown", ""
    if made is not None:
        prompts = {"prompt": made.prompt, "query prompt": made.query_prompt}
        shown = (f", {name} {text!r}" for name, text in prompts.items() if text)
        model = f"{made.model}, {made.recipe}{''.join(shown)}"
    if tuning is not None:
        recall = f"{tuning.recall:.3f} of the first {tuning.k}, tuned on {tuning.rows:,} rows"
        recall += ", stale: run embedkit index tune" if about["tuning"]["stale"] else ""
    removed, size = about["removed"], about["bytes"]
    named = {
        "rows": f"{len(index):,} {'with' if index.has_texts else 'without'} texts",
        "removed": removed and f"{counted(removed, 'row')}, until compact",
        "metadata": columns,
        "BM25": index.words,
        "dimension": f"{index.dimension:,}",
        "similarity": index.similarity,
        "recall": recall,
        "model": model,
        "size": size and f"{size / 1e6:,.1f} MB in {counted(about['segments'], 'segment')}",
        "folder": index.folder or "in memory",
    }
    return {name: str(value) for name, value in named.items() if value}


def html(index: VectorIndex) -> str:
    """A table for notebooks."""
    return html_table(("VectorIndex", index.kind), facts(index).items(), {0, 1})


def line(index: VectorIndex) -> str:
    """The `repr`."""
    shown = {"kind": index.kind, "rows": len(index), "dimension": index.dimension}
    shown |= {"similarity": index.similarity, "model": index.provenance and index.provenance.model}
    shown |= {"folder": index.folder and str(index.folder)}
    given = (f"{name}={value!r}" for name, value in shown.items() if value is not None)
    return f"VectorIndex({', '.join(given)})"
