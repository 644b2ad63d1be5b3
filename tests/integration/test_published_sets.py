"""Public sets by name: the values that are published for all-MiniLM-L6-v2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import Run, refused

FILES = {
    "sts12": "sts_en/sts12_test.tsv",
    "sts16": "sts_en/sts16_test.tsv",
    "stsb": "sts_en/stsb_test.tsv",
    "korsts": "sts_ko/korsts_test.tsv",
}


@pytest.fixture
def folder(
    tmp_path: Path, shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    from huggingface_hub import constants

    for name, file in FILES.items():
        (tmp_path / f"{name}.tsv").symlink_to(shared_data(file).resolve())
    monkeypatch.setenv("EMBEDKIT_DATASETS", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.slow
def test_published_values_are_reproduced(folder: Path, run: Run) -> None:
    """KorSTS was published for the version of MTEB, and both values are known."""
    done = run("evaluate", *FILES, "-m", "minilm", "--reproduce", "--json")
    values = {
        row["dataset"]: 100 * row["value"]
        for row in done.json["results"]
        if (row["metric"], row["aggregation"]) == ("spearman", "all")
    }
    assert values == pytest.approx(
        {"sts12": 72.37, "sts16": 78.99, "stsb": 82.03, "korsts": 42.18}, abs=0.01
    )
    published = {row["dataset"]: row for row in done.json["published"]}
    assert {name: row["verdict"] for name, row in published.items()} == {
        **dict.fromkeys(("sts12", "sts16", "stsb"), "reproduced"),
        "korsts": "explained",
    }
    assert published["korsts"]["explanation"] == "data korsts-mteb"
    assert 100 * published["korsts"]["tried"]["data korsts-mteb"] == pytest.approx(42.30, abs=0.01)


@pytest.mark.usefixtures("no_model")
def test_missing_files_of_a_suite_are_named_before_a_model_is_loaded(
    folder: Path, run: Run
) -> None:
    error = refused(run("evaluate", "sts7", "-m", "minilm"))
    assert error.startswith("sts13, sts14, sts15, sickr-test are missing; ")
