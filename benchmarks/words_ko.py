"""BM25 on Korean texts: bigrams, Kiwi's morphemes, and the words between spaces.

There is no Korean retrieval set in the data, so sentence pairs stand in for one: the query is a
hypothesis (or a question), the documents are all premises (or all other questions), and relevant
is the sentence that it follows from (or asks the same as). Pairs of equal sentences are left out.

    python benchmarks/words_ko.py ../shared/data --out benchmarks/results/words_ko.md
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from embedkit import RetrievalSet
from embedkit.data.tables import read_rows
from embedkit.data.texts import check_text
from embedkit.evaluation.bootstrap import bootstrap_means, interval
from embedkit.evaluation.ranking_metrics import RANKING_METRICS
from embedkit.evaluation.retrieval import DEPTH, IndexedQrels
from embedkit.retrieval.bm25 import Postings, TermCounts, search_terms
from embedkit.retrieval.words import Words, find_words

SETS = {  # file, columns of query and document, and the label of relevant pairs
    "XNLI ko test": ("nli_ko/xnli_ko_test.tsv.gz", "hypothesis", "premise", "label", "entailment"),
    "KLUE-NLI dev": ("nli_ko/klue_nli_dev.tsv", "hypothesis", "premise", "label", "entailment"),
    "Question_pair train": (
        "pairs_ko/question_pair_train.tsv", "sentence1", "sentence2", "is_duplicate", "1"
    ),
}  # fmt: skip
METRICS = [[*RANKING_METRICS].index(name) for name in ("ndcg@10", "mrr@10")]


def read(data: Path, name: str) -> RetrievalSet:
    file, query, document, label, wanted = SETS[name]
    columns = dict.fromkeys((query, document, label), check_text)
    rows = [cells for _, cells in read_rows(data / file, columns)]
    documents = {
        text: f"d{n:05d}" for n, text in enumerate(dict.fromkeys(x[document] for x in rows))
    }
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for row in rows:
        if row[label] == wanted and row[query] != row[document]:
            name_of = queries.setdefault(row[query], f"q{len(queries):05d}")
            qrels.setdefault(name_of, {})[documents[row[document]]] = 1
    texts = ({name: text for text, name in names.items()} for names in (queries, documents))
    return RetrievalSet(name, *texts, qrels)


def between_spaces(text: str) -> list[str]:
    return text.lower().split()


def lines(data: Path) -> Iterator[str]:
    yield "| pairs | terms | queries | documents | nDCG@10 | difference to bigrams | MRR@10 |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    ways: dict[str, Words] = {
        "bigrams (unicode)": find_words("unicode"),
        "morphemes (kiwi)": find_words("kiwi"),
        "between spaces": between_spaces,
    }
    for name in SETS:
        qrels = IndexedQrels.of(read(data, name))
        texts = qrels.data.texts
        reference = None
        for way, words in ways.items():
            postings = Postings.of([TermCounts.of(texts["document"], words)])
            every = [np.ones(postings.n, np.bool_)]
            asked = [words(text) for text in texts["query"]]
            ranked = search_terms([postings], every, asked, DEPTH)[1]
            values = 100 * qrels.measured(way, "cosine", ranked).values[METRICS]
            resampled = bootstrap_means(values)
            cells = [
                "{:.2f} [{:.2f}, {:.2f}]".format(mean, *interval(row))
                for mean, row in zip(values.mean(1), resampled, strict=True)
            ]
            difference = ""
            if reference is not None:
                delta = values[0].mean() - reference[0][0].mean()
                low, high = interval(resampled[0] - reference[1][0])
                difference = f"{delta:+.2f} [{low:+.2f}, {high:+.2f}]"
            else:
                reference = values, resampled
            yield (
                f"| {name} | {way} | {len(texts['query']):,} | {len(texts['document']):,} | "
                f"{cells[0]} | {difference} | {cells[1]} |"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = ""
    for line in lines(options.data):
        print(line, flush=True)
        table += line + "\n"
    if options.out is not None:
        options.out.write_text(table)
