"""Which pooling, of two models, on pairs and on retrieval, and what of it is chance.

    python benchmarks/pooling_study.py DATA --e5 MODEL [--out results]

DATA holds sts_en/, sts_ko/ and retrieval/scifact/; MODEL is multilingual-e5-small. Each model runs
once over all the sets, `embedkit.compare` with its defaults: the recipes that it would try for
anybody, against the model's own, intervals and Holm's p from 10,000 paired resamples. e5 reads its
own prompts. A model that is in results/pooling_study.json already is not run again.
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

from embedkit import Embedder, Report, compare

SETS = (
    "sts_en/stsb_test.tsv",
    "sts_en/sts12_test.tsv",
    "sts_en/sts16_test.tsv",
    "sts_ko/korsts_test.tsv",
    "retrieval/scifact",
)
E5_PROMPTS = {"prompt": "query: ", "query_prompt": "query: ", "document_prompt": "passage: "}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--e5", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()

    models: dict[str, tuple[str, dict[str, str]]] = {
        "all-MiniLM-L6-v2": ("minilm", {}),
        "multilingual-e5-small": (str(options.e5), E5_PROMPTS),
    }
    file = options.out / "pooling_study.json"
    study: dict[str, Any] = {"models": {}}
    if file.exists():
        study = json.loads(file.read_text(encoding="utf-8"))
    study["command"] = "python benchmarks/pooling_study.py DATA --e5 MODEL"
    for name, (model, prompts) in models.items():
        if name in study["models"]:
            continue
        started = time.perf_counter()
        embedder = Embedder.from_pretrained(model, device="cpu")
        report = compare(embedder, [options.data / path for path in SETS], **prompts)
        study["models"][name] = summary(report, prompts, time.perf_counter() - started)
        file.write_text(json.dumps(study, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    tables = [table(name, found) for name, found in study["models"].items()]
    text = "\n".join([f"`{study['command']}`\n", *tables])
    (options.out / "pooling_study.md").write_text(text, encoding="utf-8")
    for name, found in study["models"].items():
        svg = vl_convert.vegalite_to_svg(forest(name, found))
        (options.out / f"pooling_study_{name}.svg").write_text(svg, encoding="utf-8")


def summary(report: Report, prompts: dict[str, str], seconds: float) -> dict[str, Any]:
    """The numbers of a report; its sentences are the data's, and stay with it."""
    protocol = report.protocol
    return {
        "baseline": report.baseline,
        "best": report.best_name,
        "ranking": report.ranking(),
        "rows": [asdict(row) for row in report.deciding("spearman", "ndcg@10")],
        "prompts": prompts,
        "resamples": protocol.resamples,
        "seed": protocol.seed,
        "precision": protocol.precision,
        "max_length": protocol.max_length,
        "versions": protocol.versions,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "seconds": round(seconds, 1),
    }


def table(name: str, found: dict[str, Any]) -> str:
    """Markdown: a row for each recipe; a star where the baseline is beaten or lost to, p < 0.05."""
    datasets = list(dict.fromkeys(row["dataset"] for row in found["rows"]))
    rows = {(row["recipe"], row["dataset"]): row for row in found["rows"]}
    lines = [
        f"## {name}\n",
        f"Spearman x 100 of the cosine (nDCG@10 x 100 on scifact) with 95 % intervals; "
        f"\\* differs from `{found['baseline']}` (Holm's p < 0.05, paired).\n",
        f"| recipe | {' | '.join(datasets)} |",
        f"| --- |{' ---: |' * len(datasets)}",
    ]
    for recipe in found["ranking"]:
        cells = [cell(rows[recipe, dataset]) for dataset in datasets]
        lines.append(f"| {recipe} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return f"- ({row['reason']})"
    low, high = row["ci95"]
    p = (row["baseline"] or {}).get("p_holm")
    star = " \\*" if p is not None and p < 0.05 else ""
    return f"{100 * row['value']:.2f} [{100 * low:.1f}, {100 * high:.1f}]{star}"


def forest(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Vega-Lite: each dataset's values and intervals, recipes in one order."""
    values = [
        {"recipe": row["recipe"], "dataset": row["dataset"], "value": 100 * row["value"]}
        | {"low": 100 * row["ci95"][0], "high": 100 * row["ci95"][1]}
        for row in found["rows"]
        if row["value"] is not None
    ]
    y = {"field": "recipe", "type": "nominal", "sort": found["ranking"], "title": None}
    x = {"type": "quantitative", "scale": {"zero": False}, "title": None}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": f"{name}: Spearman x 100 (scifact: nDCG@10 x 100), 95 % intervals",
        "data": {"values": values},
        "facet": {
            "field": "dataset",
            "title": None,
            "sort": list(dict.fromkeys(value["dataset"] for value in values)),
        },
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
