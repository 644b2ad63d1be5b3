"""Adapting an encoder to a domain: masked-language-model training goes on with its texts."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embedkit.checkpoint import DEFAULT_MODEL, Weights, find_folder
from embedkit.encoder import Encoder
from embedkit.encoder.pretrained import load_whole, without_bars
from embedkit.errors import InputError
from embedkit.interop.folder import new_folder
from embedkit.interop.model_card import MARK
from embedkit.loading import load_folder
from embedkit.progress import progress
from embedkit.recipe import Recipe
from embedkit.settings import Settings
from embedkit.tokens import TextTokenizer, Tokenized, check_texts
from embedkit.training.checkpoints import Checkpoints
from embedkit.training.settings import MASKED_LM, TrainingSettings
from embedkit.version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from embedkit.training.masking import Masking
    from embedkit.training.order import ByLength

HELD_OUT_EVERY = 20  # texts: the share of those that are held out where none are given
MIN_TEXTS = 2 * HELD_OUT_EVERY
_ST_FILES = ("config_sentence_transformers.json",)
_CARD = """\
---
library_name: transformers
pipeline_tag: fill-mask
tags: [fill-mask, embedkit]
---

# {name}, adapted to other texts

{family}, {layers} layers, whose masked-language-model training went on with {texts:,} texts. \
Saved by embedkit {version}.

- made from: {name}
- perplexity on {held_out:,} held-out texts, with the same masks: {before:.2f} before, {after:.2f} \
after
- masked-LM head: {head}
- pooler: {pooler}
{notes}
```python
from embedkit import Embedder

vectors = Embedder.from_pretrained("path/to/this/folder").encode(["..."])
```

It is a folder of transformers, too: AutoModelForMaskedLM and AutoModel.
"""


@dataclass(frozen=True)
class Adaptation:
    """What came of it.

    Attributes:
        before: perplexity on the held-out texts, with the head that the model came with.
        after: the same of what was saved, with the same masks.
        texts: trained on.
        held_out: texts.
        left_out: texts that were there before, or have no token of their own.
        truncated: texts that were cut to the maximum length.
        new_head: the masked-LM head was drawn at random, so `before` says nothing of the encoder.
        pooler: whether the folder has a pooler, whose weights are those from before.
    """

    before: float
    after: float
    texts: int
    held_out: int
    left_out: int
    truncated: int
    new_head: bool
    pooler: bool


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
    found = _Texts.of(texts, held_out, parts.tokenizer)
    tokenizer = _load_tokenizer(parts.settings.encoder_folder)
    vocabulary = int(network.config.vocab_size)
    if (highest := int(found.tokens.token_ids.max())) >= vocabulary:
        raise InputError(
            f"the tokenizer gave token {highest}, and the encoder has {vocabulary} of them; they "
            "do not belong together"
        )
    plan = {
        "training": "mlm",
        "model": _sha256_of(network),
        "texts": found.sha256,
        "max_length": parts.tokenizer.max_length,
        "new_head": new_head,
        **settings.described(),
    }
    from embedkit.training.masking import Masking
    from embedkit.training.order import ByLength

    order = ByLength(found.tokens.lengths[: found.trained], settings.batch_size, settings.seed)
    masking = Masking(found.tokens, tokenizer, order, settings.seed)
    with Checkpoints.beside(Path(out), plan) as checkpoints, without_bars():
        _place(network, settings)
        batches = found.held_out_batches(settings.batch_size)
        before = perplexity(network, masking, batches, show_progress=show_progress)
        best = _train(network, found, masking, order, settings, checkpoints, show_progress)
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
                _save(trained, parts.settings.encoder_folder, parts.tokenizer, new),
            )
            _copy_modules(folder, parts.settings, new)
            _write_card(new, str(model), parts.encoder, parts.bound.recipe, result, settings)
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


@dataclass(frozen=True, eq=False)
class _Texts:
    """Distinct texts with tokens of their own: first those to train on, then those held out."""

    tokens: Tokenized
    trained: int
    left_out: int
    sha256: str

    @classmethod
    def of(
        cls, texts: Iterable[str], held_out: Iterable[str] | None, tokenizer: TextTokenizer
    ) -> _Texts:
        given = list(texts)
        check_texts(given)
        read = len(given)
        distinct = list(dict.fromkeys(given))
        if held_out is None:
            kept = distinct[::HELD_OUT_EVERY]
        else:
            others = list(held_out)
            check_texts(others, "held-out texts")
            read += len(others)
            kept = list(dict.fromkeys(others))
        apart = set(kept)
        learnt = [text for text in distinct if text not in apart]
        tokens = tokenizer([*learnt, *kept])
        starts = tokens.offsets[:-1]
        whole = np.flatnonzero(np.add.reduceat(~tokens.special, starts) > 0)
        trained = int((whole < len(learnt)).sum())
        if len(whole) < MIN_TEXTS or not 0 < trained < len(whole):
            raise InputError(
                f"got {trained} distinct texts to train on and {len(whole) - trained} held out; "
                f"expected at least {MIN_TEXTS} together, and some of both"
            )
        digest = hashlib.sha256()
        for text in [*learnt, *kept]:
            digest.update((json.dumps(text, ensure_ascii=False) + "\n").encode())
        digest.update(str(len(learnt)).encode())
        return cls(_chosen(tokens, whole), trained, read - len(whole), digest.hexdigest())

    @property
    def held_out(self) -> int:
        return len(self.tokens.lengths) - self.trained

    def held_out_batches(self, size: int) -> list[list[int]]:
        """The numbers of the held-out texts, those of similar length together."""
        by_length = np.argsort(self.tokens.lengths[self.trained :], kind="stable") + self.trained
        return [
            by_length[start : start + size].tolist() for start in range(0, len(by_length), size)
        ]


def _chosen(tokens: Tokenized, texts: NDArray[np.int64]) -> Tokenized:
    batch = tokens.batch(texts)
    return Tokenized(
        batch.token_ids.numpy().astype(np.int32),
        batch.offsets.numpy(),
        batch.special.numpy(),
        tokens.truncated[texts],
    )


def _train(
    network: PreTrainedModel,
    found: _Texts,
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
        TrainingArguments, checkpoints.folder, found.trained, metric="eval_loss", greater=False
    )
    arguments.per_device_eval_batch_size = settings.batch_size  # the batches of `perplexity`
    arguments.prediction_loss_only = True
    held_out = found.held_out_batches(settings.batch_size)
    trainer = ByLengthTrainer(
        order=order,
        model=network,
        args=arguments,
        train_dataset=list(range(found.trained)),
        eval_dataset=[text for batch in held_out for text in batch],
        data_collator=masking,
    )
    return train(trainer, checkpoints, patience=settings.patience, show_progress=show_progress)


def _load(folder: Path, seed: int) -> tuple[PreTrainedModel, list[str]]:
    """The network, and the names of the head's weights that the folder lacks, which were drawn."""
    from transformers import AutoModelForMaskedLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, missing = load_whole(AutoModelForMaskedLM.from_config, folder)
    network.accepts_loss_kwargs = False  # the loss is a mean, which the trainer has to be told
    return network, sorted(missing)


def _place(network: nn.Module, settings: TrainingSettings) -> None:
    network.to("cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu")


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


def _sha256_of(network: PreTrainedModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _save(network: PreTrainedModel, source: Path, tokenizer: TextTokenizer, new: Path) -> bool:
    """Write network and tokenizer, with the pooler of the source, which the network does not have.

    Returns:
        Whether there is a pooler.
    """
    from safetensors.torch import load_file, save_file

    network.save_pretrained(new)
    tokenizer.save(new)
    before = Weights(source)
    pooler = {}
    for name in before.names:
        parts = name.split(".")
        if "pooler" in parts:
            inside = parts[parts.index("pooler") :]
            pooler[".".join([network.base_model_prefix, *inside])] = (
                before[name].float().contiguous()
            )
    if pooler:
        tensors = load_file(new / "model.safetensors")
        save_file(tensors | pooler, new / "model.safetensors", metadata={"format": "pt"})
    return bool(pooler)


def _copy_modules(folder: Path, settings: Settings, new: Path) -> None:
    """What a folder of sentence-transformers has beside its encoder, which is now at the top."""
    listed = folder / "modules.json"
    if not listed.is_file():
        return
    modules = json.loads(listed.read_text(encoding="utf-8"))
    for module in modules[1:]:
        source = folder / module["path"]
        if source.is_dir():
            shutil.copytree(source, new / module["path"])
    modules[0]["path"] = ""
    (new / "modules.json").write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")
    configs = [folder / name for name in _ST_FILES]
    configs += settings.encoder_folder.glob("sentence_*_config.json")
    for path in configs:
        if path.is_file():
            shutil.copyfile(path, new / path.name)


def _write_card(
    new: Path,
    name: str,
    encoder: Encoder,
    recipe: Recipe,
    result: Adaptation,
    settings: TrainingSettings,
) -> None:
    """README.md, and the mark that embedkit wrote the folder."""
    card = _CARD.format(
        name=name,
        family=encoder.family,
        layers=encoder.num_layers,
        version=__version__,
        texts=result.texts,
        held_out=result.held_out,
        before=result.before,
        after=result.after,
        head="new; it began with random weights" if result.new_head else "that of the checkpoint",
        pooler="the weights from before; masked-LM training does not change a pooler"
        if result.pooler
        else "none",
        notes="".join(f"- {key}: {value}\n" for key, value in settings.described().items()),
    )
    (new / "README.md").write_text(card, encoding="utf-8")
    mark = {"embedkit": __version__, "recipe": str(recipe), "source": name}
    (new / MARK).write_text(json.dumps(mark, ensure_ascii=False) + "\n", encoding="utf-8")
