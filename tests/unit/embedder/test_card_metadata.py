"""The front matter of model cards, as huggingface_hub reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from embedkit.embedder.card_metadata import CardScore, add_card_metadata, base_model_metadata

BODY = "\n# made, recipe `mean`\n\n- encoder: made\n---\n"
CARD = f"---\nlibrary_name: sentence-transformers\ntags: [embedkit, other]\n---\n{BODY}"


def write_card(folder: Path, card: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def test_the_hub_reads_what_was_added(tmp_path: Path) -> None:
    folder = write_card(tmp_path, CARD)
    first = CardScore("semantic-similarity", "개발", "spearman_cosine", 0.875, (0.75, 0.9375))
    second = CardScore("information-retrieval", "docs", "ndcg@10_cosine", 0.25)
    metadata = {"base_model": "klue/bert-base", "license": "cc-by-sa-4.0"}
    add_card_metadata(folder, "my-model", metadata, [first])
    add_card_metadata(folder, "my-model", {}, [second])
    card = ModelCard.load(folder / "README.md")
    assert card.text == BODY
    assert card.data.base_model == "klue/bert-base"
    assert card.data.license == "cc-by-sa-4.0"
    assert card.data.tags == ["embedkit", "other"]
    assert card.data.model_name == "my-model"
    one, two = card.data.eval_results
    assert (one.task_type, one.task_name) == ("semantic-similarity", "Semantic Similarity")
    assert (one.dataset_name, one.metric_type) == ("개발", "spearman_cosine")
    assert (one.metric_name, one.metric_value) == ("Spearman Cosine", 0.875)
    assert one.metric_args == {"ci95": [0.75, 0.9375]}
    assert (two.dataset_name, two.metric_value, two.metric_args) == ("docs", 0.25, None)


def test_without_scores_there_is_no_model_index(tmp_path: Path) -> None:
    folder = write_card(tmp_path, CARD)
    add_card_metadata(folder, "my-model", {"base_model": "a/b"})
    assert "model-index" not in (folder / "README.md").read_text(encoding="utf-8")


def test_the_built_in_model_is_named_as_on_the_hub() -> None:
    assert base_model_metadata("minilm") == {
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "language": "en",
        "license": "apache-2.0",
    }


def test_a_model_of_the_hub_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0" * 40
    cached = tmp_path / "models--some--model"
    write_card(cached / "snapshots" / commit, "---\nlicense: mit\nbase_model: other/one\n---\n")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    want = {"base_model": "some/model", "license": "mit"}
    assert base_model_metadata("some/model") == want
    assert base_model_metadata("some/model", commit) == want
    assert base_model_metadata("some/absent") == {}


@pytest.mark.parametrize(
    ("card", "metadata"),
    [
        ("---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\n---\n", None),
        ("---\nlicense: [mit, gpl]\n---\n", {}),
        ("---\nlanguage: [ko, en]\n---\n", {"language": ["ko", "en"]}),
        ("---\nlanguage: no\n---\n", {}),  # YAML reads it as False
        ("---\nlanguage: [ko, 1]\n---\n", {}),
        ("---\nlicense: {\n---\n", {}),
        ("---\n- license\n---\n", {}),
        ("---\nlicense: " + "[" * 5000 + "\n---\n", {}),
        ("# no front matter\nlicense: mit\n", {}),
        ("\xff", {}),
    ],
)
def test_a_folder_s_license_is_not_guessed(
    tmp_path: Path, card: str, metadata: dict[str, str] | None
) -> None:
    folder = write_card(tmp_path, "")
    (folder / "README.md").write_bytes(card.encode("latin-1"))
    if metadata is None:
        metadata = {"license": "other", "license_name": "own", "license_link": "LICENSE"}
    assert base_model_metadata(folder) == metadata


def test_only_folders_that_embedkit_wrote_name_their_base(tmp_path: Path) -> None:
    folder = write_card(tmp_path, "---\nbase_model: klue/bert-base\nlicense: mit\n---\n")
    assert base_model_metadata(str(folder)) == {"license": "mit"}
    (folder / "embedkit.json").write_text('{"embedkit": "0.1", "recipe": "mean", "source": "x"}')
    want = {"base_model": "klue/bert-base", "license": "mit"}
    assert base_model_metadata(str(folder)) == want


def test_no_card_and_no_folder(tmp_path: Path) -> None:
    assert base_model_metadata(tmp_path) == {}
    assert base_model_metadata("absent/folder/x") == {}
