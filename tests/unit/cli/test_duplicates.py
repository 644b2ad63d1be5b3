"""Duplicates of a file by the command line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import tiny
from helpers.command import Run, refused

TEXTS = ["rain", "그는 책을 읽고 있다", "rain", "the cat reads a book slowly", "rain"]
KEPT = [0, 1, 3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16)


def write(path: Path) -> list[bytes] | None:
    """The texts as a file of some format with other columns; its lines, of text."""
    rows = [{"name": f"d{n}", "body": text, "year": [n, None]} for n, text in enumerate(TEXTS)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return None
    lines = {
        ".txt": TEXTS,
        ".tsv": ["body\tname", *(f"{text}\td{n}" for n, text in enumerate(TEXTS))],
        ".csv": ['name,"a, b",body', *(f'd{n},"x\n""y",{text}' for n, text in enumerate(TEXTS))],
        ".jsonl": [json.dumps(row, ensure_ascii=False) for row in rows],
    }
    content = "".join(f"{line}\n" for line in lines[Path(path.name.removesuffix(".gz")).suffix])
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return [line.encode() for line in lines[Path(path.name.removesuffix(".gz")).suffix]]


def test_groups_are_printed(run: Run, model: Path, tmp_path: Path) -> None:
    write(tmp_path / "docs.csv")
    columns = ("--text-column", "body", "--id-column", "name")
    command = ("duplicates", tmp_path / "docs.csv", *columns, "-m", model, "--threshold", 1)
    done = run(*command)
    assert done.code == 0, done.err
    assert done.out == "d0  rain\n  1.0000  d2  rain\n  1.0000  d4  rain\n"
    assert "2 exact and 0 near duplicates in 1 group; 3 of 5 rows are kept" in done.err
    members: list[dict[str, Any]] = [{"id": f"d{n}", "text": "rain", "score": 1.0} for n in (2, 4)]
    assert run(*command, "--json").json == {
        "schema": 1,
        "threshold": 1.0,
        "rows": 5,
        "kept": 3,
        "exact": 2,
        "near": 0,
        "groups": [{"id": "d0", "text": "rain", "duplicates": members}],
    }


@pytest.mark.parametrize("suffix", ["txt", "txt.gz", "tsv", "csv", "jsonl", "jsonl.gz", "parquet"])
def test_kept_rows_are_as_they_were(run: Run, model: Path, tmp_path: Path, suffix: str) -> None:
    path, out = tmp_path / f"docs.{suffix}", tmp_path / f"kept.{suffix}"
    lines = write(path)
    column = () if suffix.startswith("txt") else ("--text-column", "body")
    command = ("duplicates", path, *column, "-m", model, "--threshold", 1, "--out", out)
    done = run(*command)
    assert done.code == 0, done.err
    if lines is None:
        assert pq.read_table(out).equals(pq.read_table(path).take(KEPT))
    else:
        header = len(lines) - len(TEXTS)
        wanted = [*lines[:header], *(lines[header + row] for row in KEPT)]
        written = out.read_bytes()
        written = gzip.decompress(written) if suffix.endswith(".gz") else written
        assert written == b"".join(line + b"\n" for line in wanted)
    assert "expected a new path, or --overwrite" in refused(run(*command))
    assert run(*command, "--overwrite").code == 0


def test_a_folder_of_vectors(run: Run, model: Path, tmp_path: Path) -> None:
    write(tmp_path / "docs.txt")
    for name, flags in (("with", ["--texts"]), ("without", [])):
        encode = ("encode", tmp_path / "docs.txt", "-m", model, *flags, "--out", tmp_path / name)
        assert run(*encode).code == 0
    command = ("duplicates", tmp_path / "with", "--threshold", 1, "--out", tmp_path / "kept.csv")
    assert run(*command).out == "0  rain\n  1.0000  2  rain\n  1.0000  4  rain\n"
    rows = "".join(f"{row},{TEXTS[row]}\n" for row in KEPT)
    assert (tmp_path / "kept.csv").read_text(encoding="utf-8") == f"id,text\n{rows}"
    bare = run("duplicates", tmp_path / "without", "--threshold", 1)
    assert bare.out == "0\n  1.0000  2\n  1.0000  4\n"


def test_wrong_use_is_refused_before_the_model_is_loaded(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "docs.csv"
    write(path)
    command = ("duplicates", path, "--text-column", "body", "-m", tmp_path / "none")
    assert refused(run(*command, "--threshold", "1.5")) == (
        "threshold is 1.5; expected a cosine, from -1 to 1"
    )
    assert "expected the input's format, .csv" in refused(run(*command, "--out", "kept.tsv"))
    assert "the input itself" in refused(run(*command, "--out", path, "--overwrite"))
    assert "expected 'text' among them" in refused(run("duplicates", path))
    assert "none" in refused(run(*command))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_of_other_columns_are_refused_for_one_output(
    run: Run, model: Path, tmp_path: Path, suffix: str
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    if suffix == "csv":
        for number, columns in enumerate(("text,year", "year,text", "text,month")):
            (folder / f"{number}.csv").write_text(f"{columns}\na,b\n")
    else:
        for number, dtype in enumerate((pa.int32(), pa.int32(), pa.int64())):
            table = pa.table({"text": ["a"], "year": pa.array([number], dtype)})
            pq.write_table(table, folder / f"{number}.parquet")
    out = ("--out", tmp_path / f"kept.{suffix}")
    assert refused(run("duplicates", folder, "-m", "none", *out)) == (
        f"{folder}/2.{suffix}: has other columns than {folder}/0.{suffix}; expected the same for "
        "one --out"
    )
    (folder / f"2.{suffix}").unlink()
    if suffix == "csv":
        (folder / "2.csv").write_text("text,year\n")  # without rows
    assert run("duplicates", folder, "-m", model, *out).code == 0
