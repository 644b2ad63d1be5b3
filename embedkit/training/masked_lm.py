"""Adapt an encoder to a domain: continue masked-language-model training on its texts."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from embedkit.arguments import check_type
from embedkit.data.tables import chunks
from embedkit.embedder.card_metadata import CardScore, add_card_metadata, base_model_metadata
from embedkit.embedder.fingerprint import state_sha256
from embedkit.embedder.loading import load_folder
from embedkit.embedder.model_card import noted, write_mark
from embedkit.embedder.model_config import Settings
from embedkit.encoders.devices import on_device
from embedkit.encoders.hub import find_folder
from embedkit.encoders.loading import of_pooler
from embedkit.encoders.weights import Weights
from embedkit.errors import InputError
from embedkit.evaluation.report.locale import catalogue
from embedkit.files import DEFAULT_MODEL, load_json, new_folder, write_text
from embedkit.markdown import in_markdown
from embedkit.masked_lm import load_mask_tokenizer, load_masked_lm
from embedkit.progress import progress
from embedkit.tokenization.tokenizer import TextTokenizer, check_ids
from embedkit.training.arguments import MASKED_LM, TrainingSettings
from embedkit.training.cards import MASKED_LM_CARD, loss_notes
from embedkit.training.mlm_data import AdaptationTexts, Masking
from embedkit.training.order import ByLength
from embedkit.training.outcome import Curve
from embedkit.training.run import TrainingRun
from embedkit.version import __version__

_NEW_HEAD = "new; it began with random weights"
_OLD_POOLER = "the weights from before; masked-LM training does not change a pooler"


@dataclass(frozen=True)
class Adaptation:
    """The figures of a masked-language-model training."""

    before: float  # perplexity on the held-out texts, with the head that the model came with
    after: float  # the same of what was saved, with the same masks
    texts: int  # trained on
    held_out: int
    left_out: int  # texts that were there before, or have no token of their own
    truncated: int  # texts that were cut to the maximum length
    new_head: bool  # the head was random at first, so `before` says nothing of the encoder
    pooler: bool  # whether the folder has a pooler, whose weights are those from before
    curve: Curve = ()  # losses on the way, of the training and of the held-out texts

    def in_words(self, language: str) -> str:
        """Both perplexities, in English (en) or Korean (ko)."""
        key = "perplexity_new_head" if self.new_head else "perplexity"
        return catalogue(language)["training"][key].format(**vars(self))

    def notes_in(self, language: str) -> list[str]:
        """What became of the texts and of the pooler, in English (en) or Korean (ko)."""
        keys = [name for name in ("left_out", "truncated") if getattr(self, name)]
        keys.append("pooler_kept" if self.pooler else "no_pooler")
        return [catalogue(language)["training"][key].format(**vars(self)) for key in keys]


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
    """Train and save; a run that was killed is resumed.

    The pooler takes no part in masked-LM training: its weights stay as they were, beside an encoder
    that has changed. The recipe and the prompts of a sentence-transformers folder are kept. The
    other arguments are those of `train_bi_encoder`.

    Args:
        texts: each is one example, cut to the maximum length; repeated ones count once.
        held_out: other texts, for perplexity, which decides on the checkpoint that is kept; None
            holds out every 20th of `texts`.
        new_head: whether a checkpoint without a masked-LM head gets a random one.

    Raises:
        InputError: wrong texts, settings or model, before the first step.

    Example:
        >>> from embedkit import TrainingSettings, train_masked_lm
        >>> texts = [f"The cat sees {n} dogs." for n in range(40)]
        >>> once = TrainingSettings(epochs=1, evaluations=1, device="cpu")
        >>> adapted = train_masked_lm(texts, "my-bert", new_head=True, settings=once)
        >>> adapted.before > 1
        True
    """
    check_type("settings", settings, TrainingSettings, "TrainingSettings")
    settings.check_installed()
    folder = find_folder(model, revision=revision)
    parts = load_folder(folder, None, max_length)
    network, drawn = load_masked_lm(parts.settings.encoder_folder, settings.seed)
    if drawn and not new_head:
        raise InputError(
            f"model {str(model)!r} has no weights for a masked-LM head ({', '.join(drawn[:3])}); "
            "expected a checkpoint of masked-LM pre-training, or --new-head to begin with a random "
            "one"
        )
    chosen = AdaptationTexts.of(texts, held_out, parts.tokenizer)
    tokenizer = load_mask_tokenizer(parts.settings.encoder_folder)
    check_ids(chosen.tokens.token_ids, network.config.vocab_size)
    plan = {
        "training": "mlm",
        "model": state_sha256(network),
        "texts": chosen.sha256,
        "max_length": parts.tokenizer.max_length,
        "new_head": new_head,
    }
    lengths, size = chosen.tokens.lengths, settings.batch_size
    order = ByLength(lengths, size, settings.seed, chosen.trained)
    masking = Masking(chosen.tokens, tokenizer, order, settings.seed)
    with TrainingRun.begin(out, settings, show_progress, plan) as run:
        batches = list(chunks(order.held_out, size))
        before = perplexity(network, masking, batches, settings.device, show_progress=show_progress)
        # The batches of `perplexity`, so that they have the same masks.
        best = run.fine_tune(network, order, masking, "eval_loss", eval_batch=size)
        best.load(network)
        after = perplexity(network, masking, batches, settings.device, show_progress=show_progress)
        with new_folder(Path(out)) as new:
            pooler = _save_weights(network, parts.settings.encoder_folder, parts.tokenizer, new)
            result = Adaptation(
                before,
                after,
                chosen.trained,
                chosen.held_out,
                chosen.left_out,
                int(chosen.tokens.truncated.sum()),
                bool(drawn),
                pooler,
                best.curve,
            )
            _copy_modules(folder, parts.settings, new)
            card = asdict(result) | {
                "name": in_markdown(model),
                "family": parts.encoder.family,
                "layers": parts.encoder.num_layers,
                "version": __version__,
                "head": _NEW_HEAD if drawn else "that of the checkpoint",
                "pooler": _OLD_POOLER if pooler else "none",
                "notes": noted(loss_notes(best.curve) | settings.described()),
            }
            write_text(new / "README.md", MASKED_LM_CARD.format(**card))
            score = CardScore("fill-mask", "held-out texts", "perplexity", after)
            base = base_model_metadata(model, revision)
            add_card_metadata(new, Path(out).absolute().name, base, [score])
            write_mark(new, str(parts.bound.recipe), str(model))
    return result


def perplexity(
    network: PreTrainedModel,
    masking: Masking,
    batches: Sequence[Sequence[int]],
    device: str | None = None,
    *,
    show_progress: bool | None = None,
) -> float:
    """exp of the mean cross-entropy, in nats, over the masked tokens of all batches."""
    total, count = 0.0, 0
    with on_device(device) as target:
        cast("nn.Module", network).to(target).eval()
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


def _save_weights(
    network: PreTrainedModel, source: Path, tokenizer: TextTokenizer, new: Path
) -> bool:
    """Write network and tokenizer, with the pooler of the source; whether there is one."""
    network.save_pretrained(new)
    tokenizer.save(new)
    before = Weights(source)
    pooler = {
        f"{network.base_model_prefix}.{name[name.index('pooler.') :]}": before[name]
        .float()
        .contiguous()
        for name in before.names
        if of_pooler(name)
    }
    if pooler:
        tensors = load_file(new / "model.safetensors")
        save_file(tensors | pooler, new / "model.safetensors", metadata={"format": "pt"})
    return bool(pooler)


def _copy_modules(folder: Path, settings: Settings, new: Path) -> None:
    """What a folder of sentence-transformers has beside its encoder, which is now at the top."""
    listed = folder / "modules.json"
    if not listed.is_file():
        return
    modules = load_json(listed)
    for module in modules[1:]:
        source, target = folder / module["path"], new / module["path"]
        if source.is_dir() and source != folder:
            target.mkdir(parents=True, exist_ok=True)  # two of them may share one
            # Not what is in folders below, which nobody reads and nobody has checked for links.
            for path in source.iterdir():
                if path.is_file():
                    shutil.copyfile(path, target / path.name)
    modules[0]["path"] = ""
    write_text(new / "modules.json", json.dumps(modules, indent=2) + "\n")
    lengths = settings.encoder_folder.glob("sentence_*_config.json")
    for path in (folder / "config_sentence_transformers.json", *lengths):
        if path.is_file():
            shutil.copyfile(path, new / path.name)
