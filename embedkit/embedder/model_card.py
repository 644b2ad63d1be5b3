"""The model card of a saved folder, and the file that marks it as written by embedkit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedkit.embedder.model_config import Settings
from embedkit.encoders.encoder import Encoder
from embedkit.files import MARK, read_mark, write_json, write_text
from embedkit.markdown import in_markdown
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe, RecipeError
from embedkit.version import __version__

_CARD = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, sentence-similarity, embedkit]
---

# {name}, recipe `{recipe}`

Turns a text into a vector of {width} float32 numbers. Saved by embedkit {version}.

- encoder: {name} ({family}, {layers})
- recipe: `{recipe}`, on {states} of {total}{fit}
- maximum length: {max_length} tokens
- similarity: {similarity}
- prompts: {prompts}

```python
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer("path/to/this/folder"{trust}).encode(["..."])
```

```python
from embedkit import Embedder

vectors = Embedder.from_pretrained("path/to/this/folder").encode(["..."])
```

{tei}
"""


def write_card(
    folder: Path,
    modules: Sequence[str],  # the kinds of the folder's modules, in order
    encoder: Encoder,  # as it was loaded; `num_layers` of it are saved
    bound: BoundRecipe,
    settings: Settings,
    *,
    name: str,  # the model that it was made from
    num_layers: int,
    max_length: int,
) -> None:
    """Write README.md and the mark."""
    recipe, total = bound.recipe, encoder.num_layers
    single = len(recipe.poolings) == 1 and recipe.poolings[0] in ("cls", "mean", "last")
    if single and set(modules) <= {"Transformer", "Pooling", "Normalize"}:
        tei = (
            "Text Embeddings Inference can read this folder: it has one pooling of cls, mean or "
            "last, and no Dense."
        )
    else:
        tei = (
            "Text Embeddings Inference cannot read this folder: it needs one pooling of cls, mean "
            "or last and neither Dense nor WeightedLayerPooling, and this is "
            f"{' > '.join(modules)}, recipe `{recipe}`."
        )
    used = recipe.states(total) or (total,)
    card = _CARD.format(
        name=in_markdown(name),
        recipe=recipe,
        width=bound.dim(encoder.dim),
        version=__version__,
        family=encoder.family,
        layers=f"{num_layers} layers" + (f", cut from {total}" if num_layers < total else ""),
        states=f"hidden state{'s' if len(used) > 1 else ''} {', '.join(map(str, used))}",
        total=total,
        fit="" if bound.fit is None else f"\n- steps: {in_markdown(bound.fit)}",
        max_length=max_length,
        similarity=settings.similarity,
        prompts=in_markdown(json.dumps(settings.prompts, ensure_ascii=False))
        if settings.prompts
        else "none",
        tei=tei,
        trust=", trust_remote_code=True" if "RecipePooling" in modules else "",
    )
    write_text(folder / "README.md", card)
    engine = {"engine": settings.engine} if settings.engine == "openvino" else {}
    write_mark(folder, str(recipe), name, **engine)


def add_section(folder: Path, section: str) -> None:
    """Write it at the end of the card that is there."""
    card = folder / "README.md"
    write_text(card, card.read_text(encoding="utf-8") + section)


def noted(notes: Mapping[str, object]) -> str:
    """Notes as a card lists them, a line each; without settings that were left unset."""
    lines = (f"{name}: {value}" for name, value in notes.items() if value is not None)
    return "".join(f"- {in_markdown(line)}\n" for line in lines)


def write_mark(folder: Path, recipe: str, source: str, **more: str) -> None:
    """Say that embedkit wrote the folder, from which model, and what it reads of the encoder."""
    mark = {"embedkit": __version__, "recipe": recipe, "source": source, **more}
    write_json(folder / MARK, mark)


def read_recipe(folder: Path) -> Recipe | None:
    """The recipe that embedkit wrote beside the weights, if it did and it can be read."""
    mark = read_mark(folder)
    if not mark:
        return None
    try:
        return Recipe.parse(mark.get("recipe", ""))
    except RecipeError:  # steps of a model's own, which are called dense
        return None
