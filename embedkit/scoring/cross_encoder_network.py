"""The networks of cross-encoders, and the table of what their classifier reads.

`pooler` and `pooler-fresh` are transformers' own BertForSequenceClassification(num_labels=1): the
classifier sits on tanh(W h_cls + b) of Devlin et al. 2019. The others put it on a pooling of the
last hidden state.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from embedkit.encoders.loading import load_pretrained
from embedkit.errors import InputError, first_line
from embedkit.recipes.pooling_module import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput


_CLASSIFIER = "classifier.safetensors"
_SCALE = 0.02  # of new weights, where config.json has no initializer_range
_DROPOUT = 0.1  # where config.json has none


class PooledRegressor(nn.Module):
    """An encoder, a pooling of its last hidden state, dropout, and one linear output."""

    def __init__(self, encoder: PreTrainedModel, reads: str) -> None:
        super().__init__()
        config = encoder.config
        dropout: float | None = getattr(config, "classifier_dropout", None)
        self.encoder = encoder
        self.pooling = Pooling(reads)
        self.dropout = nn.Dropout(
            getattr(config, "hidden_dropout_prob", _DROPOUT) if dropout is None else dropout
        )
        self.classifier = nn.Linear(config.hidden_size, 1)

    def forward(
        self,
        input_ids: Tensor,  # (n, length) int64, padded on the right
        attention_mask: Tensor,  # (n, length), 1 for tokens
        token_type_ids: Tensor | None = None,  # (n, length) int64, or None
        labels: Tensor | None = None,  # (n,) floats
    ) -> SequenceClassifierOutput:
        """Logits (n, 1), and with labels the loss, their mean squared error."""
        from transformers.modeling_outputs import SequenceClassifierOutput

        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        pooled = self.pooling(self.encoder(**inputs).last_hidden_state, attention_mask)
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else nn.functional.mse_loss(logits.squeeze(-1), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class Reading(NamedTuple):
    """A row of the table."""

    name: str  # what `--reads` says
    saved_as: str  # the row that reads a trained network of this one again
    note: str  # what the classifier sits on


_ROWS = (
    Reading("pooler", "pooler", "the checkpoint's pooler, which trains on"),
    Reading("pooler-fresh", "pooler", "a pooler with new random weights"),
    Reading("cls", "cls", "the first token's last hidden state"),
    Reading("mean", "mean", "the mean of the last hidden state over all tokens"),
    Reading("max", "max", "its maximum over all tokens"),
)

READS: dict[str, Reading] = {row.name: row for row in _ROWS}


def check_reads(name: object) -> Reading:
    """The row of this name."""
    if not isinstance(name, str) or name not in READS:
        raise InputError(f"unknown reading {name!r}; choose from {', '.join(READS)}")
    return READS[name]


def build_network(folder: Path, reads: str, seed: int) -> nn.Module:
    """The network to train; `seed` is of what is drawn anew: the classifier, and a fresh pooler."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if check_reads(reads).saved_as != "pooler":
            pooled = PooledRegressor(_load_encoder(folder), reads)
            _draw(pooled.classifier, config_of(pooled))
            return pooled
        network, missing = _load_classifier(folder)
        if reads == "pooler-fresh":
            pooler = getattr(network.base_model, "pooler", None)
            for part in () if pooler is None else pooler.modules():
                if isinstance(part, nn.Linear):
                    _draw(part, network.config)
        elif not missing <= {"classifier.weight", "classifier.bias"}:
            raise InputError(
                f"{folder}: {type(network).__name__} finds no weights there for "
                f"{', '.join(sorted(missing))}; expected a BERT with its pooler, or another "
                "reading, such as pooler-fresh"
            )
        return network


def save_network(network: nn.Module, folder: Path) -> None:
    """Write config.json and the weights."""
    from safetensors.torch import save_file

    if isinstance(network, PooledRegressor):
        network.encoder.save_pretrained(folder)
        save_file(
            {name: value.contiguous() for name, value in network.classifier.state_dict().items()},
            folder / _CLASSIFIER,
        )
        return
    pretrained = cast("PreTrainedModel", network)
    # What sentence-transformers' CrossEncoder is to do with the output; it would take a sigmoid.
    pretrained.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    pretrained.save_pretrained(folder)


def load_network(folder: Path, reads: str) -> nn.Module:
    """Read what `save_network` wrote."""
    if check_reads(reads).saved_as == "pooler":
        network, missing = _load_classifier(folder)
        if missing:
            raise InputError(f"{folder}: the weights lack {', '.join(sorted(missing))}")
        return network
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    pooled = PooledRegressor(_load_encoder(folder), reads)
    try:
        pooled.classifier.load_state_dict(load_file(folder / _CLASSIFIER))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{folder / _CLASSIFIER}: is damaged or absent ({first_line(error)})"
        ) from error
    return pooled


def output_layer(network: nn.Module) -> nn.Linear | None:
    """The linear layer that gives the score, if there is one."""
    outputs = [
        part for part in network.modules() if isinstance(part, nn.Linear) and part.out_features == 1
    ]
    return outputs[0] if len(outputs) == 1 else None


def rescale_output(network: nn.Module, low: float, high: float) -> None:
    """Make a network of scores from 0 to 1 one of scores from `low` to `high`."""
    layer = output_layer(network)
    if layer is None:
        raise ValueError(f"{type(network).__name__} has no layer that gives one number")
    with torch.no_grad():
        layer.weight.mul_(high - low)
        layer.bias.mul_(high - low).add_(low)


def config_of(network: nn.Module) -> Any:
    """The encoder's configuration."""
    return cast(
        "PreTrainedModel", network.encoder if isinstance(network, PooledRegressor) else network
    ).config


def _draw(layer: nn.Linear, config: Any) -> None:
    nn.init.normal_(layer.weight, std=getattr(config, "initializer_range", _SCALE))
    nn.init.zeros_(layer.bias)


def _load_classifier(folder: Path) -> tuple[PreTrainedModel, set[str]]:
    """With the names of the weights that were drawn."""
    from transformers import AutoModelForSequenceClassification

    # A classifier of several labels is drawn anew.
    network, missing = load_pretrained(
        AutoModelForSequenceClassification.from_config,
        folder,
        resize=True,
        id2label={0: "LABEL_0"},
        label2id={"LABEL_0": 0},
        problem_type="regression",
    )
    last = output_layer(network)
    if last is None or last.bias is None:
        raise InputError(
            f"{folder}: the classifier of {type(network).__name__} is no linear layer with a bias; "
            "expected another model, or another reading: cls, mean or max"
        )
    return network, missing


def _load_encoder(folder: Path) -> PreTrainedModel:
    from transformers import AutoModel

    encoder, _ = load_pretrained(AutoModel.from_config, folder)
    if hasattr(encoder, "pooler"):
        encoder.pooler = None  # nobody reads it, and it would be trained and saved
    return cast("PreTrainedModel", encoder)
