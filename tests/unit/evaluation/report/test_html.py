"""report.html: what it says, and, in a real Chromium, what it does."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny
from helpers.command import Run, refused
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

from embedkit import (
    CrossEncoder,
    Embedder,
    InputError,
    Pairs,
    Report,
    RetrievalSet,
    compare,
    evaluate,
)
from embedkit.evaluation.report.heat_map import heat_map
from embedkit.evaluation.report.locale import catalogue
from embedkit.evaluation.report.page import POINTS, legend, page_data, result_table
from embedkit.evaluation.results import Difference

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked = 1">',
    "<!-- <script> {{ 7 * 7 }} &amp; \u2028 'quoted'",
    "</table></main><style>body { display: none }</style>",
    "그는 책을 읽고 있다 <b>굵게</b>",
)
ENGLISH, KOREAN = (catalogue(language)["labels"] for language in ("en", "ko"))
METRICS = ("spearman", "pearson", "ndcg@10", "recall@100", "mrr@10", "map")
UNTRANSLATED = ("and", "p_holm", *METRICS)
TEXTS = (*HOSTILE, *(text for text in tiny.TEXTS if text), "a dog runs in the park", "news")


def make_pairs(name: str, n: int = 60) -> Pairs:
    generator = np.random.default_rng(len(name))
    first, second = (generator.choice(TEXTS, n).tolist() for _ in range(2))
    first[: len(HOSTILE)] = HOSTILE
    scores = [float(len(set(a) & set(b)) % 7) for a, b in zip(first, second, strict=True)]
    return Pairs.from_columns(name, first, second, scores)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, seed=2)


@pytest.fixture(scope="module")
def report(bert: Path) -> Report:
    """Two data sets with hostile names, every layer."""
    sets = [make_pairs("<i>one</i>"), make_pairs("두 번째", 80)]
    return compare(Embedder.from_pretrained(bert), sets, layers="all")


@pytest.fixture(scope="module")
def mixed(bert: Path) -> Report:
    """Pairs between two retrieval sets, one of which has a hostile query."""
    sets = [retrieval_set("<b>first</b>"), make_pairs("pairs"), retrieval_set("second")]
    recipes = ["mean", "cls", "max@1", "mean/whiten:2"]
    return compare(Embedder.from_pretrained(bert), sets, recipes, fit="data")


def retrieval_set(name: str) -> RetrievalSet:
    documents = {str(number): text for number, text in enumerate(TEXTS)}
    queries = {f"q{number}": text for number, text in enumerate(TEXTS[:8])}
    judgements = {query: {str(number): 1, "9": 2} for number, query in enumerate(queries)}
    return RetrievalSet(name, queries, documents, judgements)


# As text


class Reader(HTMLParser):
    """The page's tags, its data, and its texts outside of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.data: Any = None
        self._open: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = self.tags[-1]

    def handle_endtag(self, tag: str) -> None:
        self._open = ("", {})

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open
        if tag in ("script", "style"):
            if attributes.get("id") == "data":
                self.data = json.loads(data)
        elif data.strip():
            self.texts.append(data.strip())


def test_the_page_is_whole_and_asks_for_nothing(report: Report) -> None:
    page = report.to_html()
    reader = Reader(page)
    assert page.startswith("<!doctype html>")
    assert page.count("<script") == page.count("</script") == 3
    for tag, attributes in reader.tags:
        assert tag not in ("link", "img", "iframe")
        assert not {"src", "onerror", "onclick"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")
    assert "default-src 'none'" in page


def test_texts_are_escaped_everywhere(report: Report) -> None:
    page = report.to_html()
    library = page.index("<script>")
    for text in (*HOSTILE[:3], HOSTILE[4]):
        assert text not in page
    assert "\u2028" not in page[:library]
    assert "<!--" not in page
    reader = Reader(page)
    assert "<i>one</i>" in reader.texts
    points = reader.data["datasets"][0]["points"]
    assert points["sentence1"][: len(HOSTILE)] == list(HOSTILE)


def test_the_page_shows_the_results(report: Report) -> None:
    texts = Reader(report.to_html()).texts
    # The table of all data sets, with the average that the verdict is on, comes first.
    overview, texts = (texts[: (end := texts.index("Select a heading to sort."))], texts[end:])
    assert [*report.grid().headings[:-1]] == [x for x in report.grid().headings if x in overview]
    (average,) = (row for row in report.averages if row.recipe == report.best_name)
    assert average.value is not None
    assert f"{100 * average.value:.2f}" in overview
    for row in report.deciding("spearman"):
        if row.value is None or row.equal_to is not None:
            continue
        start = next(
            place
            for place, text in enumerate(texts)
            if text == row.recipe and f"{100 * row.value:.2f}" in texts[place : place + 6]
        )
        assert row.ci95 is not None
        assert f"[{100 * row.ci95[0]:.1f}, {100 * row.ci95[1]:.1f}]" in texts[start : start + 7]
        held = row.baseline
        if held is not None and held.value is not None and held.ci95 is not None:
            low, high = (f"{100 * end:+.2f}" for end in held.ci95)  # as in report.md
            shown = f"{100 * held.value:+.2f} [{low}, {high}]"
            assert shown in texts[start : start + 8]
    for note in report.notes:
        assert note in texts


def test_the_page_shows_the_protocol(report: Report) -> None:
    page = " ".join(Reader(report.with_command("embedkit compare x.tsv").to_html()).texts)
    said = report.run_metadata
    for text in ("embedkit compare x.tsv", said.model_sha256, f"torch {said.versions['torch']}"):
        assert text in page
    for used in said.data:
        assert used.sha256 in page


def test_the_page_shows_retrieval(mixed: Report) -> None:
    reader = Reader(mixed.to_html())
    assert "<b>first</b>" in reader.texts
    assert [one["metric"] for one in reader.data["datasets"]] == ["nDCG@10", "Spearman", "nDCG@10"]
    assert [one["diagnosis"] is None for one in reader.data["datasets"]] == [True, False, True]
    for heading in ("nDCG@10", "Recall@100", "MRR@10", "MAP", "Spearman"):
        assert heading in reader.texts
    for row in mixed.deciding("ndcg@10"):
        assert row.value is not None
        assert row.ci95 is not None
        assert f"{100 * row.value:.2f}" in reader.texts
        assert f"[{100 * row.ci95[0]:.1f}, {100 * row.ci95[1]:.1f}]" in reader.texts
        if row.recipe != mixed.baseline:
            assert row.baseline is not None
            at_most = "<= " if row.baseline.p == pytest.approx(2 / 10_001) else ""
            assert f"{at_most}{row.baseline.p_holm:.4f}" in reader.texts
    assert reader.texts.count("fitted on the data") == 4
    text = " ".join(reader.texts)
    for used in mixed.run_metadata.data:
        assert used.sha256 in text
    assert mixed.fit is not None
    read = f"{mixed.fit['texts']} texts, SHA-256 {mixed.fit['sha256']}"
    assert f"Recipes fitted on the scored texts themselves, {read}" in text
    assert f"8 queries, {len(TEXTS)} documents, " in text
    for note in mixed.notes_in("ko"):
        assert note in Reader(mixed.to_html("ko")).texts


def test_the_verdict_and_the_date_come_first(report: Report) -> None:
    date = datetime.fromisoformat(report.run_metadata.date)
    assert date.tzinfo is not None
    assert report.to_dict()["protocol"]["date"] == report.run_metadata.date
    for language in ("en", "ko"):
        reader = Reader(report.to_html(language))
        texts = reader.texts[reader.texts.index(report.verdict.in_words(language)) :]
        assert texts[2] == f"{date:%Y-%m-%d}"
        assert ("time", {"datetime": report.run_metadata.date}) in reader.tags
        assert str(date) in texts


def test_every_section_is_in_the_navigation(report: Report, bert: Path) -> None:
    alone = evaluate(Embedder.from_pretrained(bert, "mean"), make_pairs("x"))
    always = {"results", "notes", "diagnosis", "metadata"}
    for shown, expected in ((report, {"comparison", "heat"}), (alone, set())):
        tags = Reader(shown.to_html()).tags
        links = [attributes["href"] for tag, attributes in tags if tag == "a"]
        sections = [f"#{attributes['id']}" for tag, attributes in tags if tag == "section"]
        assert links == sections
        assert {*sections} == {f"#{name}" for name in always | expected}


def with_differences(report: Report, held: dict[str, tuple[float, float | None]]) -> Report:
    """The report with other differences to the baseline, and p-values, on its first data set."""
    rows = []
    for row in report.results:
        if row.dataset == report.datasets[0] and row.recipe in held:
            value, p = held[row.recipe]
            ci95 = None if p is None else (value - 0.1, value + 0.1)
            rows.append(replace(row, baseline=Difference("mean", value, ci95, p, p)))
        else:
            rows.append(row)
    return replace(report, results=tuple(rows))


def test_colours_tell_what_is_significant(report: Report) -> None:
    held = {"cls": (-0.2, 0.049), "max": (0.2, 0.049), "max@1": (0.2, 0.05), "last": (0.2, None)}
    expected = {"cls": "worse", "max": "better", "max@1": "other", "last": "other"}
    best = report.best_name
    assert best is not None
    assert report.baseline is not None
    assert {best, report.baseline}.isdisjoint(held)
    for p, worth in ((0.01, "significantly better"), (0.06, "not significant")):
        changed = with_differences(report, held | {best: (0.3, p)})
        scores = page_data(changed, "en")["datasets"][0]["scores"]
        standings = {row["recipe"]: row["standing"] for row in scores}
        assert standings.items() >= {**expected, best: "best", "mean": "baseline"}.items()
        assert [row["recipe"] for row in scores] == [
            recipe for recipe in report.rows() if recipe != "cls@0"
        ]
        shown = {row["recipe"]: row for row in scores}
        assert (shown["cls"]["difference"], shown["cls"]["difference_ci95"]) == (
            -0.2,
            pytest.approx((-0.3, -0.1)),
        )
        assert legend(changed, report.datasets[0], ENGLISH) == {
            "best": f"best: {worth}",
            "baseline": "baseline",
            "better": "significantly better",
            "worse": "significantly worse",
            "other": "not significant / not tested",
        }
        table = result_table(changed, report.datasets[0], KOREAN)
        column = table.headings.index(KOREAN["difference"])
        kinds = {row[0].text: row[column].kind for row in table.rows}
        shown_kinds = [kinds[recipe] for recipe in ("cls", "max", "max@1", "mean")]
        assert shown_kinds == ["worse", "better", "", ""]


def test_the_heat_map_marks_what_is_missing(bert: Path) -> None:
    recipes = ["mean@0", "mean@1", "cls@0", "max@1", "mean@0,1", "max/normalize"]
    shown = compare(Embedder.from_pretrained(bert), make_pairs("x"), recipes)
    value = {row.recipe: row.value for row in shown.deciding("spearman")}
    found = heat_map(shown, "x", ENGLISH)
    assert found is not None
    assert found.unit == "Spearman x 100"
    assert found.poolings == ("mean", "cls", "max")
    defined = {name: value[name] for name in ("mean@0", "mean@1", "max@1")}
    lowest, highest = min(defined.values()), max(defined.values())
    assert (found.low, found.high) == (f"{100 * lowest:.1f}", f"{100 * highest:.1f}")
    (one, last), (zero, first) = found.rows
    assert (one, zero) == (1, 0)
    cells = {"mean@1": last[0], "cls@1": last[1], "max@1": last[2]}
    cells |= {"mean@0": first[0], "cls@0": first[1], "max@0": first[2]}
    for name, number in defined.items():
        share = round(100 * (number - lowest) / (highest - lowest))
        assert (cells[name].text, cells[name].percent) == (f"{100 * number:.1f}", share)
        assert cells[name].title.startswith(f"{name}: {100 * number:.2f} [")
    assert cells["mean@0"].kind.split()[1:] == [
        "best" if shown.best_name == "mean@0" else "baseline"
    ]
    assert cells["cls@0"].title == "cls@0: no value"
    assert cells["cls@1"].title == "cls@1: not compared"
    assert {cells[name].kind for name in ("cls@0", "cls@1", "max@0")} == {"missing"}
    page = Reader(shown.to_html("ko"))
    assert page.texts.count("–") == 3
    assert "Spearman x 100" in page.texts
    assert "값이 없거나 비교하지 않음" in page.texts


def test_one_hidden_state_has_no_heat_map(bert: Path) -> None:
    shown = compare(Embedder.from_pretrained(bert), make_pairs("x"), ["mean", "max", "pooler"])
    assert heat_map(shown, "x", ENGLISH) is None
    assert ENGLISH["section_heat"] not in Reader(shown.to_html()).texts


@pytest.mark.parametrize(
    ("options", "english", "korean"),
    [
        ({}, "Cosine similarity", "코사인 유사도"),
        ({"similarities": ["dot", "cosine"]}, "Dot product", "내적"),
        ({"head": "ridge", "train": make_pairs("train")}, "Prediction", "예측"),
    ],
)
def test_predictions_are_named_by_the_similarity(
    bert: Path, options: dict[str, Any], english: str, korean: str
) -> None:
    shown = compare(Embedder.from_pretrained(bert), make_pairs("x"), ["mean", "max"], **options)
    assert page_data(shown, "en")["prediction"] == english
    assert page_data(shown, "ko")["prediction"] == korean


def test_a_path_that_is_no_unicode_does_not_keep_the_page_from_being_written(
    report: Report,
) -> None:
    page = report.with_command("embedkit compare x\udcff.tsv").to_html()
    assert b"compare x\\udcff.tsv" in page.encode("utf-8")


def test_both_languages_have_the_same_texts() -> None:
    english, korean = catalogue("en"), catalogue("ko")
    assert {kind: [*texts] for kind, texts in english.items()} == {
        kind: [*texts] for kind, texts in korean.items()
    }


@pytest.mark.parametrize("key", ENGLISH)
def test_every_label_is_in_both_languages(key: str) -> None:
    english, korean = ENGLISH[key], KOREAN[key]
    fields = re.findall(r"\{\w+\}", english)
    assert sorted(fields) == sorted(re.findall(r"\{\w+\}", korean))
    assert any("가" <= letter <= "힣" for letter in korean) or key in UNTRANSLATED


def test_korean(report: Report) -> None:
    reader = Reader(report.to_html("ko"))
    assert ("html", {"lang": "ko"}) in reader.tags
    for text in ("결과", "오류 분석", "실행 정보", *report.notes_in("ko")):
        assert text in reader.texts
    assert "Results" not in reader.texts
    used = report.run_metadata.data[0]
    counts = f"문장 쌍 {used.pairs:,}개, 서로 다른 문장 {used.distinct_sentences:,}개, "
    assert any(text.startswith(counts) for text in reader.texts)


def test_another_language_is_refused(run: Run, bert: Path, report: Report, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown language 'fr'; choose from en, ko"):
        report.to_html("fr")
    message = refused(run("compare", "first_look", "-m", bert, "--lang", "fr"))
    assert message == "unknown language 'fr'; choose from en, ko"


def test_out_writes_the_page(run: Run, bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("evaluate", "first_look", "-m", bert, "--out", out, "--lang", "ko")
    assert done.code == 0, done.err
    assert f"{out / 'report.html'}" in done.err.replace("\n", "")
    assert '<html lang="ko">' in (out / "report.html").read_text(encoding="utf-8")


def test_a_large_set_is_sampled(bert: Path) -> None:
    n = POINTS + 100
    texts = [TEXTS[place % len(TEXTS)] for place in range(n)]
    pairs = Pairs.from_columns("large", texts, texts[::-1], [float(k % 5) for k in range(n)])
    (found,) = page_data(evaluate(bert, pairs), "en")["datasets"]
    points = found["points"]
    assert points["n"] == n
    (predictions,) = points["predictions"].values()
    assert len(points["scores"]) == len(points["sentence1"]) == len(predictions) == POINTS


def test_notebooks_show_the_table(report: Report) -> None:
    shown = report._repr_html_()
    assert shown.count("<tr>") == len(report.rows()) + 1
    for note in report.notes:
        assert note.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#x27;") in shown
    assert "<i>one</i>" not in shown
    assert "&lt;i&gt;one" in shown


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("not installed: Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--window-size=1280,900", f"--user-data-dir={tmp_path_factory.mktemp('profile')}"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(chromedriver)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(600)
    driver.set_script_timeout(600)
    yield driver
    driver.quit()


def until(driver: Any, expression: str) -> Any:
    """The value of an expression of JavaScript, as soon as it is true."""
    wait = WebDriverWait(driver, timeout=600, poll_frequency=0.05)
    return wait.until(lambda driver: driver.execute_script(f"return {expression}"))


def settled(driver: Any, plot: str = "scatter") -> None:
    until(
        driver,
        "document.readyState === 'complete' && !document.body.hasAttribute('aria-busy') && "
        f"document.querySelector('#{plot} svg') !== null",
    )


@pytest.fixture(scope="module")
def address(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder = tmp_path_factory.mktemp("pages")
    for language in ("en", "ko"):
        (folder / f"{language}.html").write_text(report.to_html(language), encoding="utf-8")
    return lambda language: (folder / f"{language}.html").as_uri()


@pytest.fixture
def page(browser: Any, address: Callable[[str], str]) -> Iterator[Any]:
    """The page, freshly opened; at the end it must have been quiet, safe and offline."""
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(address("en"))
    settled(browser)
    yield browser
    settled(browser)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
        and message["params"]["documentURL"].startswith("file://")  # not the browser's own start
    ]
    assert len(asked) >= 1  # the page itself
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.images.length") == 0
    assert browser.execute_script("return document.scripts.length") == 3


def choose(driver: Any, name: str, value: str) -> None:
    driver.execute_script(
        "const select = document.getElementById(arguments[0]); select.value = arguments[1];"
        "if (select.value !== arguments[1]) throw new Error('no such option');"
        "select.dispatchEvent(new Event('change'));",
        *(name, value),
    )
    settled(driver)


def cells(driver: Any, table: str, column: int) -> list[str]:
    found: list[str] = driver.execute_script(
        "return [...document.querySelector(arguments[0]).tBodies[0].rows]"
        ".map(row => row.cells[arguments[1]].textContent)",
        *(table, column),
    )
    return found


def marks(driver: Any, plot: str, kind: str) -> list[dict[str, str]]:
    """What a screen reader is told about the marks of a plot: titles of axes and values."""
    labels: list[str] = driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(mark => mark.ariaLabel)",
        f"#{plot} .mark-{kind} [aria-label]",
    )
    parts = [label.replace("\u2212", "-").split("; ") for label in labels]
    return [dict(part.rsplit(": ", 1) for part in of_mark) for of_mark in parts]


def test_every_plot_is_drawn(page: Any) -> None:
    for name in ("differences", "scores", "scatter", "by_length", "by_overlap"):
        labels = page.execute_script(
            "return [...document.querySelectorAll(arguments[0])]"
            ".map(svg => svg.closest('[role=graphics-document]').ariaLabel)",
            f"#{name} svg",
        )
        assert labels == [ENGLISH[name]]
    assert (
        page.execute_script("return document.querySelectorAll('#scatter .mark-symbol path').length")
        >= 60
    )
    shown = "#heat [data-set='0'] td"
    assert len(page.find_elements("css selector", shown)) == 3 * 6
    assert [cell.text for cell in page.find_elements("css selector", f"{shown}.missing")] == ["–"]


def test_the_plots_show_paired_differences_beside_the_scores(page: Any, report: Report) -> None:
    rows = {row.recipe: row for row in report.deciding("spearman") if row.dataset == "<i>one</i>"}
    recipes = [recipe for recipe in report.rows() if rows[recipe].value is not None]
    title = f"Spearman x 100, minus {report.baseline}"
    for plot, axis in (("differences", title), ("scores", "Spearman x 100")):
        shown = {mark["recipe"]: float(mark[axis]) for mark in marks(page, plot, "symbol")}
        assert [*shown] == recipes
        for recipe, number in shown.items():
            row = rows[recipe]
            if plot == "scores":
                value = row.value
            else:
                value = 0.0 if row.baseline is None else row.baseline.value
            assert value is not None
            assert number == pytest.approx(100 * value, abs=1e-6)
        intervals = {mark["recipe"]: mark for mark in marks(page, plot, "rule") if "high" in mark}
        assert {*intervals} == {*recipes} - ({report.baseline} if plot == "differences" else set())
        for recipe, mark in intervals.items():
            held = rows[recipe].baseline
            ci95 = rows[recipe].ci95 if plot == "scores" else held and held.ci95
            assert ci95 is not None
            low, high = float(mark[axis]), float(mark["high"])
            assert (low, high) == pytest.approx((100 * ci95[0], 100 * ci95[1]), abs=1e-6)


def test_the_axis_is_on_top_and_colours_have_a_legend(page: Any) -> None:
    for plot in ("differences", "scores"):
        ticks, points = (
            page.execute_script(
                "return [...document.querySelectorAll(arguments[0])]"
                ".map(element => element.getBoundingClientRect().top)",
                f"#{plot} {selector}",
            )
            for selector in (".role-axis-title text", ".mark-symbol path")
        )
        assert max(ticks) < min(points)
        colours = page.execute_script(
            "return [...document.querySelectorAll(arguments[0])]"
            ".map(element => getComputedStyle(element).fill)",
            f"#{plot} .mark-symbol path",
        )
        named = page.execute_script(
            "return [...document.querySelectorAll('#comparison .legend:not([hidden]) .swatch')]"
            ".map(element => getComputedStyle(element).backgroundColor)"
        )
        assert {*colours} == {*named}
        assert len(named) == len({*named}) >= 3


def test_bars_have_intervals(page: Any, report: Report) -> None:
    diagnosis = report.error_analyses[0]
    choose(page, "recipe", "max@1")
    (one,) = (one for one in diagnosis.recipes if one.recipe == "max@1")
    for plot, bins in (("by_length", one.by_length), ("by_overlap", one.by_overlap)):
        bars = [float(mark["Spearman x 100"]) for mark in marks(page, plot, "rect")]
        assert bars == pytest.approx([100 * of.value for of in bins if of.value is not None])
        lines = [(float(m["Spearman x 100"]), float(m["high"])) for m in marks(page, plot, "rule")]
        assert lines == [
            pytest.approx((100 * of.ci95[0], 100 * of.ci95[1])) for of in bins if of.ci95
        ]
        assert lines


def test_the_navigation_stays_beside_the_page(page: Any) -> None:
    rectangle = "const {left, top, right, bottom} = document.querySelector(arguments[0])"
    rectangle += ".getBoundingClientRect(); return {left, top, right, bottom}"
    page.execute_script("document.querySelector('nav a[href=\"#metadata\"]').click()")
    assert page.execute_script("return scrollY") > 500
    nav, content = (page.execute_script(rectangle, name) for name in ("nav", ".page"))
    assert nav["top"] == 0
    assert nav["right"] <= content["left"]


def test_headings_sort(page: Any, report: Report) -> None:
    buttons = page.find_elements("css selector", "#results [data-set]:not([hidden]) th button")
    values = {
        row.recipe: row.value
        for row in report.deciding("spearman")
        if row.dataset == "<i>one</i>" and row.value is not None and row.equal_to is None
    }
    for sign in (-1, 1):
        buttons[1].click()
        shown = [float(text) for text in cells(page, ".results", 1) if text != "-"]
        expected = sorted((100 * value for value in values.values()), key=lambda x: sign * x)
        assert shown == pytest.approx(expected, abs=0.006)
        assert cells(page, ".results", 1)[-1] == "-"  # what has no value is always last
    buttons[0].click()
    names = [text.split(" ")[0] for text in cells(page, ".results", 0)]
    assert len(names) == len(report.rows())
    assert names == page.execute_script(
        "return arguments[0].sort((a, b) => a.localeCompare(b))", names
    )


def test_another_recipe_is_shown(page: Any, report: Report) -> None:
    diagnosis = report.error_analyses[0]
    quoted = {pair.pair: pair for pair in diagnosis.quoted}
    before = page.execute_script("return document.querySelector('#scatter svg').outerHTML")
    for one in diagnosis.recipes:
        if one.recipe in ("max@1", "pooler"):
            choose(page, "recipe", one.recipe)
            assert cells(page, "#worst", 0) == [quoted[miss.pair].sentence1 for miss in one.worst]
            after = page.execute_script("return document.querySelector('#scatter svg').outerHTML")
            assert after != before
            chosen = page.execute_script(
                "return document.querySelector('tr.chosen td').dataset.value"
            )
            assert chosen == one.recipe


def test_two_recipes_disagree(page: Any, report: Report) -> None:
    choose(page, "one", "max@1")
    choose(page, "other", "mean")
    one, other = (report.pair_predictions[0].values[name] for name in ("max@1", "mean"))
    from scipy.stats import rankdata

    rounded = [np.array([float(f"{x:.4g}") for x in values]) for values in (one, other)]
    ranks = [rankdata(values) for values in rounded]
    off = np.abs(ranks[0] - ranks[1])
    shown = [abs(int(text.split()[0])) for text in cells(page, "#disagree", 5)]
    assert shown == pytest.approx(100 * np.sort(off)[::-1][:20] / (len(off) - 1), abs=0.51)


def test_another_data_set_is_shown(page: Any) -> None:
    choose(page, "dataset", "1")
    visible = page.find_elements("css selector", "#results [data-set]:not([hidden]) caption")
    assert [caption.text for caption in visible] == ["두 번째"]
    symbols = "return document.querySelectorAll('#scatter .mark-symbol path').length"
    assert page.execute_script(symbols) >= 80


def test_hostile_sentences_are_text(page: Any, report: Report) -> None:
    shown = page.execute_script("return document.body.innerText")
    quoted = {
        text
        for one in report.error_analyses[0].recipes
        if str(report.best) == one.recipe
        for miss in one.worst
        for pair in report.error_analyses[0].quoted
        if pair.pair == miss.pair
        for text in (pair.sentence1, pair.sentence2)
    }
    hostile = quoted & set(HOSTILE[:3])
    assert hostile
    for text in hostile:
        assert text in shown


def test_a_point_tells_its_sentences(page: Any) -> None:
    from selenium.webdriver import ActionChains

    page.execute_script("document.getElementById('scatter').scrollIntoView({block: 'center'})")
    point = page.find_element("css selector", "#scatter .mark-symbol path")
    ActionChains(page).move_to_element(point).perform()
    tip = until(page, "document.querySelector('#vg-tooltip-element.visible')?.innerText")
    assert "Sentence 1" in tip


@contextmanager
def emulated(driver: Any, width: int = 0, **media: Any) -> Iterator[None]:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    try:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        if width:
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def colours(driver: Any) -> list[str]:
    """Of the page, a label, a point and a cell of the heat map."""
    found: list[str] = driver.execute_script(
        "const style = (name) => getComputedStyle(document.querySelector(name));"
        "return [style('body').backgroundColor, style('#scores text').fill,"
        "style('#scores .mark-symbol path').fill, style('.heat .low').backgroundColor]"
    )
    return found


def test_dark_and_on_paper(page: Any) -> None:
    light = colours(page)
    dark_theme = [{"name": "prefers-color-scheme", "value": "dark"}]
    with emulated(page, features=dark_theme):
        dark = colours(page)
        assert all(one != other for one, other in zip(light, dark, strict=True))
    with emulated(page, media="print", features=dark_theme):
        assert colours(page) == light
        assert not page.find_element("css selector", "nav").is_displayed()
        assert page.find_element("id", "scores").is_displayed()


@pytest.mark.parametrize("language", ["en", "ko"])
def test_on_a_phone(page: Any, address: Callable[[str], str], language: str) -> None:
    with emulated(page, width=390):
        page.get(address(language))
        settled(page)
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
        nav, header = (
            page.execute_script(
                "return document.querySelector(arguments[0]).getBoundingClientRect()", name
            )
            for name in ("nav", "header")
        )
        assert nav["bottom"] <= header["top"]
        for plot in ("differences", "scores", "scatter", "by_length", "by_overlap"):
            ticks = page.execute_script(
                "return [...document.querySelectorAll(arguments[0])]"
                ".filter(text => Number(getComputedStyle(text).opacity) > 0)"
                ".map(text => text.getBoundingClientRect())",
                f"#{plot} .role-axis-label text",
            )
            assert len(ticks) >= 5
            for one, other in itertools.combinations(ticks, 2):
                beside = one["right"] < other["left"] or other["right"] < one["left"]
                assert beside or one["bottom"] <= other["top"] or other["bottom"] <= one["top"]
        metric = catalogue(language)["labels"]["spearman"]
        axes = page.execute_script("return document.querySelector('#scores').textContent")
        assert f"{metric} x 100" in axes


def test_retrieval_in_the_browser(browser: Any, mixed: Report, tmp_path: Path) -> None:
    path = tmp_path / "mixed.html"
    path.write_text(mixed.to_html(), encoding="utf-8")
    browser.get_log("browser")
    browser.get(path.as_uri())
    for number, data in enumerate(("<b>first</b>", "pairs", "second")):
        browser.execute_script(
            "const select = document.getElementById('dataset'); select.value = arguments[0];"
            "select.dispatchEvent(new Event('change'));",
            str(number),
        )
        settled(browser, "scores")
        captions = browser.find_elements(
            "css selector", "#results [data-set]:not([hidden]) caption"
        )
        assert [caption.text for caption in captions] == [data]
        assert browser.find_element("id", "of_pairs").is_displayed() == (data == "pairs")
        assert browser.find_element("id", "of_queries").is_displayed() == (data != "pairs")
        axis = browser.execute_script("return document.querySelector('#scores').textContent")
        assert ("Spearman x 100" if data == "pairs" else "nDCG@10 x 100") in axis
    button = browser.find_elements("css selector", "#results [data-set]:not([hidden]) th button")[1]
    button.click()
    values = {row.value for row in mixed.deciding("ndcg@10") if row.dataset == "second"}
    shown = cells(browser, "#results [data-set]:not([hidden]) .results", 1)
    assert shown[0] == f"{100 * max(value for value in values if value is not None):.2f}"
    *_, analysis = mixed.retrieval_error_analyses
    for one in analysis.recipes:
        if one.recipe in mixed.equal:
            continue
        choose(browser, "recipe", one.recipe)
        settled(browser, "by_query_length")
        quoted = {text.id: text.text for text in (*analysis.queries, *analysis.documents)}
        assert cells(browser, "#worst_queries", 0) == [quoted[x.query].strip() for x in one.worst]
        assert cells(browser, "#worst_queries", 1) == [f"{100 * x.value:.2f}" for x in one.worst]
        missed = cells(browser, "#worst_queries", 4)
        for text, error in zip(missed, one.worst, strict=True):
            for document in error.documents:
                assert f"({document.rank}) {document.document}: " in text
        bars = [float(m["nDCG@10 x 100"]) for m in marks(browser, "by_query_length", "rect")]
        assert bars == pytest.approx([100 * (own.value or 0) for own in one.by_length])
    count = f"{one.missed} of {one.relevant} relevant documents are missed."
    assert browser.find_element("id", "missed_count").text == count
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.hacked") is None


@pytest.mark.parametrize("recipe", ["mean", "cls@0"])
def test_one_recipe_makes_a_page_too(browser: Any, bert: Path, tmp_path: Path, recipe: str) -> None:
    """Of which cls@0 is one constant vector: it has no value at all."""
    path = tmp_path / "one.html"
    embedder = Embedder.from_pretrained(bert, recipe)
    report = evaluate(embedder, make_pairs("x"))
    assert ENGLISH["best"] not in Reader(report.to_html()).texts  # of one
    path.write_text(report.to_html(), encoding="utf-8")
    browser.get_log("browser")
    browser.get(path.as_uri())
    settled(browser)
    assert browser.get_log("browser") == []
    for name in ("disagreement", "of_recipe"):
        assert not browser.find_element("id", name).is_displayed()
    assert browser.find_elements("css selector", "#comparison, #heat") == []
    bars = browser.find_element("id", "by_length").text
    assert (bars == ENGLISH["no_value"]) == (recipe == "cls@0")


def test_a_cross_encoder_has_no_vectors_to_show(browser: Any, bert: Path, tmp_path: Path) -> None:
    model = CrossEncoder.untrained(bert, "mean", (0, 5))
    report = evaluate(model, make_pairs("pairs"))
    browser.get_log("browser")
    for name, shown, hidden in (
        ("cross", report, True),
        ("plain", evaluate(bert, make_pairs("pairs")), False),
    ):
        file = tmp_path / f"{name}.html"
        file.write_text(shown.to_html(), encoding="utf-8")
        browser.get(file.as_uri())
        settled(browser)
        assert browser.execute_script("return document.getElementById('shape').hidden") is hidden
        assert len(cells(browser, "#worst", 0)) > 0
    assert browser.get_log("browser") == []
