"""The parts of model cards that describe a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedkit.data.pairs import Pairs
from embedkit.data.positives import Positives
from embedkit.training.arguments import TrainingSettings
from embedkit.training.checkpoints import step_of

BI_ENCODER_SECTION = """
## Training

This folder was trained by `embedkit train bi-encoder`.

{notes}"""

MASKED_LM_CARD = """\
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


def named_sizes(data: Sequence[Pairs] | Sequence[Positives]) -> str:
    """The sets and how many pairs each has."""
    return ", ".join(f"{one.name} ({len(one.sentence1):,} pairs)" for one in data)


def kept(best: Path, dev: Pairs, settings: TrainingSettings) -> dict[str, Any]:
    """Which checkpoint was the best on `dev`, and how training ran."""
    return {
        "kept": f"the checkpoint of the best Spearman on {dev.name}, after step {step_of(best)}",
        **settings.described(),
    }
