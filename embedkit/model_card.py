"""What embedkit writes into a saved folder for people, and its mark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.version import __version__

if TYPE_CHECKING:
    from embedkit.embedder import Embedder

MARK = "embedkit.json"

_CARD = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, sentence-similarity, embedkit]
---

# {name}, recipe `{recipe}`

Turns a text into a vector of {dimension} float32 numbers. Saved by embedkit {version}.

- encoder: {name} ({family}, {layers} layers{cut})
- recipe: `{recipe}` ({meaning})
- maximum length: {max_length} tokens
- similarity: {similarity}
- prompts: {prompts}

```python
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer("path/to/this/folder").encode(["..."])
```

```python
from embedkit import Embedder

vectors = Embedder.from_pretrained("path/to/this/folder").encode(["..."])
```

{tei}
"""


def write(folder: Path, embedder: Embedder) -> None:
    """Write README.md and the mark into a folder that holds the saved model."""
    recipe, encoder = embedder.recipe, embedder.encoder
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    layers = saved.get("num_hidden_layers", encoder.num_layers)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    kinds = [module["type"].rsplit(".", 1)[1] for module in modules]
    single = len(recipe.poolings) == 1 and recipe.poolings[0] in ("cls", "mean", "last")
    if single and set(kinds) <= {"Transformer", "Pooling", "Normalize"}:
        tei = (
            "Text Embeddings Inference can read this folder: it has one pooling of cls, mean or "
            "last, and no Dense."
        )
    else:
        tei = (
            "Text Embeddings Inference cannot read this folder: it needs one pooling of cls, mean "
            f"or last and neither Dense nor WeightedLayerPooling, and this is {' > '.join(kinds)}."
        )
    used = recipe.states(encoder.num_layers) or (encoder.num_layers,)
    meaning = f"hidden state{'s' if len(used) > 1 else ''} {', '.join(map(str, used))}"
    card = _CARD.format(
        name=embedder.name,
        recipe=recipe,
        dimension=embedder.dimension,
        version=__version__,
        family=encoder.family,
        layers=layers,
        cut=f", cut from {encoder.num_layers}" if layers < encoder.num_layers else "",
        meaning=f"{meaning} of {encoder.num_layers}",
        max_length=embedder.tokenizer.max_length,
        similarity=embedder.settings.similarity,
        prompts=json.dumps(embedder.settings.prompts, ensure_ascii=False) or "none",
        tei=tei,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    mark = {"embedkit": __version__, "recipe": str(recipe), "source": embedder.name}
    (folder / MARK).write_text(json.dumps(mark, ensure_ascii=False) + "\n", encoding="utf-8")
