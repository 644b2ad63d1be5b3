"""Cross-encoders: what they read, their folders, and how they are scored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import scipy.stats
import torch
import transformers
from helpers import tiny
from helpers.command import Run, refused
from helpers.families import FAMILIES
from helpers.trainings import write_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder as TheirCrossEncoder
from sklearn.metrics import f1_score, mean_squared_error
from tokenizers.models import WordLevel
from tokenizers.processors import Sequence
from torch import nn

from embedkit import Embedder, InputError, Pairs, Report, evaluate
from embedkit.embedder.folder_kind import folder_kind
from embedkit.scoring.cross_encoder import CrossEncoder
from embedkit.scoring.cross_encoder_network import READS, output_layer, rescale_output
from embedkit.scoring.loading import load_model
from embedkit.tokenization.pairs import PairTokens

pytestmark = pytest.mark.thorough

PAIRS = [(first, second) for first in tiny.TEXTS for second in tiny.TEXTS[:3]]
POOLED = ("cls", "mean", "max")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, seed=4)


def untrained(folder: Path, reads: str, seed: int = 0) -> CrossEncoder:
    """With an output layer that says more than 0.02 times something."""
    made = CrossEncoder.untrained(folder, reads, (0, 5), seed=seed)
    with torch.no_grad():
        output_layer(made.network).weight.mul_(30)
        output_layer(made.network).bias.fill_(0.5)
    made.network.eval()
    return made


@pytest.fixture(scope="module", params=READS)
def saved(
    request: pytest.FixtureRequest, bert: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[CrossEncoder, Path]:
    made = untrained(bert, request.param)
    folder = tmp_path_factory.mktemp(request.param) / "saved"
    made.save_pretrained(folder)
    return made, folder


def their_inputs(folder: Path, pair: tuple[str, str]) -> dict[str, torch.Tensor]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return dict(tokenizer(*pair, return_tensors="pt", truncation=True))


def test_poolings_are_those_of_the_last_hidden_state(bert: Path) -> None:
    """Oracle: transformers' states, pair by pair without padding."""
    encoder = transformers.AutoModel.from_pretrained(bert).eval()
    reductions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "cls": lambda states: states[0],
        "mean": lambda states: states.mean(0),
        "max": lambda states: states.max(0).values,
    }
    for reads, reduce in reductions.items():
        made = untrained(bert, reads)
        layer = output_layer(made.network)
        with torch.no_grad():
            expected = [
                float(layer(reduce(encoder(**their_inputs(bert, pair)).last_hidden_state[0])))
                for pair in PAIRS
            ]
        assert np.allclose(made.predict(PAIRS), expected, atol=2e-5)


def test_pooler_is_transformers_classifier(bert: Path) -> None:
    """Oracle: tanh(W h + b) of the checkpoint, from BertModel."""
    made = untrained(bert, "pooler")
    assert type(made.network) is transformers.BertForSequenceClassification
    encoder = transformers.BertModel.from_pretrained(bert).eval()
    with torch.no_grad():
        expected = [
            float(output_layer(made.network)(encoder(**their_inputs(bert, pair)).pooler_output))
            for pair in PAIRS
        ]
    assert np.allclose(made.predict(PAIRS), expected, atol=2e-5)


def test_a_fresh_pooler_is_another_one_and_the_encoder_the_same(bert: Path) -> None:
    own, fresh = (untrained(bert, reads).network for reads in ("pooler", "pooler-fresh"))
    other = untrained(bert, "pooler-fresh", seed=1).network
    for name, weights in own.bert.named_parameters():
        same = torch.equal(weights, fresh.bert.get_parameter(name))
        assert same is not name.startswith("pooler")
    drawn = fresh.bert.pooler.dense
    assert torch.equal(drawn.bias, torch.zeros(32))
    assert 0.015 < float(drawn.weight.detach().std()) < 0.025  # initializer_range
    assert not torch.equal(drawn.weight, other.bert.pooler.dense.weight)


@pytest.mark.parametrize("reads", READS)
def test_the_loss_is_mse(bert: Path, reads: str) -> None:
    made = untrained(bert, reads)
    tokens = PairTokens.of(made.tokenizer, PAIRS)
    inputs = tokens.inputs(range(len(PAIRS)), made.pad_id)
    labels = torch.linspace(-1, 2, len(PAIRS))
    with torch.no_grad():
        output = made.network(**inputs, labels=labels)
    expected = nn.MSELoss()(output.logits.squeeze(-1), labels)
    assert torch.equal(output.loss, expected)
    assert float(expected) > 0.01


def test_a_seed_draws_the_same(bert: Path) -> None:
    for reads in READS:
        one, same, other = (untrained(bert, reads, seed).predict(PAIRS) for seed in (3, 3, 4))
        assert np.array_equal(one, same)
        assert not np.allclose(one, other)


@pytest.fixture(scope="module")
def scored(bert: Path) -> tuple[CrossEncoder, np.ndarray]:
    """A cross-encoder and its scores of the first 12 pairs."""
    made = untrained(bert, "mean")
    return made, made.predict(PAIRS[:12])


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(12)), some=st.integers(1, 12))
def test_a_score_does_not_depend_on_the_others(
    scored: tuple[CrossEncoder, np.ndarray], order: list[int], some: int
) -> None:
    made, expected = scored
    chosen = order[:some]
    assert np.allclose(
        made.predict([PAIRS[place] for place in chosen]), expected[chosen], atol=1e-5
    )


def test_rescaling(bert: Path) -> None:
    for reads in READS:
        made = untrained(bert, reads)
        before = made.predict(PAIRS)
        rescale_output(made.network, 1, 5)
        assert np.allclose(made.predict(PAIRS), 1 + 4 * before, atol=1e-5)


def test_saved_and_read_again(saved: tuple[CrossEncoder, Path]) -> None:
    made, folder = saved
    again = CrossEncoder.from_pretrained(folder, device="cpu")
    assert again.reads == READS[made.reads].saved_as
    assert again.label_range == (0, 5)
    assert np.array_equal(again.predict(PAIRS), made.predict(PAIRS))
    assert again.fingerprint == made.fingerprint
    assert "embedkit score" in (folder / "README.md").read_text()


@pytest.mark.parametrize("activation", [None, "Identity", "Tanh"])
def test_a_classifier_of_others(bert: Path, tmp_path: Path, activation: str | None) -> None:
    """Oracle: sentence-transformers, which takes a sigmoid unless the folder says otherwise."""
    config = transformers.BertConfig.from_pretrained(bert, num_labels=1)
    if activation is not None:
        named = f"torch.nn.modules.activation.{activation}"
        config.sentence_transformers = {
            "activation_fn": named.replace("activation.Id", "linear.Id")
        }
    torch.manual_seed(1)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "theirs")
    transformers.AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "theirs")
    if activation == "Tanh":
        with pytest.raises(
            InputError, match=r"its scores are torch.*; expected Sigmoid or Identity"
        ):
            CrossEncoder.from_pretrained(tmp_path / "theirs")
        return
    ours = load_model(tmp_path / "theirs")
    assert isinstance(ours, CrossEncoder)
    theirs = TheirCrossEncoder(str(tmp_path / "theirs"), device="cpu")
    assert np.allclose(ours.predict(PAIRS), theirs.predict(PAIRS), atol=1e-5)
    assert Embedder.from_pretrained(tmp_path / "theirs").encode("a cat").shape == (32,)
    config.num_labels = 3
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "three")
    assert folder_kind(tmp_path / "three") == "model"


def test_rank(bert: Path, tmp_path: Path) -> None:
    """Oracle: sentence-transformers' `rank`, with its scores and its order."""
    made = untrained(bert, "pooler")
    made.save_pretrained(tmp_path / "saved")
    theirs = TheirCrossEncoder(str(tmp_path / "saved"), device="cpu")
    query, documents = tiny.TEXTS[0], [*tiny.TEXTS, tiny.TEXTS[1]]
    for options in ({}, {"top_k": 3, "return_documents": True}):
        ours = made.rank(query, documents, **options)
        expected = theirs.rank(query, documents, **options)
        assert [row["corpus_id"] for row in ours] == [row["corpus_id"] for row in expected]
        assert [row.get("text") for row in ours] == [row.get("text") for row in expected]
        assert np.allclose(*([row["score"] for row in x] for x in (ours, expected)), atol=1e-5)
    column = pandas.Series(documents, index=range(5, 5 + len(documents)))
    assert made.rank(query, column, return_documents=True) == made.rank(
        query, documents, return_documents=True
    )
    with pytest.raises(InputError, match="documents is one str; expected a list of str"):
        made.rank(query, "a text")
    with pytest.raises(InputError, match="top_k is 0; expected a whole number from 1"):
        made.rank(query, documents, top_k=0)


@pytest.mark.parametrize("reads", ["pooler", "pooler-fresh"])
def test_a_saved_pooler_is_a_folder_of_theirs(bert: Path, tmp_path: Path, reads: str) -> None:
    made, folder = untrained(bert, reads), tmp_path / "saved"
    made.save_pretrained(folder)
    expected = made.predict(PAIRS)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert type(theirs) is transformers.BertForSequenceClassification
    assert theirs.config.num_labels == 1
    with torch.no_grad():
        logits = [float(theirs(**their_inputs(folder, pair)).logits) for pair in PAIRS]
        labels = torch.arange(len(PAIRS)) / 3
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        batch = tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt")
        output = theirs(**batch, labels=labels)
    assert np.allclose(logits, expected, atol=1e-5)
    assert torch.equal(output.loss, nn.MSELoss()(output.logits.squeeze(), labels))
    assert np.allclose(TheirCrossEncoder(str(folder)).predict(PAIRS), expected, atol=1e-5)


REFUSED = {
    ("t5", "pooler-fresh"): r"the weights lack \d+ tensors of the encoder",
    ("t5", "mean"): r"the weights lack \d+ tensors of the encoder",
    ("mt5", "pooler-fresh"): r"the weights lack \d+ tensors of the encoder",
    ("mt5", "mean"): r"the weights lack \d+ tensors of the encoder",
    ("qwen3", "pooler-fresh"): "is no linear layer with a bias",
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reads", ["pooler-fresh", "mean"])
def test_other_families(tmp_path: Path, family: str, reads: str) -> None:
    """Their own heads, or a pooling: read again, and theirs says the same; or refused."""
    folder = tiny.make_model(tmp_path / "model", family, layers=2)
    if (family, reads) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[family, reads]):
            untrained(folder, reads)
        return
    made = untrained(folder, reads)
    rescale_output(made.network, 0, 5)
    made.save_pretrained(tmp_path / reads)
    scores = made.predict(PAIRS)
    assert np.ptp(scores) > 1e-3
    again = CrossEncoder.from_pretrained(tmp_path / reads, device="cpu")
    assert np.array_equal(again.predict(PAIRS), scores)
    if reads == "pooler-fresh":
        theirs = TheirCrossEncoder(str(tmp_path / reads), device="cpu")
        assert np.allclose(theirs.predict(PAIRS), scores, atol=1e-5)


def test_a_decoder_beside_the_encoder(tmp_path: Path) -> None:
    config = transformers.T5Config(
        vocab_size=400, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4, pad_token_id=0
    )
    folder = tiny.make_model(tmp_path / "model", "t5", layers=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    for reads in ("pooler-fresh", "mean"):
        with pytest.raises(InputError, match="has a decoder beside its encoder; expected an enc"):
            CrossEncoder.untrained(folder, reads, (0, 1))


def test_no_pooler_in_the_checkpoint(tmp_path: Path) -> None:
    folder = tiny.make_bert(tmp_path / "model", pooler=False)
    with pytest.raises(InputError, match=r"finds no weights there for bert.pooler.dense.bias"):
        CrossEncoder.untrained(folder, "pooler", (0, 1))
    for reads in ("pooler-fresh", *POOLED):
        CrossEncoder.untrained(folder, reads, (0, 1))
    roberta = tiny.make_model(tmp_path / "roberta", "roberta")
    with pytest.raises(InputError, match=r"finds no weights there for classifier.dense.bias"):
        CrossEncoder.untrained(roberta, "pooler", (0, 1))


def test_a_checkpoint_that_lacks_weights_of_the_encoder(bert: Path, tmp_path: Path) -> None:
    """transformers would draw them at random."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(bert, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layer.1.output.dense.weight"))
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for reads in READS:
        with pytest.raises(InputError, match=r"layer\.1\.output\.dense\.weight"):
            CrossEncoder.untrained(folder, reads, (0, 1))


def test_a_long_pair_is_cut(bert: Path) -> None:
    made = CrossEncoder.untrained(bert, "mean", (0, 5), max_length=12)
    tokens = PairTokens.of(made.tokenizer, [("the cat " * 20, "a man"), ("a", "the")])
    assert tokens.truncated.tolist() == [True, False]
    assert tokens.lengths.tolist() == [12, 5]
    theirs = transformers.AutoTokenizer.from_pretrained(bert)(
        "the cat " * 20, "a man", truncation=True, max_length=12
    )
    assert tokens.token_ids[0].tolist() == theirs["input_ids"]
    assert tokens.type_ids[0].tolist() == theirs["token_type_ids"]
    with pytest.raises(InputError, match="expected more than the 3 tokens"):
        CrossEncoder.untrained(bert, "mean", (0, 5), max_length=4)


def test_wrong_texts(bert: Path) -> None:
    made = untrained(bert, "mean")
    with pytest.raises(InputError, match=r"^pairs is empty"):
        made.predict([])
    with pytest.raises(InputError, match=r"^pairs\[1\]: got .*3\), expected two texts"):
        made.predict([("a", "b"), ("a", 3)])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"unknown reading 'first'; choose from pooler, "):
        CrossEncoder.untrained(bert, "first", (0, 1))


def test_a_tokenizer_that_fails_at_a_pair(bert: Path) -> None:
    made = untrained(bert, "mean")
    made.tokenizer.backend.model = WordLevel({"a": 0})
    with pytest.raises(InputError, match=r"^a text cannot be tokenized \(.*Missing \[UNK\]"):
        made.predict([("a", "dog")])


def test_a_pair_without_tokens(bert: Path) -> None:
    made = untrained(bert, "mean")
    made.tokenizer.backend.post_processor = Sequence([])
    with pytest.raises(InputError, match=r"^pair 1 \(\('', ' '\)\) gives no tokens"):
        made.predict([("a", ""), ("", " ")])


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("cross_encoder.json", "{", "is not JSON"),
        ("cross_encoder.json", "{}", "is damaged"),
        ("classifier.safetensors", "x", "is damaged or absent"),
        ("classifier.safetensors", None, "is damaged or absent"),
        ("model.safetensors", "x", "damaged weights"),
        ("config.json", None, "cannot be read"),
        ("tokenizer.json", None, "no tokenizer"),
    ],
)
def test_damaged_folders(
    bert: Path, tmp_path: Path, file: str, content: str | None, problem: str
) -> None:
    untrained(bert, "mean").save_pretrained(tmp_path / "model")
    damaged = tmp_path / "model" / file
    if content is None:
        damaged.unlink()
    else:
        damaged.write_text(content)
    with pytest.raises(InputError, match=problem):
        CrossEncoder.from_pretrained(tmp_path / "model")


def test_it_is_no_embedder(bert: Path, tmp_path: Path, run: Run) -> None:
    made = untrained(bert, "mean")
    made.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="is a cross-encoder"):
        Embedder.from_pretrained(tmp_path / "model")
    assert "is a cross-encoder; expected a model" in refused(
        run("compare", "first_look", "-m", tmp_path / "model")
    )
    with pytest.raises(InputError, match="a folder of embedkit train cross-encoder"):
        CrossEncoder.from_pretrained(bert)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    scores = np.random.default_rng(1).uniform(0, 5, len(PAIRS)).round(1)
    return Pairs.from_columns("some", *zip(*PAIRS, strict=True), scores)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("one") / "model"
    untrained(bert, "max").save_pretrained(path)
    return path


def check_report(report: Report, predictions: np.ndarray, scores: np.ndarray) -> None:
    """Oracles: scipy and scikit-learn."""
    values = {row.metric: row.value for row in report.results}
    assert values == pytest.approx(
        {
            "spearman": scipy.stats.spearmanr(predictions, scores).statistic,
            "pearson": scipy.stats.pearsonr(predictions, scores).statistic,
            "mse": mean_squared_error(scores, predictions),
            "f1": f1_score(scores >= 2, predictions >= 2),
        }
    )
    assert {row.similarity for row in report.results} == {"cross-encoder"}


def test_evaluate(folder: Path, pairs: Pairs) -> None:
    model = CrossEncoder.from_pretrained(folder, device="cpu")
    rescale_output(model.network, 0, 5)
    report = evaluate(model, pairs, threshold=2)
    check_report(report, model.predict(PAIRS), pairs.scores)
    assert report.title.endswith("a cross-encoder that reads max: correlations x 100")
    assert report.forward_passes == len(PAIRS)
    assert report.notes[0].startswith("24 pairs were scored, both sentences in one pass; 0 of")
    assert report.notes_in("ko")[0].startswith("문장 쌍 24개는 두 문장을 함께 입력해 점수를 예측")
    assert report.run_metadata.model_sha256 == model.fingerprint
    assert report.error_analyses[0].recipes[0].geometry is None
    assert json.loads(report.to_json())["decided_by"] == "cross-encoder"
    with pytest.raises(InputError, match="got a similarity or a prompt for a cross-encoder"):
        evaluate(model, pairs, similarities=["cosine"])
    with pytest.raises(InputError, match="got a similarity or a prompt for a cross-encoder"):
        evaluate(model, pairs, prompt="query: ")


def test_evaluate_and_score_from_the_command_line(
    folder: Path, pairs: Pairs, tmp_path: Path, run: Run
) -> None:
    data = tmp_path / "pairs.jsonl"
    rows = zip(pairs.sentence1, pairs.sentence2, pairs.scores, strict=True)
    data.write_text(
        "".join(
            json.dumps({"sentence1": first, "sentence2": second, "score": score}) + "\n"
            for first, second, score in rows
        )
    )
    expected = CrossEncoder.from_pretrained(folder, device="cpu").predict(PAIRS)
    said = run("evaluate", data, "-m", folder, "--json", "--device", "cpu").json
    (spearman,) = (row for row in said["results"] if row["metric"] == "spearman")
    assert spearman["value"] == pytest.approx(
        scipy.stats.spearmanr(expected, pairs.scores).statistic
    )
    assert said["model"]["recipe"] == "max"
    done = run("score", data, "-m", folder)
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert np.allclose([line["prediction"] for line in lines], expected)
    assert [line["sentence1"] for line in lines] == list(pairs.sentence1)
    assert "got a prompt for a cross-encoder" in refused(
        run("score", data, "-m", folder, "--prompt", "x")
    )
    assert "got a max_length for a cross-encoder" in refused(
        run("evaluate", data, "-m", folder, "--max-length", "9")
    )
    assert "got a precision for a cross-encoder" in refused(
        run("evaluate", data, "-m", folder, "--precision", "bfloat16")
    )
    said = run("evaluate", data, "-m", folder, "--precision", "auto", "--json").json
    assert said["protocol"]["precision"] == "float32"
    said = run("info", "-m", folder, "--json").json
    assert (said["precision"], said["reason"]) == ("float32", "cross-encoders always do")
    beir = tmp_path / "beir"
    (beir / "qrels").mkdir(parents=True)
    (beir / "corpus.jsonl").write_text('{"_id": "a", "text": "x"}\n{"_id": "b", "text": "y"}\n')
    (beir / "queries.jsonl").write_text('{"_id": "q", "text": "x"}\n')
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n")
    assert "a cross-encoder scores sentence pairs" in refused(run("evaluate", beir, "-m", folder))


@pytest.mark.parametrize("name", ["~nobody_at_all/x", "x" * 5000])
def test_names_that_are_no_path(pairs: Pairs, tmp_path: Path, run: Run, name: str) -> None:
    """A head and a cross-encoder are looked for before a model is."""
    data = write_pairs(tmp_path, pairs)
    for command in ("score", "evaluate"):
        assert "there is no such folder" in refused(run(command, data, "-m", name))


def test_notes_are_kept(bert: Path, tmp_path: Path) -> None:
    made = replace(untrained(bert, "mean"), notes={"trained on": "그는 (3 pairs)", "seed": 0})
    made.save_pretrained(tmp_path / "model")
    assert CrossEncoder.from_pretrained(tmp_path / "model").notes == dict(made.notes)
    assert "- trained on: 그는 (3 pairs)" in (tmp_path / "model" / "README.md").read_text("utf-8")
    made.save_pretrained(tmp_path / "model")  # over itself
    with pytest.raises(InputError, match="did not write"):
        made.save_pretrained(bert)
