"""Which pooling, of two models, on pairs and on retrieval, and what of it is chance.

    python benchmarks/pooling_study.py DATA --e5 MODEL [--out results]

DATA holds sts_en/, sts_ko/ and retrieval/scifact/; MODEL is multilingual-e5-small. Each model and
set is one `embedkit.compare` with its defaults: the recipes that it would try for anybody, against
the model's own, intervals and Holm's p from 10,000 paired resamples. e5 reads its own prompts. What
is in results/pooling_study.json already is not run again.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import vl_convert

from embedkit import Embedder, compare

SETS = (
    "sts_en/stsb_test.tsv",
    "sts_en/sts12_test.tsv",
    "sts_en/sts16_test.tsv",
    "sts_ko/korsts_test.tsv",
    "retrieval/scifact",
)
PAIR_PROMPTS = {"prompt": "query: "}
RETRIEVAL_PROMPTS = {"query_prompt": "query: ", "document_prompt": "passage: "}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--e5", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()

    file = options.out / "pooling_study.json"
    study: dict[str, Any] = {"command": "python benchmarks/pooling_study.py DATA --e5 MODEL"}
    if file.exists():
        study = json.loads(file.read_text(encoding="utf-8"))
    for name, model in {
        "all-MiniLM-L6-v2": "minilm",
        "multilingual-e5-small": str(options.e5),
    }.items():
        found = study.setdefault(name, {})
        embedder = Embedder.from_pretrained(model, device="cpu", precision="float32")
        for path in SETS:
            if path in found:
                continue
            prompts = {}
            if name.startswith("multilingual-e5"):
                prompts = PAIR_PROMPTS if path.endswith(".tsv") else RETRIEVAL_PROMPTS
            found[path] = result(embedder, options.data / path, prompts)
            file.write_text(json.dumps(study, indent=1, ensure_ascii=False) + "\n", "utf-8")

    models = {name: found for name, found in study.items() if name != "command"}
    tables = [table(name, found) for name, found in models.items()]
    text = "\n".join([f"`{study['command']}`\n", *tables])
    (options.out / "pooling_study.md").write_text(text, encoding="utf-8")
    for name, found in models.items():
        svg = vl_convert.vegalite_to_svg(forest(name, found))
        (options.out / f"pooling_study_{name}.svg").write_text(svg, encoding="utf-8")


def result(embedder: Embedder, data: Path, prompts: dict[str, str]) -> dict[str, Any]:
    """The numbers of one comparison; the sentences are the data's, and stay with it."""
    started = time.perf_counter()
    report = compare(embedder, data, **prompts)
    protocol = report.run_metadata
    return {
        "baseline": report.baseline,
        "rows": [asdict(row) for row in report.deciding("spearman", "ndcg@10")],
        "prompts": prompts,
        "resamples": protocol.resamples,
        "seed": protocol.seed,
        "precision": protocol.precision,
        "max_length": protocol.max_length,
        "versions": protocol.versions,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "seconds": round(time.perf_counter() - started, 1),
    }


def table(name: str, found: dict[str, Any]) -> str:
    """Markdown: a row for each recipe; a star where it differs from the baseline, p < 0.05."""
    (baseline,) = {result["baseline"] for result in found.values()}
    rows = {row["recipe"]: {} for result in found.values() for row in result["rows"]}
    for path, result in found.items():
        for row in result["rows"]:
            rows[row["recipe"]][path] = cell(row)
    lines = [
        f"## {name}\n",
        f"Spearman x 100 of the cosine (nDCG@10 x 100 on scifact) with 95 % intervals; "
        f"\\* differs from `{baseline}` (paired, Holm's p < 0.05 within the set).\n",
        f"| recipe | {' | '.join(Path(path).stem for path in found)} |",
        f"| --- |{' ---: |' * len(found)}",
    ]
    lines += [
        f"| {recipe} | {' | '.join(cells.get(path, '-') for path in found)} |"
        for recipe, cells in rows.items()
    ]
    reasons = {
        f"\n`{row['recipe']}` has no value: {row['reason']}."
        for result in found.values()
        for row in result["rows"]
        if row["value"] is None
    }
    return "\n".join([*lines, *sorted(reasons)]) + "\n"


def cell(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    low, high = row["ci95"]
    p = (row["baseline"] or {}).get("p_holm")
    star = " \\*" if p is not None and p < 0.05 else ""
    return f"{100 * row['value']:.2f} [{100 * low:.1f}, {100 * high:.1f}]{star}"


def forest(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Vega-Lite: each dataset's values and intervals, recipes in one order."""
    values = [
        {"recipe": row["recipe"], "dataset": Path(path).stem, "value": 100 * row["value"]}
        | {"low": 100 * row["ci95"][0], "high": 100 * row["ci95"][1]}
        for path, result in found.items()
        for row in result["rows"]
        if row["value"] is not None
    ]
    y = {"field": "recipe", "type": "nominal", "sort": None, "title": None}
    x = {"type": "quantitative", "scale": {"zero": False}, "title": None}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": f"{name}: Spearman x 100 (scifact: nDCG@10 x 100), 95 % intervals",
        "background": "white",
        "data": {"values": values},
        "facet": {"field": "dataset", "title": None, "sort": [Path(path).stem for path in found]},
        "columns": 3,
        "resolve": {"scale": {"x": "independent"}},
        "spec": {
            "width": 190,
            "layer": [
                {
                    "mark": "rule",
                    "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 45},
                    "encoding": {"y": y, "x": {**x, "field": "value"}},
                },
            ],
        },
    }


if __name__ == "__main__":
    main()
