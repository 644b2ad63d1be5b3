"""Adapting an encoder to a domain: masked-language-model training goes on with its texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from embedkit.embedder.fingerprint import state_sha256
from embedkit.embedder.loading import load_folder
from embedkit.encoders.devices import on_device
from embedkit.encoders.hub import find_folder
from embedkit.encoders.loading import load_pretrained, without_bars
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL, new_folder
from embedkit.progress import progress
from embedkit.tokenization.tokenizer import check_ids
from embedkit.training.adaptation import Adaptation, copy_modules, save_weights, write_card
from embedkit.training.arguments import MASKED_LM, TrainingSettings
from embedkit.training.checkpoints import Checkpoints
from embedkit.training.mlm_data import AdaptationTexts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from embedkit.training.mlm_data import Masking
    from embedkit.training.order import ByLength


def train_masked_lm(
    texts: Iterable[str],
    out: str | Path,
    *,
    held_out: Iterable[str] | None = None,
    model: str | Path = DEFAULT_MODEL,
    new_head: bool = False,
    settings: TrainingSettings = MASKED_LM,
    max_length: int | None = None,
    revision: str | None = None,
    show_progress: bool | None = None,
) -> Adaptation:
    """Train and save; a run that was killed is taken up again.

    The pooler takes no part in masked-LM training: its weights stay as they were, beside an encoder
    that has changed. What else a folder of sentence-transformers says, its recipe and prompts, is
    kept.

    Args:
        texts: each is one example, cut to the maximum length; repeated ones count once.
        out: the folder to write. OUT.training beside it holds the checkpoints until then.
        held_out: other texts, for perplexity, which decides on the checkpoint that is kept; None
            holds out every 20th of `texts`.
        model: as for `Embedder.from_pretrained`; a name or a folder.
        new_head: whether a checkpoint without a masked-LM head gets a random one.
        settings: of the training.
        max_length: tokens of a text at most; None for the model's own.
        revision: of the hub id.
        show_progress: on stderr; None shows it where stderr is a terminal.

    Raises:
        InputError: wrong texts, settings or model, before the first step.
    """
    settings.check_installed()
    folder = find_folder(model, revision=revision)
    parts = load_folder(folder, None, max_length)
    network, drawn = _load(parts.settings.encoder_folder, settings.seed)
    if drawn and not new_head:
        raise InputError(
            f"model {str(model)!r} has no weights for a masked-LM head ({', '.join(drawn[:3])}); "
            "expected a checkpoint of masked-LM pre-training, or --new-head to begin with a random "
            "one"
        )
    found = AdaptationTexts.of(texts, held_out, parts.tokenizer)
    tokenizer = _load_tokenizer(parts.settings.encoder_folder)
    check_ids(found.tokens.token_ids, network.config.vocab_size)
    plan = {
        "training": "mlm",
        "model": state_sha256(network),
        "texts": found.sha256,
        "max_length": parts.tokenizer.max_length,
        "new_head": new_head,
        **settings.described(),
    }
    from embedkit.training.mlm_data import Masking
    from embedkit.training.order import ByLength

    order = ByLength(found.tokens.lengths[: found.trained], settings.batch_size, settings.seed)
    masking = Masking(found.tokens, tokenizer, order, settings.seed)
    with Checkpoints.beside(Path(out), plan) as checkpoints, without_bars():
        _place(network, settings)
        batches = found.held_out_batches(settings.batch_size)
        before = perplexity(network, masking, batches, show_progress=show_progress)
        best = _train(network, batches, masking, order, settings, checkpoints, show_progress)
        trained, _ = _load(best, settings.seed)
        _place(trained, settings)
        after = perplexity(trained, masking, batches, show_progress=show_progress)
        with new_folder(Path(out)) as new:
            result = Adaptation(
                before,
                after,
                found.trained,
                found.held_out,
                found.left_out,
                int(found.tokens.truncated.sum()),
                bool(drawn),
                save_weights(trained, parts.settings.encoder_folder, parts.tokenizer, new),
            )
            copy_modules(folder, parts.settings, new)
            write_card(new, str(model), parts.encoder, parts.bound.recipe, result, settings)
    return result


def perplexity(
    network: PreTrainedModel,
    masking: Masking,
    batches: Sequence[Sequence[int]],
    *,
    show_progress: bool | None = None,
) -> float:
    """exp of the mean cross-entropy, in nats, over the masked tokens of all batches."""
    cast("nn.Module", network).eval()
    total, count = 0.0, 0
    with (
        torch.inference_mode(),
        progress(sum(map(len, batches)), "held-out texts", show=show_progress) as advance,
    ):
        for batch in batches:
            inputs = {name: part.to(network.device) for name, part in masking(batch).items()}
            asked = int((inputs["labels"] >= 0).sum())
            total += float(network(**inputs).loss) * asked
            count += asked
            advance(len(batch))
    return math.exp(total / count)


def _train(
    network: PreTrainedModel,
    held_out: Sequence[Sequence[int]],
    masking: Masking,
    order: ByLength,
    settings: TrainingSettings,
    checkpoints: Checkpoints,
    show_progress: bool | None,
) -> Path:
    """The folder of the best checkpoint."""
    from transformers import TrainingArguments

    from embedkit.training.order import ByLengthTrainer
    from embedkit.training.run import train

    arguments = settings.arguments(
        TrainingArguments, checkpoints.folder, len(order), metric="eval_loss", greater=False
    )
    arguments.per_device_eval_batch_size = settings.batch_size  # the batches of `perplexity`
    arguments.prediction_loss_only = True
    trainer = ByLengthTrainer(
        order=order,
        model=network,
        args=arguments,
        train_dataset=list(range(len(order))),
        eval_dataset=[text for batch in held_out for text in batch],
        data_collator=masking,
    )
    return train(trainer, checkpoints, patience=settings.patience, show_progress=show_progress)


def _load(folder: Path, seed: int) -> tuple[PreTrainedModel, list[str]]:
    """The network, and the names of the head's weights that the folder lacks, which were drawn."""
    from transformers import AutoModelForMaskedLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, missing = load_pretrained(AutoModelForMaskedLM.from_config, folder)
    network.accepts_loss_kwargs = False  # the loss is a mean, which the trainer has to be told
    return network, sorted(missing)


def _place(network: nn.Module, settings: TrainingSettings) -> None:
    with on_device(settings.device) as place:
        network.to(place)


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )
    if tokenizer.mask_token is None:
        raise InputError(
            f"{folder}: its tokenizer has no mask token; expected that of a masked-LM model"
        )
    return tokenizer
