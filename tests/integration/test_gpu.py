"""On a GPU: two steps of each training, and `Pooling`; imports little, for machines with little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from transformers import AutoModel, AutoTokenizer

from embedkit import Embedder, Pairs, Pooling
from embedkit.data.entities import Span, TaggedText, TaggedTexts
from embedkit.data.positives import Positives
from embedkit.scoring.cross_encoder import CrossEncoder
from embedkit.tagging.tagger import Tagger
from embedkit.training.arguments import TrainingSettings

pytestmark = pytest.mark.gpu

FIRST = tuple(f"the {a} reads {b}" for a in ("man", "dog", "cat", "그는") for b in range(4))
SECOND = tuple(f"a {a} and {b}" for a in ("bird", "책을", "city", "sun") for b in range(4))
PAIRS = Pairs.from_columns("pairs", FIRST, SECOND, np.linspace(0, 1, 16))
ENTITIES = TaggedTexts(
    "entities",
    "character",
    tuple(
        TaggedText(f"{text} 한국", (Span(len(text) + 1, len(text) + 3, "LC"),)) for text in FIRST
    ),
)
Train = Callable[[Path, Path, TrainingSettings], Any]


def bi_encoder(
    model: Path, out: Path, settings: TrainingSettings, loss: str = "cosine", recipe: str = "mean"
) -> Embedder:
    from embedkit import train_bi_encoder

    data: Any = [PAIRS if loss == "cosine" else Positives("positives", FIRST, SECOND)]
    return train_bi_encoder(
        data, PAIRS, out, model=model, recipe=recipe, loss=loss, settings=settings
    )


def in_batch(model: Path, out: Path, settings: TrainingSettings) -> Embedder:
    return bi_encoder(model, out, settings, "in-batch", "attention@mix")


def cross_encoder(model: Path, out: Path, settings: TrainingSettings) -> CrossEncoder:
    from embedkit import train_cross_encoder

    return train_cross_encoder([PAIRS], PAIRS, out, model=model, settings=settings)


def masked_lm(model: Path, out: Path, settings: TrainingSettings) -> Any:
    from embedkit import train_masked_lm

    others = [f"{text} slowly {n}" for n, text in enumerate(FIRST + SECOND)]
    return train_masked_lm(
        FIRST, out, held_out=others, model=model, new_head=True, settings=settings
    )


def token_classifier(model: Path, out: Path, settings: TrainingSettings) -> Tagger:
    from embedkit import train_token_classifier

    return train_token_classifier([ENTITIES], ENTITIES, out, model=model, settings=settings)


def predictions(trained: Any, folder: Path, device: str) -> np.ndarray[Any, np.dtype[Any]]:
    """What the saved folder predicts on a device."""
    if isinstance(trained, Embedder):
        loaded = Embedder.from_pretrained(folder, device=device, precision="float32")
        return loaded.encode(list(FIRST))
    if isinstance(trained, CrossEncoder):
        pairs = list(zip(FIRST, SECOND, strict=True))
        return CrossEncoder.from_pretrained(folder, device=device).predict(pairs)
    if isinstance(trained, Tagger):
        found = Tagger.from_pretrained(folder, device=device).predict(ENTITIES.rows)
        return np.array([span.score for row in found for span in row])
    from embedkit import MaskedLM

    model = MaskedLM.from_pretrained(folder, device=device)
    return np.array([model.pseudo_perplexity([text], show_progress=False) for text in FIRST[::4]])


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without dropout, whose random numbers differ between devices."""
    folder = tmp_path_factory.mktemp("bert")
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return tiny.make_bert(folder, layers=2, seed=4, **none)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "train", [bi_encoder, in_batch, cross_encoder, masked_lm, token_classifier]
)
def test_two_steps_as_on_the_cpu(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Train, precision: str
) -> None:
    """Oracle: the losses and the weights of the same steps on the CPU, in float32."""
    if precision == "float32":
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_, **__: False)
    elif not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("the GPU has no bfloat16")
    losses, trained = {}, None
    for device in ("cpu", "cuda"):
        settings = TrainingSettings(
            epochs=1, batch_size=8, learning_rate=1e-4, warmup=0, evaluations=2, device=device
        )
        assert settings.described()["precision"] == ("float32" if device == "cpu" else precision)
        trained = train(bert, tmp_path / device, settings)
        curve = getattr(trained, "training", trained).curve
        assert [row["step"] for row in curve] == [1, 2]
        losses[device] = [row["loss"] for row in curve]
    close = {"float32": 1e-3, "bfloat16": 0.02}[precision]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=close)
    expected, got = (predictions(trained, tmp_path / "cuda", on) for on in ("cpu", "cuda"))
    assert np.abs(got - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("recipe", ["mean@mix/normalize", "attention+max/normalize"])
def test_pooling_trains_on_a_gpu(bert: Path, recipe: str) -> None:
    """Oracle: values and gradients of the CPU, in float32; autocast is close to them."""
    inputs = AutoTokenizer.from_pretrained(bert)([*FIRST[:3], "rain"], padding=True)
    results = {}
    for device, autocast in (("cpu", False), ("cuda", False), ("cuda", True)):
        encoder = AutoModel.from_pretrained(bert).to(device).eval()
        pooling = Pooling(recipe, dim=32, num_layers=2).to(device)
        tensors = {name: torch.tensor(value, device=device) for name, value in inputs.items()}
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            output = encoder(**tensors, output_hidden_states=True)
            vectors = pooling(output, tensors["attention_mask"])
        assert vectors.device.type == device
        (vectors[0] @ vectors[-1]).float().backward()
        gradient = encoder.embeddings.word_embeddings.weight.grad
        learnt = next(pooling.parameters()).grad
        results[device, autocast] = [x.detach().float().cpu() for x in (vectors, gradient, learnt)]
    for place, close in ((("cuda", False), 1e-4), (("cuda", True), 0.05)):
        for expected, got in zip(results["cpu", False], results[place], strict=True):
            assert (got - expected).norm() <= close * expected.norm()
