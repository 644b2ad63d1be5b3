"""What comes of masked-language-model training: its figures, and the folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.embedder.model_card import noted, write_mark
from embedkit.embedder.model_config import Settings
from embedkit.encoders.encoder import Encoder
from embedkit.encoders.loading import of_pooler
from embedkit.encoders.weights import Weights
from embedkit.files import load_json, write_text
from embedkit.recipes.recipe import Recipe
from embedkit.tokenization.tokenizer import TextTokenizer
from embedkit.training.arguments import TrainingSettings
from embedkit.version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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


def save_weights(
    network: PreTrainedModel, source: Path, tokenizer: TextTokenizer, new: Path
) -> bool:
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
        if of_pooler(name):
            parts = name.split(".")
            inside = parts[parts.index("pooler") :]
            pooler[".".join([network.base_model_prefix, *inside])] = (
                before[name].float().contiguous()
            )
    if pooler:
        tensors = load_file(new / "model.safetensors")
        save_file(tensors | pooler, new / "model.safetensors", metadata={"format": "pt"})
    return bool(pooler)


def copy_modules(folder: Path, settings: Settings, new: Path) -> None:
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


def write_card(
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
        notes=noted(settings.described()),
    )
    write_text(new / "README.md", card)
    write_mark(new, str(recipe), name)
