"""`--fit` and `--fit-on-data`: recipes that learn from texts, from the command line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from helpers import tiny
from helpers.command import Done, Run, refused
from sentence_transformers import SentenceTransformer
from sklearn.decomposition import PCA

from embedkit import Embedder, compare, load_head
from embedkit.data.corpus import Corpus

WORDS = ("cat", "rain", "sun", "city", "book", "park", "news", "birds")
FIT = [f"the {first} in the {second}" for first in WORDS for second in WORDS]
PAIRS = [(f"a {first}", f"a {second} {first}") for first in WORDS for second in WORDS[:3]]
SCORES = np.random.default_rng(3).uniform(0, 5, len(PAIRS)).round(1)
SCORED = [text for pair in PAIRS for text in pair]
ON_DATA = (
    f"mean/whiten:3: fitted on the {len(SCORED)} scored texts themselves. Their scores were not "
    "used, but results on other texts may be lower."
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, width=16, seed=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs.tsv, and beside it texts to fit on in texts.txt and texts.jsonl."""
    folder = tmp_path_factory.mktemp("data")
    rows = [f"{a}\t{b}\t{score}" for (a, b), score in zip(PAIRS, SCORES, strict=True)]
    (folder / "pairs.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *rows, ""]))
    (folder / "texts.txt").write_text("\n".join([*FIT, ""]))
    cells = [text.split(" in ") for text in FIT]
    lines = [json.dumps({"title": f"{title} in", "body": body}) for title, body in cells]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    return folder / "pairs.tsv"


def whitened(bert: Path, texts: list[str]) -> float:
    """The Spearman correlation after scikit-learn's whitening, fitted on these texts."""
    embedder = Embedder.from_pretrained(bert, device="cpu")
    pca = PCA(3, whiten=True, svd_solver="full").fit(embedder.encode(texts).astype(np.float64))
    left, right = (
        pca.transform(embedder.encode([pair[side] for pair in PAIRS]).astype(np.float64))
        for side in (0, 1)
    )
    cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    return float(scipy.stats.spearmanr(cosines, SCORES)[0])


def value(done: Done, recipe: str) -> float:
    (row,) = [
        row
        for row in done.json["results"]
        if row["recipe"] == recipe and row["metric"] == "spearman"
    ]
    return float(row["value"])


@pytest.mark.parametrize(
    "options", [("texts.txt",), ("texts.jsonl", "--fit-column", "title", "--fit-column", "body")]
)
def test_fit_on_a_file(run: Run, bert: Path, data: Path, options: tuple[str, ...]) -> None:
    done = run(
        *("compare", data, "-m", bert, "--recipes", "mean mean/whiten:3", "--json"),
        *("--fit", data.with_name(options[0]), *options[1:]),
    )
    assert value(done, "mean/whiten:3") == pytest.approx(whitened(bert, FIT), abs=1e-3)
    assert done.json["fit"] == {
        "source": options[0],
        "texts": 64,
        "sha256": hashlib.sha256("".join(f'"{text}"\n' for text in FIT).encode()).hexdigest(),
        "on_data": False,
        "recipes": {"mean/whiten:3": []},
    }
    assert f"mean/whiten:3: fitted on 64 texts ({options[0]})." in done.json["notes"]


def test_fitted_on_the_data_is_said_everywhere(
    run: Run, bert: Path, data: Path, tmp_path: Path
) -> None:
    command = ("compare", data, "-m", bert, "--recipes", "mean mean/whiten:3", "--fit-on-data")
    done = run(*command, "--json", "--out", tmp_path)
    assert value(done, "mean/whiten:3") == pytest.approx(whitened(bert, SCORED), abs=1e-3)
    assert done.json["fit"]["on_data"] is True
    assert json.loads((tmp_path / "report.json").read_text()) == done.json
    markdown = (tmp_path / "report.md").read_text()
    terminal = run(*command).out
    assert f"\n- {ON_DATA}\n" in markdown
    assert ON_DATA in " ".join(terminal.split())
    for text in (markdown, terminal):
        (row,) = [
            line for line in text.splitlines() if line.lstrip("│| ").startswith("mean/whiten:3 ")
        ]
        assert "fitted on the data" in row
        assert text.count("fitted on the data") == 1


def test_dropped_directions_are_said(run: Run, bert: Path, data: Path) -> None:
    """A mean of one layer norm's outputs has no variance along one direction."""
    texts = data.with_name("texts.txt")
    recipe = "mean/whiten"
    done = run("compare", data, "-m", bert, "--recipes", recipe, "--fit", texts, "--json")
    note = "whiten keeps 15 of 16 directions; the others vary less than float32 resolves"
    assert done.json["fit"]["recipes"] == {recipe: [note]}
    assert any(said.endswith(f"{recipe}: {note}.") for said in done.json["notes"])


def test_nothing_fitted_says_nothing(run: Run, bert: Path, data: Path) -> None:
    done = run("compare", data, "-m", bert, "--recipes", "mean mean/truncate:3", "--json")
    assert done.json["fit"] is None
    assert "fitted" not in done.out.replace('"fit": null', "")


def test_the_same_in_python(run: Run, bert: Path, data: Path) -> None:
    recipes = ["mean/whiten:3", "idf_mean/normalize", "max_content"]
    done = run(
        *("compare", data, "-m", bert, "--json", "--recipes", " ".join(recipes)),
        *("--fit", data.with_name("texts.txt")),
    )
    for fit in (Corpus(data.with_name("texts.txt")), FIT):
        report = compare(str(bert), data, recipes, fit=fit)
        assert json.loads(report.to_json())["results"] == done.json["results"]
    assert set(done.json["fit"]["recipes"]) == {"mean/whiten:3", "idf_mean/normalize"}


def test_only_what_the_report_fitted_is_labelled(bert: Path, data: Path) -> None:
    """A model's own recipe that was fitted before is not fitted on the data."""
    own = Embedder.from_pretrained(bert, "mean/whiten:3", device="cpu").fit(FIT)
    report = compare(own, data, ["mean/whiten:3", "mean/center"], fit="data")
    assert report.fit is not None
    assert report.fit["on_data"] is True
    assert report.fit["recipes"] == {"mean/center": []}
    (value,) = [
        row.value
        for row in report.results
        if row.recipe == "mean/whiten:3" and row.metric == "spearman"
    ]
    assert value == pytest.approx(whitened(bert, FIT), abs=1e-3)


def test_a_folder_s_recipe_that_was_fitted_again(bert: Path, data: Path, tmp_path: Path) -> None:
    first = Embedder.from_pretrained(bert, "mean/whiten:3", device="cpu").fit(FIT)
    first.save_pretrained(tmp_path / "first")
    again = Embedder.from_pretrained(tmp_path / "first", device="cpu").fit(SCORED)
    for report in (compare(again, data), compare(again, data, ["mean/whiten:3"])):
        (value,) = [
            row.value
            for row in report.results
            if row.recipe == "mean/whiten:3" and row.metric == "spearman"
        ]
        assert value == pytest.approx(whitened(bert, SCORED), abs=1e-3)
        assert report.fit is None


def test_save_best_keeps_what_was_fitted(run: Run, bert: Path, data: Path, tmp_path: Path) -> None:
    done = run(
        *("compare", data, "-m", bert, "--recipes", "mean/whiten:3/normalize", "--json"),
        *("--fit", data.with_name("texts.txt"), "--save-best", tmp_path / "best"),
    )
    fitted = Embedder.from_pretrained(bert, "mean/whiten:3/normalize", device="cpu").fit(FIT)
    want = fitted.encode(SCORED)
    saved = Embedder.from_pretrained(tmp_path / "best", device="cpu")
    assert str(saved.recipe) == "mean/whiten:3/normalize"
    assert saved.fingerprint == fitted.fingerprint
    theirs = SentenceTransformer(str(tmp_path / "best"), device="cpu").encode(SCORED)
    np.testing.assert_allclose(theirs, want, rtol=0, atol=1e-5 * np.abs(want).max())
    assert "steps: fitted on 64 texts (texts.txt)" in (tmp_path / "best/README.md").read_text()
    again = run("evaluate", data, "-m", tmp_path / "best", "--json")
    name = "mean/whiten:3/normalize"
    assert value(again, name) == pytest.approx(value(done, name), abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fit", "texts.txt", "--fit-on-data"), "got --fit and --fit-on-data; expected one of"),
        (("--fit-column", "text"), "got --fit-column without --fit; expected both"),
        (("--fit", "none.txt"), "none.txt: cannot be read (No such file or directory); expected a"),
        (("--fit", "texts.jsonl"), "got columns 'title', 'body', expected 'text' among them"),
        (("--fit", "texts.txt", "--fit-column", "a"), "and a .txt file has none: its lines are"),
        (("--fit", "texts.doc"), "texts.doc: got an unknown suffix, expected one of .txt, .txt.gz"),
        (("--fit", "none.doc"), "none.doc: there is no such file or folder"),
    ],
)
@pytest.mark.usefixtures("no_model")
def test_refused_before_a_model_is_loaded(
    run: Run,
    data: Path,
    options: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data.parent)
    Path("texts.doc").touch()
    assert message in refused(run("compare", data, "--recipes", "mean/whiten:3", *options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--recipes", "mean mean/normalize/whiten:3"),
            "recipe 'mean/normalize/whiten:3' learns whiten:3 from texts, and none are named; name "
            "some with fit (--fit FILE), or fit it on the scored texts with fit='data' "
            "(--fit-on-data)",
        ),
        (
            ("--recipes", "mean mean/truncate:3", "--fit", "texts.txt"),
            "got texts to fit on, and no recipe learns from texts",
        ),
        (("--fit-on-data",), "got texts to fit on, and no recipe learns from texts"),
        (
            ("--recipes", "mean/pca:17", "--fit", "texts.txt"),
            "recipe 'mean/pca:17': step pca:17 has vectors of 16 numbers before it; expected 1 to "
            "16",
        ),
        (
            ("--recipes", "mean mean_content", "--save-best", "best"),
            "recipe 'mean_content' cannot be saved: sentence-transformers has no pooling "
            "mean_content; choose one that it has, such as mean",
        ),
        (
            ("--recipes", "idf_mean", "--fit", "texts.txt", "--save-best", "best"),
            "recipe 'idf_mean' cannot be saved: sentence-transformers has no pooling idf_mean; "
            "choose one that it has, such as mean",
        ),
    ],
)
@pytest.mark.usefixtures("no_forward")
def test_refused_before_a_text_is_encoded(
    run: Run,
    bert: Path,
    data: Path,
    options: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data.parent)
    assert refused(run("compare", data, "-m", bert, *options)) == message
    assert not Path("best").exists()


def test_too_few_texts(run: Run, bert: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("a cat\nrain\nthe sun\n")
    command = ("compare", data, "-m", bert, "--fit", tmp_path / "few.txt", "--recipes")
    assert refused(run(*command, "mean/whiten")) == (
        "recipe 'mean/whiten': step whiten needs more than 16 texts to fit on, got 3"
    )


@pytest.mark.usefixtures("no_forward")
def test_encode_and_heads_refuse_what_is_not_fitted(
    run: Run, bert: Path, data: Path, tmp_path: Path
) -> None:
    message = (
        "recipe 'mean/whiten:3': whiten:3 is not fitted yet; fit it on texts first, with "
        "Embedder.fit(texts) (embedkit compare --fit FILE --save-best DIR on the command line)"
    )
    options = ("-m", bert, "--recipe", "mean/whiten:3", "--out", tmp_path / "out")
    assert refused(run("encode", data.with_name("texts.txt"), *options)) == message
    assert refused(run("train", "head", data, *options)) == message
    assert list(tmp_path.iterdir()) == []


def test_a_head_on_fitted_steps(run: Run, bert: Path, data: Path, tmp_path: Path) -> None:
    done = run(
        *("train", "head", data, "-m", bert, "--recipe", "mean/whiten:3", "--out", tmp_path / "h"),
        *("--fit", data.with_name("texts.txt")),
    )
    assert done.code == 0, done.err
    embedder = load_head(tmp_path / "h", device="cpu").embedder
    assert embedder is not None
    fitted = Embedder.from_pretrained(bert, "mean/whiten:3", device="cpu").fit(FIT)
    assert embedder.fingerprint == fitted.fingerprint
