"""From a file to search results by the command line."""

from __future__ import annotations

import ast
import io
import json
import signal
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny
from helpers.command import Run, refused
from helpers.processes import exit_code
from sentence_transformers import SentenceTransformer

from embedkit import Embedder, VectorIndex, Vectors
from embedkit.encoders.packed import PackedEncoder
from embedkit.manifest import write_manifest
from embedkit.retrieval import segments
from embedkit.tokenization.token_batch import TokenBatch

TEXTS = [text for text in tiny.TEXTS if text]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    rows = [{"name": f"d{n}", "body": text} for n, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


COLUMNS = ("--text-column", "body", "--id-column", "name")


def test_from_a_file_to_hits(run: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    vectors, index = tmp_path / "vectors", tmp_path / "index"
    said = run("encode", corpus, *COLUMNS, "-m", model, "--texts", "--out", vectors, "--json").json
    assert (said["rows"], said["encoded"], said["kept"]) == (7, 7, 0)
    again = run("encode", corpus, *COLUMNS, "-m", model, "--texts", "--out", vectors)
    assert (again.code, again.out) == (0, "")
    assert "7 vectors of 16 numbers; 0 encoded, 7 kept, 0 dropped" in again.err

    said = run("index", "build", vectors, "--out", index, "--json").json
    assert (said["rows"], said["kind"], said["similarity"]) == (7, "flat", "cosine")
    done = run("search", index, TEXTS[4], "-k", 2)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == f" 1.0000  d4  {TEXTS[4]}"
    assert len(done.out.splitlines()) == 2
    found = run("search", index, TEXTS[4], "-k", 2, "--json").json
    assert found["query"] == TEXTS[4]
    assert found["hits"][0]["id"] == "d4"
    embedder = Embedder.from_pretrained(model, device="cpu")
    similarity = embedder.similarity([TEXTS[4]], TEXTS)[0]
    assert found["hits"][1]["score"] == pytest.approx(np.sort(similarity)[-2], abs=1e-6)

    queries = tmp_path / "queries.txt"
    queries.write_text(f"{TEXTS[2]}\n{TEXTS[0]}\n", encoding="utf-8")
    done = run("search", index, "--queries", queries, "-k", 1, "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [(line["id"], line["hits"][0]["id"]) for line in lines] == [(0, "d2"), (1, "d0")]
    done = run("search", index, "--queries", queries, "-k", 1)
    assert done.out.splitlines()[::2] == [f"0: {TEXTS[2]}", f"1: {TEXTS[0]}"]

    said = run("index", "remove", index, "d4", "--json").json
    assert (said["rows"], said["removed"]) == (6, 1)
    assert run("search", index, TEXTS[4], "-k", 1, "--json").json["hits"][0]["id"] != "d4"
    assert "'d0' is in the index already" in refused(run("index", "add", index, vectors))
    said = run("index", "add", index, vectors, "--update", "--json").json
    assert (said["rows"], said["removed"]) == (7, 0)
    ids = tmp_path / "ids.txt"
    ids.write_text("d1\nd2\n")
    assert run("index", "remove", index, "--ids", ids, "--json").json["rows"] == 5
    assert run("index", "compact", index, "--json").json["removed"] == 0
    done = run("index", "info", index, "--json")
    content = {"schema": 1, "folder": str(index), **VectorIndex.open(index).info}
    assert done.out == json.dumps(content, indent=2) + "\n"
    message = refused(
        run("index", "build", vectors, "--out", tmp_path / "new", "--similarity", "manhattan")
    )
    again = refused(run("index", "build", vectors, "--out", index))
    assert again == f"--out: {index} exists; expected a new path, or --overwrite to replace it"
    done = run("index", "build", vectors, "--out", index, "--overwrite", "--json")
    assert done.json["rows"] == 7
    assert message == "similarity is 'manhattan'; an index has one of cosine, dot, euclidean"
    shown = run("index", "info", index)
    lines = dict(line.split(maxsplit=1) for line in shown.out.splitlines())
    assert {name: lines[name] for name in ("kind", "rows", "dimension", "model", "folder")} == {
        "kind": "flat",
        "rows": "7 with texts",
        "dimension": "16",
        "model": f"{model}, mean",
        "folder": str(index),
    }


def test_an_index_of_a_file_with_metadata_that_follows_it(
    run: Run, model: Path, tmp_path: Path
) -> None:
    path, index = tmp_path / "docs.csv", tmp_path / "index"
    rows = ["id,text,year,분류,day"]
    texts = ["a dog", "two men", "the cat", "a man", "two dogs", "it"]
    for n, text in enumerate(texts):
        rows.append(f"d{n},{text},{2020 + n},{'질문' if n % 2 else ''},2024-01-0{n + 1}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    command = ("index", "build", path, "--id-column", "id", "-m", model, "--out", index)
    info = run(*command, "--metadata", "year, 분류", "day", "--json").json
    precision = info["origin"]["precision"]
    assert info["metadata"] == {"year": "integers", "분류": "text", "day": "dates"}
    assert (info["rows"], info["texts"]) == (6, True)
    shown = run("index", "info", index).out
    assert "\nmetadata    year (integers), 분류 (text), day (dates)\n" in shown

    search = ("search", index, texts[1], "-k", 3)
    hits = run(*search, "--where", "분류 = '질문' AND year < 2025", "--json").json["hits"]
    assert [hit["id"] for hit in hits] == ["d1", "d3"]
    assert hits[0]["metadata"] == {"year": 2021, "분류": "질문", "day": "2024-01-02"}
    done = run(*search, "--where", "분류 IS NULL AND day > '2024-01-04'")
    assert done.out.splitlines()[0].endswith("year=2024  day=2024-01-05")
    assert len(done.out.splitlines()) == 1

    rows[1] = rows[1].replace("2020", "1999")
    rows[2] = "d1,two women,2021,답,2024-01-02"
    rows[3:5] = ["new,a new dog,1,,"]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    sync = ("index", "sync", index, path)
    counts = {"added": 1, "updated": 2, "removed": 2, "kept": 2, "encoded": 2}
    expected = {"schema": 1, "folder": str(index), **counts}
    assert run(*sync, "--dry-run", "--json").json == expected
    assert run(*sync, "--json").json == expected
    done = run(*sync)
    assert done.out == ""
    assert "0 added, 0 updated, 0 removed, 5 kept, 0 encoded\n" in done.err
    condition = "year = 1999 OR 분류 = '답' OR id = 'new'"
    hits = run(*search, "--where", condition, "--json").json["hits"]
    assert {hit["id"] for hit in hits} == {"d0", "d1", "new"}

    path.write_text("id,text\nd0,a new dog\nd9,it\n", encoding="utf-8")
    options = ("--id-column", "id", "-m", model, "--texts", "--precision", precision)
    run("encode", path, *options, "--out", tmp_path / "vectors")
    add = ("index", "add", index, tmp_path / "vectors")
    assert "'d0' is in the index already" in refused(run(*add))
    assert run(*add, "--update", "--json").json["rows"] == 6
    (d0, d9) = VectorIndex.open(index).get(["d0", "d9"])
    assert (d0.text, d0.metadata) == (
        "a new dog",
        {"year": 1999, "분류": None, "day": date(2024, 1, 1)},
    )
    assert d9.metadata == dict.fromkeys(("year", "분류", "day"))
    run("index", "remove", index, "d9")

    path.write_text(rows[0] + "\n", encoding="utf-8")
    assert "has no rows, which would remove all 5" in refused(run(*sync))
    assert run(*sync, "--allow-empty", "--json").json["removed"] == 5
    assert "exists; expected a new path, or --overwrite" in refused(run(*command))


def test_batch_tokens(
    run: Run, model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They limit what runs together, and change no vector."""
    most = 0
    call = PackedEncoder.__call__

    def noting(self: PackedEncoder, batch: TokenBatch, *args: Any, **options: Any) -> Any:
        nonlocal most
        most = max(most, len(batch.token_ids))
        return call(self, batch, *args, **options)

    monkeypatch.setattr(PackedEncoder, "__call__", noting)
    command = ("encode", corpus, *COLUMNS, "-m", model)
    vectors = []
    for name, options in (("plain", ()), ("limited", ("--batch-tokens", 30))):
        most = 0
        assert run(*command, "--out", tmp_path / name, *options).code == 0
        vectors.append(Vectors.open(tmp_path / name).to_numpy())
        assert (most <= 30) == (name == "limited")
    np.testing.assert_allclose(*vectors, rtol=0, atol=1e-6)
    assert "0 encoded, 7 kept" in run(*command, "--out", tmp_path / "limited").err
    options = ("--out", tmp_path / "new", "--batch-tokens")
    message = "batch_tokens is 0; expected a whole number from 1"
    assert refused(run(*command, *options, 0)) == message
    message = refused(run(*command, *options, 11, "--reproducible"))
    assert message.startswith("got batch_tokens and reproducible; expected one of them")
    assert not (tmp_path / "new").exists()


def test_whole_numbers_as_ids(run: Run, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    run("encode", path, "-m", model, "--out", tmp_path / "v")
    run("index", "build", tmp_path / "v", "--out", tmp_path / "i", "--kind", "hnsw")
    assert run("index", "remove", tmp_path / "i", 3, 4, "--json").json["rows"] == 5
    assert "got 'x', expected whole numbers" in refused(run("index", "remove", tmp_path / "i", "x"))
    assert "the index has no 3; nothing" in refused(
        run("index", "remove", tmp_path / "i", "1", "3")
    )
    assert run("search", tmp_path / "i", TEXTS[0], "-k", 1).out == " 1.0000  0\n"


def test_search_looks_at_as_much_as_it_is_told(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    run("encode", path, "-m", model, "--out", tmp_path / "v")
    run("index", "build", tmp_path / "v", "--out", tmp_path / "ivf", "--kind", "IVF7,Flat")
    run("index", "build", tmp_path / "v", "--out", tmp_path / "hnsw", "--kind", "hnsw")
    looked = []
    parameters = segments.search_parameters

    def watch(index: Any, effort: int, selector: Any = None) -> Any:
        looked.append(effort)
        return parameters(index, effort, selector)

    monkeypatch.setattr(segments, "search_parameters", watch)
    for options in (["--nprobe", 2], []):
        run("search", tmp_path / "ivf", TEXTS[0], "-k", 1, *options)
    for options in (["--ef-search", 5], []):
        run("search", tmp_path / "hnsw", TEXTS[0], *options)
    assert looked == [2, 3, 5, 7]  # by default the root of 7 lists, rounded up, and all 7 rows
    for kind, option in (("ivf", "--ef-search"), ("hnsw", "--nprobe")):
        message = refused(run("search", tmp_path / kind, TEXTS[0], option, 3))
        assert f"got {option[2:].replace('-', '_')}, which kind" in message
        assert run("search", tmp_path / kind, TEXTS[0], option, 0).code == 2


def test_data_of_ids_in_another_encoding_and_with_empty_lines(run: Run, tmp_path: Path) -> None:
    VectorIndex.build(np.eye(3), ids=["하나", "둘", "셋"]).save(tmp_path / "index")
    path = tmp_path / "ids.txt"
    path.write_bytes("\n둘\r\n\n하나\n\n".encode("cp949"))
    command = ("index", "remove", tmp_path / "index", "--ids", path)
    assert "say --encoding cp949" in refused(run(*command))
    assert run(*command, "--encoding", "cp949", "--json").json["rows"] == 1


def test_stdin_is_a_corpus(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (content, options) in enumerate(
        [("a cat\nthe dog\n", ()), ("id,text\nx,a cat\ny,the dog\n", ("--format", "csv"))]
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        out = tmp_path / str(number)
        done = run("encode", "-", "-m", model, "--out", out, *options)
        assert done.code == 0, done.err
        want = Embedder.from_pretrained(model, device="cpu").encode(["a cat", "the dog"])
        assert np.abs(Vectors.open(out).to_numpy() - want).max() < 1e-6
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert refused(run("encode", "-", "-m", model, "--out", tmp_path / "x")) == (
        "stdin: got an empty file, expected rows"
    )
    assert "--format is 'xml'; expected one of txt" in refused(
        run("encode", "-", "-m", model, "--out", tmp_path / "x", "--format", "xml")
    )


@pytest.mark.usefixtures("no_model")
def test_wrong_input_is_found_before_a_model_is_loaded(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    VectorIndex.build(np.eye(3), metadata={"year": [1, 2, 3]}).save(tmp_path / "index")
    for arguments, message in (
        (
            ("encode", tmp_path / "no.txt", "--out", tmp_path / "v"),
            "no.txt: cannot be read (No such file",
        ),
        (("encode", corpus, "--out", tmp_path / "v"), "expected 'text' among them"),
        (("encode", corpus, *COLUMNS, "--out", tmp_path / "v", "--dtype", "int8"), "dtype is"),
        (("encode", corpus, *COLUMNS, "--out", tmp_path / "v", "--batch-tokens", 0), "is 0"),
        (("search", tmp_path, "x"), "has no index.json"),
        (("search", tmp_path / "index"), "expected either a QUERY or a file of them"),
        (("search", tmp_path / "index", "x", "--queries", corpus), "expected either a QUERY"),
        (("search", tmp_path / "index", "x", "-k", 0), "-k is 0"),
        (("search", tmp_path / "index", "--queries", corpus), "expected 'text' among them"),
        (("search", tmp_path / "index", "x"), "does not record the model of its vectors"),
        (("index", "build", tmp_path / "index", "--out", tmp_path / "i"), "index: is an index"),
        (("index", "remove", tmp_path / "index"), "got no ids"),
        (("search", tmp_path / "index", "x", "-m", "m", "--where", "no = 1"), "got column 'no'"),
        (("search", tmp_path / "index", "x", "-m", "m", "--where", "year ="), "character 7: got"),
        (("index", "build", tmp_path, "x", "--out", tmp_path / "i"), "got the argument 'x' after"),
        (("index", "build", corpus, "--out", tmp_path / "i"), "expected 'text' among them"),
        (("index", "sync", tmp_path / "index", corpus, *COLUMNS), "expected 'year' among them"),
        (("index", "info", tmp_path / "no"), "has no index.json"),
    ):
        assert message in refused(run(*arguments))


def test_another_model_is_refused(run: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    run("encode", corpus, *COLUMNS, "-m", model, "--out", tmp_path / "v", "--recipe", "cls")
    run("index", "build", tmp_path / "v", "--out", tmp_path / "i")
    assert run("search", tmp_path / "i", TEXTS[1], "-k", 1).out == " 1.0000  d1\n"
    other = tiny.make_bert(tmp_path / "other", layers=1, width=16, seed=9)
    message = refused(run("search", tmp_path / "i", "x", "-m", other))
    assert message.endswith("makes others: it has other weights; expected the same model")
    message = refused(run("encode", corpus, *COLUMNS, "-m", model, "--out", tmp_path / "v"))
    assert "these would have another recipe; encode with the same settings, or into" in message


def interrupted(arguments: list[str]) -> None:
    """Run `embedkit`, with Ctrl-C when its second chunk of 4,096 texts has been encoded."""
    from embedkit.cli import main
    from embedkit.vectors import encode_corpus

    check, checked = encode_corpus.check_finite, 0

    def check_finite(*encoded: Any) -> None:
        nonlocal checked
        checked += 1
        if checked == 2:
            signal.raise_signal(signal.SIGINT)
        check(*encoded)

    encode_corpus.check_finite = check_finite
    sys.argv = ["embedkit", *arguments]
    main()


@pytest.mark.process
def test_ctrl_c_says_how_to_go_on(run: Run, model: Path, tmp_path: Path) -> None:
    path, out, log = tmp_path / "x.txt", tmp_path / "out", tmp_path / "log"
    path.write_text("".join(f"{n} {TEXTS[n % 7]}\n" for n in range(9000)), encoding="utf-8")
    command = ["encode", str(path), "-m", str(model), "--out", str(out)]
    assert exit_code(log, interrupted, command) == 1
    told = log.read_text(encoding="utf-8")
    assert "Traceback" not in told
    assert told.splitlines()[-1] == (
        f"interrupted: what was encoded is in {out}; run the same command to resume"
    )
    done = run(*command, "--json").json
    assert (done["kept"], done["encoded"]) == (4096, 9000 - 4096)


# Prompts: what evaluate measures is what search serves

PROMPTS = {"query": "two ", "document": "the ", "other": "a "}


@pytest.fixture(scope="module")
def prompted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prompted") / "model"
    Embedder.from_pretrained(model, "mean", prompts=PROMPTS).save_pretrained(folder)
    return folder


def scores_of(done: Any) -> list[float]:
    return [hit["score"] for hit in done.json["hits"]]


@pytest.mark.parametrize(
    ("encode", "search", "document", "query"),
    [
        ([], [], "'the ' (document)", "'two ' (query)"),
        (["--prompt", ""], [], "none", "'two ' (query)"),
        (["--prompt-name", "other"], ["--prompt", "my "], "'a ' (other)", "'my '"),
        ([], ["--query-prompt", ""], "'the ' (document)", "none"),
        (["--prompt", "x "], ["--prompt-name", "document"], "'x '", "'the ' (document)"),
    ],
)
def test_prompts_are_those_of_evaluate_and_are_told(
    encode: list[str],
    search: list[str],
    document: str,
    query: str,
    run: Run,
    prompted: Path,
    corpus: Path,
    tmp_path: Path,
) -> None:
    vectors, index = tmp_path / "vectors", tmp_path / "index"
    done = run("encode", corpus, *COLUMNS, "-m", prompted, "--out", vectors, *encode)
    assert f"prompt: {document}\n" in done.err
    again = run("encode", corpus, *COLUMNS, "-m", prompted, "--out", vectors)  # as recorded
    assert f"prompt: {document}\n" in again.err
    assert "0 encoded, 7 kept" in again.err
    first, second = (text.rpartition(" (")[0] or text for text in (document, query))
    texts = [ast.literal_eval(text) if text != "none" else "" for text in (first, second)]
    done = run("index", "build", vectors, "--out", index)
    assert f", query prompt {PROMPTS['query']!r}" in done.err
    assert (f", prompt {first}" in done.err) == bool(texts[0])
    done = run("search", index, TEXTS[3], "-k", 7, "--json", *search)
    assert f"prompt: {query}\n" in done.err

    theirs = SentenceTransformer(str(prompted), device="cpu")
    documents = theirs.encode(TEXTS, prompt=texts[0])
    asked = theirs.encode([TEXTS[3]], prompt=texts[1])
    expected = np.sort(theirs.similarity(asked, documents).numpy()[0])[::-1]
    assert scores_of(done) == pytest.approx(expected.tolist(), abs=1e-5)
    if not search:
        found = VectorIndex.open(index, Embedder.from_pretrained(prompted, device="cpu"))
        np.testing.assert_allclose(found.search([TEXTS[3]], 7).scores[0], scores_of(done))
    if not encode and not search:
        np.testing.assert_allclose(documents, theirs.encode_document(TEXTS), atol=1e-6)
        np.testing.assert_allclose(asked, theirs.encode_query([TEXTS[3]]), atol=1e-6)


def test_prompts_the_default_one_is_for_roles_without_their_own(
    run: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    theirs = SentenceTransformer(str(model), device="cpu")
    theirs.prompts, theirs.default_prompt_name = {"query": "two ", "all": "the "}, "all"
    theirs.save_pretrained(str(tmp_path / "model"))
    vectors = tmp_path / "vectors"
    done = run("encode", corpus, *COLUMNS, "-m", tmp_path / "model", "--out", vectors)
    assert "prompt: 'the ' (all)\n" in done.err
    expected = theirs.encode(TEXTS)
    np.testing.assert_allclose(Vectors.open(vectors).to_numpy(), expected, atol=1e-5)


def test_prompts_folders_of_older_versions_are_searched_as_before(
    run: Run, prompted: Path, corpus: Path, tmp_path: Path
) -> None:
    """They record the prompt of documents, and queries had the default one: here none."""
    vectors, index = tmp_path / "vectors", tmp_path / "index"
    run("encode", corpus, *COLUMNS, "-m", prompted, "--out", vectors, "--prompt", "")
    run("index", "build", vectors, "--out", index)
    for folder in (vectors, index):
        (manifest,) = folder.glob("*.json")
        state = json.loads(manifest.read_text())
        del state["origin"]["query_prompt"]
        write_manifest(
            manifest, {name: state[name] for name in state if name not in ("schema", "crc32")}
        )
    done = run("encode", corpus, *COLUMNS, "-m", prompted, "--out", vectors)
    assert "0 encoded, 7 kept" in done.err
    assert Vectors.open(vectors).origin.query_prompt is None
    done = run("search", index, TEXTS[4], "-k", 1, "--json")
    assert "prompt: none\n" in done.err
    assert scores_of(done) == pytest.approx([1], abs=1e-6)


@pytest.mark.parametrize(
    ("command", "options", "shown"),
    [
        ("build", ("--device", "cpu"), "--device"),
        ("build", ("--precision", "auto"), "--precision"),
        ("build", ("--no-texts",), "--no-texts"),
        ("build", ("--encoding", "utf-8"), "--encoding"),
        ("build", ("-m", "minilm"), "--model"),
        ("build", ("--metadata", "year"), "--metadata"),
        ("sync", ("--id-column", "id"), "--id-column"),
        ("duplicates", ("--prompt", "query: "), "--prompt"),
    ],
)
def test_a_folder_of_vectors_takes_no_options_of_texts(
    run: Run, tmp_path: Path, command: str, options: tuple[str, ...], shown: str
) -> None:
    vectors = tmp_path / "vectors"
    vectors.mkdir()
    (vectors / "manifest.json").touch()
    VectorIndex.build(np.eye(3)).save(tmp_path / "index")
    commands = {
        "build": ("index", "build", vectors, "--out", tmp_path / "new"),
        "sync": ("index", "sync", tmp_path / "index", vectors),
        "duplicates": ("duplicates", vectors),
    }
    assert refused(run(*commands[command], *options)) == (
        f"got {shown} and {vectors}, a folder of vectors; expected a file of texts"
    )


@pytest.mark.parametrize("source", ["", "*.csv", "{url}"])
def test_texts_come_from_a_folder_a_glob_or_a_url(
    run: Run, model: Path, tmp_path: Path, source: str
) -> None:
    docs, index = tmp_path / "docs", tmp_path / "index"
    docs.mkdir()
    (docs / "a.csv").write_text("id,text,n\na,a dog,1\n")
    (docs / "b.csv").write_text("id,text,n\nb,two men,2\nc,a dog,3\n")
    path = docs.as_uri() if source == "{url}" else f"{docs}/{source}"
    options = ("--id-column", "id")
    command = ("index", "build", path, *options, "-m", model, "--metadata", "n", "--out", index)
    assert run(*command, "--json").json["rows"] == 3
    assert run("search", index, "a dog", "--where", "n = 3", "--json").json["hits"][0]["id"] == "c"
    (docs / "b.csv").write_text("id,text,n\nb,two men,4\n")
    changes = run("index", "sync", index, path, "--json").json
    assert [changes[name] for name in ("updated", "removed", "kept")] == [1, 1, 1]
    kept = tmp_path / "kept.csv"
    run("duplicates", path, *options, "-m", model, "--threshold", 1, "--out", kept)
    assert kept.read_text() == "id,text,n\na,a dog,1\nb,two men,4\n"


def test_what_search_does_not_read_and_what_is_not_there(run: Run, tmp_path: Path) -> None:
    index = tmp_path / "index"
    VectorIndex.build(np.eye(3), texts=["a dog", "it", "one"], bm25=True).save(index)
    search = ("search", index, "a dog", "--mode", "bm25")
    done = run(*search, "--where", "text = 'none'")
    assert (done.code, done.out, done.err) == (0, "", "--where: no row meets the condition\n")
    assert refused(run(*search, "--rerank-depth", 5)) == (
        "got rerank_depth without rerank; expected both"
    )
    assert refused(run(*search, "--rerank", "minilm", "--rerank-depth", 0)) == (
        "rerank_depth is 0; expected a whole number from 1"
    )
    assert refused(run("index", "build", "vektors", "--out", tmp_path / "new")) == (
        "vektors: there is no such file or folder"
    )


def test_a_query_takes_no_options_of_files(run: Run, tmp_path: Path) -> None:
    assert refused(run("search", tmp_path, "rain", "--text-column", "body")) == (
        "got --text-column and a QUERY; expected a file of them (--queries)"
    )
