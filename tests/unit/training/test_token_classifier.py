"""Token classifiers: training, kills, tags, scores, folders; in Python and on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from helpers import tiny
from helpers.command import Run, refused
from helpers.entities import english, korean
from helpers.trainings import kill
from huggingface_hub import ModelCard

from embedkit import Embedder, InputError, load_model
from embedkit.data.entities import Span, TaggedText, TaggedTexts
from embedkit.data.entity_files import read_entities, write_entities
from embedkit.embedder.folder_kind import folder_kind
from embedkit.tagging.entity_scores import entity_f1, evaluate_tagger
from embedkit.tagging.lookup import look_up
from embedkit.tagging.tagger import Tagger
from embedkit.training.arguments import TrainingSettings
from embedkit.training.token_classifier import train_token_classifier

FAST = TrainingSettings(epochs=30, batch_size=8, learning_rate=3e-3, evaluations=5, device="cpu")
DATA = {"character": korean(48), "word": english(48)}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a tokenizer that keeps syllables whole, as Korean ones do."""
    folder = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, seed=1, pooler=False)
    return tiny.make_tokenizer_files(folder, lowercase=False)


@pytest.fixture(scope="module", params=["character", "word"])
def trained(
    request: pytest.FixtureRequest, bert: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tagger, Path]:
    out = tmp_path_factory.mktemp("trained") / request.param
    data = DATA[request.param]
    return train_token_classifier([data], data, out, model=bert, settings=FAST), out


def dev(tagger: Tagger) -> TaggedTexts:
    return DATA[tagger.unit]


def test_it_learns(trained: tuple[Tagger, Path]) -> None:
    tagger, folder = trained
    assert repr(tagger).startswith(f"Tagger(unit='{tagger.unit}', name='")
    assert "\n" not in repr(tagger)
    report = evaluate_tagger(tagger, dev(tagger), show_progress=False)
    assert report["entity_f1"].value > 0.95
    assert tagger.notes["F1 of correct tags"].startswith("1.0000 on")
    card = (folder / "README.md").read_text()
    assert f"- unit: {tagger.unit}; texts over 512 tokens are read in overlapping windows" in card
    assert "the best F1 on" in card
    value = report["entity_f1"].value
    outcome = tagger.training
    assert outcome is not None
    assert outcome.decision in ("improved", "not_improved")
    (delta,) = outcome.deltas
    looked_up = look_up([dev(tagger)], dev(tagger).rows)
    assert delta.before == entity_f1(dev(tagger).rows, looked_up)
    assert delta.after == value
    assert delta.difference.value == pytest.approx(value - delta.before)
    assert f"from {100 * delta.before:.2f} by looking up the entities" in outcome.in_words("en")
    assert f"entity_f1 {100 * value:.2f} [" in card
    assert f"({100 * delta.before:.2f} by looking up" in card
    data = ModelCard.load(folder / "README.md").data
    scores = {one.metric_type: one for one in data.eval_results}
    assert scores["entity_f1"].metric_value == value
    assert scores["entity_f1"].task_type == "token-classification"
    assert ("char_f1" in scores) is (tagger.unit == "character")
    assert data.model_name == tagger.unit


def test_a_pipeline_finds_the_same(trained: tuple[Tagger, Path]) -> None:
    """Oracle: transformers' pipeline on the saved folder."""
    tagger, folder = trained
    again = Tagger.from_pretrained(folder, device="cpu")
    assert (again.unit, again.tokenizer.max_length) == (tagger.unit, 512)
    strategy = {"word": "first", "character": "simple"}[tagger.unit]
    find = transformers.pipeline("token-classification", str(folder), aggregation_strategy=strategy)
    texts = [row.text for row in dev(tagger).rows[:12]]
    if tagger.unit == "word":
        texts += ["A man plays in the city, slowly; the dog playing"]
    for text, ours in zip(texts, again.tag(texts), strict=True):
        theirs = find(text)
        expected = [Span(one["start"], one["end"], one["entity_group"]) for one in theirs]
        assert list(ours) == expected
        scores = [float(one["score"]) for one in theirs]
        assert [span.score for span in ours] == pytest.approx(scores, abs=1e-5)


def test_the_folder(trained: tuple[Tagger, Path], tmp_path: Path) -> None:
    """It is a token classifier, with and without our file, and embeds as its encoder does."""
    tagger, folder = trained
    assert folder_kind(folder) == "token-classifier"
    network, info = transformers.AutoModelForTokenClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert info["missing_keys"] == set()
    assert list(network.config.id2label.values()) == tagger.labels
    network.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert folder_kind(tmp_path) == "token-classifier"
    plain = Tagger.from_pretrained(tmp_path, unit=tagger.unit, device="cpu")
    texts = [row.text for row in dev(tagger).rows[:3]]
    assert plain.tag(texts) == tagger.tag(texts)
    embedder = load_model(folder, device="cpu")
    with torch.no_grad():
        inputs = transformers.AutoTokenizer.from_pretrained(folder)(texts[0], return_tensors="pt")
        states = network.base_model(**inputs).last_hidden_state[0]
    assert isinstance(embedder, Embedder)
    assert np.allclose(embedder.encode(texts[:1])[0], states.mean(0).numpy(), atol=1e-5)


def test_long_texts_are_read_in_windows(bert: Path, tmp_path: Path) -> None:
    """Entities after the maximum length are learnt and found."""
    rows = [" ".join(row.text for row in DATA["character"].rows[i : i + 4]) for i in range(12)]
    spans = []
    for i in range(12):
        start, own = 0, list[Span]()
        for row in DATA["character"].rows[i : i + 4]:
            own += [Span(start + s.start, start + s.end, s.label) for s in row.spans]
            start += len(row.text) + 1
        spans.append(tuple(own))
    long = TaggedTexts("long", "character", tuple(map(TaggedText, rows, spans)))
    tagger = train_token_classifier(
        [DATA["character"], long], long, tmp_path / "out", model=bert, settings=FAST, max_length=24
    )
    assert Tagger.from_pretrained(tmp_path / "out").tokenizer.max_length == 24
    assert evaluate_tagger(tagger, long)["entity_f1"].value > 0.9


def write(folder: Path, name: str, data: TaggedTexts) -> Path:
    write_entities(data, folder / name, conll=name.endswith(".conll"))
    return folder / name


@pytest.mark.slow
def test_killed_and_resumed(bert: Path, tmp_path: Path, run: Run) -> None:
    file = write(tmp_path, "korean.conll", korean(32))
    command = ["train", "token-classifier", file, "--dev", file, "-m", bert, "--epochs", 3]
    command += ["--batch-size", 4, "--learning-rate", 1e-3, "--evaluations", 4, "--device", "cpu"]
    kill(command, tmp_path / "out", batch=15)
    printed = {}
    for name in ("out", "whole"):
        printed[name] = run(*command, "--out", tmp_path / name, "--json").json
        del printed[name]["seconds"], printed[name]["dev"]["model"]
    again, whole = (
        transformers.BertForTokenClassification.from_pretrained(tmp_path / name).state_dict()
        for name in ("out", "whole")
    )
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert printed["out"] == printed["whole"]
    verdict = printed["out"]["verdict"]
    assert verdict["metric"] == "entity_f1"
    assert verdict["text"]["ko"].startswith("korean에서 토큰 분류기 성능이 유의하게 ")
    assert run(*command, "--out", tmp_path / "out").err.startswith("error: --out: ")
    done = run(*command, "--out", tmp_path / "out", "--overwrite", "--lang", "ko")
    assert " ".join(done.out.split()).startswith(" ".join(verdict["text"]["ko"].split()))
    assert "이 토크나이저로는 이보다 높일 수 없습니다." in done.out


def test_commands(trained: tuple[Tagger, Path], tmp_path: Path, run: Run) -> None:
    """tag writes what evaluate reads, as JSONL and CoNLL."""
    tagger, folder = trained
    data = dev(tagger)
    conll, jsonl = write(tmp_path, "dev.conll", data), write(tmp_path, "dev.jsonl", data)
    printed = run("evaluate", conll, "-m", folder, "--json", "--device", "cpu").json
    values = {row["metric"]: row["value"] for row in printed["results"] if row["label"] is None}
    report = evaluate_tagger(tagger, data)
    assert values["entity_f1"] == report["entity_f1"].value
    assert ("char_f1" in values) is (tagger.unit == "character")
    assert printed["data"] == [
        {"model": str(folder), "dataset": "dev", "unit": tagger.unit, "sentences": 48}
    ]
    table = run("evaluate", jsonl, "--unit", tagger.unit, "-m", folder, "--lang", "ko")
    assert f"{100 * report['entity_f1'].value:.2f}" in table.out
    assert "dev: 문장 48개" in table.out

    assert run("tag", conll, "-m", folder, "--out", tmp_path / "found.conll").code == 0
    expected = tagger.predict(data.rows)
    found = read_entities(tmp_path / "found.conll", tagger.unit)
    assert [row.spans for row in found.rows] == expected
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(row.text for row in data.rows), encoding="utf-8")
    lines = run("tag", texts, "-m", folder, "--json").out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == [row.text for row in data.rows]
    first = json.loads(lines[0])["spans"][0]
    assert list(first) == ["start", "end", "label", "score"]
    assert Span(*list(first.values())[:3]) == expected[0][0]
    printed_conll = run("tag", texts, "-m", folder, "--conll").out
    (tmp_path / "printed.conll").write_text(printed_conll, encoding="utf-8")
    again = read_entities(tmp_path / "printed.conll", tagger.unit)
    assert [row.spans for row in again.rows] == expected


def test_tags_of_another_scheme(trained: tuple[Tagger, Path], tmp_path: Path, run: Run) -> None:
    tagger, folder = trained
    lines = (f"{unit}\t{tag}\n" for unit, tag in (("비", "B-LC"), ("눈", "E-LC"), ("해", "O")))
    (tmp_path / "bioes.conll").write_text("".join(lines), encoding="utf-8")
    command = ("evaluate", tmp_path / "bioes.conll", "-m", folder, "--unit", tagger.unit)
    done = run(*command, "--json")
    assert done.json["data"][0]["unit"] == tagger.unit
    assert f"{command[1]}: its tags are BIOES; they are converted to IOB2, exactly.\n" in done.err
    assert run(*command, "--quiet").err == ""


def test_what_is_refused(
    bert: Path, trained: tuple[Tagger, Path], tmp_path: Path, run: Run
) -> None:
    tagger, folder = trained
    file = write(tmp_path, "dev.conll", dev(tagger))
    kind = "expected a token classifier, a folder of embedkit train token-classifier"
    assert kind in refused(run("evaluate", file, "-m", bert))
    assert kind in refused(run("tag", file, "-m", "minilm"))
    for options in (
        ("--similarity", "dot"),
        ("--out", tmp_path / "report"),
        ("--recipe", "cls"),
        ("--baseline", "x"),
        ("--reproduce",),
        ("--cache",),
    ):
        error = refused(run("evaluate", file, "-m", folder, *options))
        assert error.startswith(f"got {options[0]} for entities")
    assert "got --unit for sentence pairs" in refused(
        run("evaluate", "first_look", "--unit", "word")
    )
    assert "expected one" in refused(run("tag", file, "-m", folder, "--json", "--conll"))
    missing = refused(run("tag", file, "-m", "nothing", "--out", tmp_path / "no" / "x.jsonl"))
    assert missing == f"--out: there is no folder {tmp_path / 'no'} for x.jsonl"
    assert "got --text-column for a CoNLL" in refused(
        run("tag", file, "-m", folder, "--text-column", "body")
    )
    (tmp_path / "empty.jsonl").write_text('{"text": "비"}\n{"text": ""}\n', encoding="utf-8")
    empty = ("tag", tmp_path / "empty.jsonl", "-m", folder)
    assert refused(run(*empty, "--conll")).startswith("text 2: has '', which a CoNLL file cannot")
    assert json.loads(run(*empty).out.splitlines()[1]) == {"text": "", "spans": []}
    plain = TaggedTexts.untagged(["비"], tagger.unit)
    with pytest.raises(InputError, match="got 0 types of entities to learn and"):
        train_token_classifier([plain], dev(tagger), tmp_path / "out", model=bert)
    other = DATA["word" if tagger.unit == "character" else "character"]
    with pytest.raises(InputError, match=r"has the unit \w+, \w+ has \w+; expected one unit"):
        train_token_classifier([other], dev(tagger), tmp_path / "out", model=bert)


def test_other_labels(tmp_path: Path) -> None:
    """Other schemes and bare types are read; a model without O, or without a classifier, is not."""
    tiny.make_bert(tmp_path / "model", layers=1)
    for names in (["O", "B-X", "E-X", "S-X"], ["O", "X"], ["LABEL_0", "LABEL_1"]):
        config = transformers.BertConfig.from_pretrained(
            tmp_path / "model",
            id2label=dict(enumerate(names)),
            label2id={n: i for i, n in enumerate(names)},
        )
        transformers.BertForTokenClassification(config).save_pretrained(tmp_path / "model")
        if names[0] == "O":
            spans = Tagger.from_pretrained(tmp_path / "model").tag(["a man plays guitar"])[0]
            assert {span.label for span in spans} <= {"X"}
        else:
            with pytest.raises(
                InputError, match=r"has the labels \['LABEL_0', 'LABEL_1'\]; expected"
            ):
                Tagger.from_pretrained(tmp_path / "model")
    transformers.BertModel(config).save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["architectures"] = ["BertForTokenClassification"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"lack those of a token classifier \(classifier.bias, cl"):
        Tagger.from_pretrained(tmp_path / "model")


def test_arguments_of_another_type(bert: Path, tmp_path: Path) -> None:
    data = TaggedTexts("made", "word", (TaggedText("a", (), ((0, 1),)),))
    for types in ([], ["LC", "LC"], ["a place"], ""):
        with pytest.raises(InputError, match="types is"):
            Tagger.untrained(bert, types, "word")
    tagger = Tagger.untrained(bert, ["LC"], "word")
    wrong: list[Any] = ["made.conll", None]
    for one in wrong:
        with pytest.raises(InputError, match=f"data is {one!r}; expected TaggedTexts"):
            evaluate_tagger(tagger, one)
        with pytest.raises(InputError, match=f"tagger is {one!r}; expected a Tagger"):
            evaluate_tagger(one, data)
        with pytest.raises(InputError, match=f"rows is {one!r}; expected TaggedText"):
            tagger.predict([one])
        with pytest.raises(InputError, match=f"got {one!r}; expected a Span"):
            TaggedText("a", (one,))
    with pytest.raises(InputError, match=r"got Span\(start=0.0, .*; expected a Span"):
        TaggedText("a", (Span(0.0, 1, "LC"),))  # type: ignore[arg-type]
    tagger.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="max_length is 0"):
        Tagger.from_pretrained(tmp_path / "model", max_length=0)


@pytest.mark.parametrize("family", ["nomic_bert", "mt5"])
def test_resumed_where_transformers_saves_other_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    model, data = tiny.make_model(tmp_path / "model", family, layers=1), english(8)
    settings = TrainingSettings(
        epochs=2, batch_size=4, learning_rate=1e-2, evaluations=4, device="cpu"
    )

    def train(name: str) -> Tagger:
        return train_token_classifier(
            [data], data, tmp_path / name, model=model, settings=settings, show_progress=False
        )

    whole, step, done = train("whole"), transformers.Trainer.training_step, 0

    def until_the_third(*args: Any, **options: Any) -> Any:
        nonlocal done
        done += 1
        if done > 2:
            raise KeyboardInterrupt
        return step(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(transformers.Trainer, "training_step", until_the_third)
        with pytest.raises(KeyboardInterrupt):
            train("resumed")
    resumed = train("resumed")
    assert resumed.fingerprint == whole.fingerprint
    assert Tagger.from_pretrained(tmp_path / "whole").fingerprint == whole.fingerprint
    assert resumed.notes == whole.notes


def test_what_bfloat16_trained_predicts_in_float32(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingSettings, "bfloat16", True)
    data, once = korean(8), replace(FAST, epochs=1, evaluations=1)
    trained = train_token_classifier([data], data, tmp_path / "out", model=bert, settings=once)
    saved = Tagger.from_pretrained(tmp_path / "out", device="cpu")
    scores = [
        [span.score for spans in one.predict(data.rows) for span in spans]
        for one in (trained, saved)
    ]
    assert scores[0]
    assert scores[0] == scores[1]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["xlm-roberta", "distilbert", "modernbert"])
def test_other_families(tmp_path: Path, family: str) -> None:
    """What is saved finds what was trained, in words that such tokenizers cut anywhere."""
    model = tiny.make_model(tmp_path / "model", family, layers=2)
    data = english(16)
    once = TrainingSettings(epochs=3, learning_rate=1e-2, evaluations=1, device="cpu")
    trained = train_token_classifier([data], data, tmp_path / "out", model=model, settings=once)
    again = Tagger.from_pretrained(tmp_path / "out", device="cpu")
    assert again.predict(data.rows) == trained.predict(data.rows)
    assert again.notes["F1 of correct tags"].startswith("1.0000 on english")
