"""`RecipePooling`: trainable poolings as a module of sentence-transformers, for its trainer.

Saved folders name this class where a recipe has `attention`. sentence-transformers then loads them
with `trust_remote_code=True`; embedkit reads the weights and runs nothing.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.module import Module
from sentence_transformers.sentence_transformer.modules import Pooling as TheirPooling
from sentence_transformers.sentence_transformer.modules import WeightedLayerPooling
from torch import Tensor

from embedkit.encoders.loading import without_bars
from embedkit.pooling import POOLINGS
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.pooling_module import Pooling
from embedkit.recipes.recipe import Recipe

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder


class RecipePooling(Module):
    """The layers and poolings of a recipe, such as `attention` or `mean@mix`, without its steps."""

    config_keys = ["recipe", "embedding_dimension", "num_layers", "include_prompt"]  # noqa: RUF012

    def __init__(
        self,
        recipe: str,
        embedding_dimension: int,  # of the hidden states
        num_layers: int,  # of the encoder
        include_prompt: bool = True,  # whether prompt tokens are pooled too
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recipe, self.include_prompt = recipe, include_prompt
        self.embedding_dimension, self.num_layers = embedding_dimension, num_layers
        self.pooling = Pooling(recipe, dim=embedding_dimension, num_layers=num_layers)

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Add sentence_embedding, (n, dim), to the features of a Transformer."""
        hidden = features["token_embeddings"]
        if self.pooling.mix is not None:
            hidden = {"hidden_states": features["all_layer_embeddings"]}
        skipped = 0 if self.include_prompt else features.get("prompt_length", 0)
        skipped = int(skipped.flatten()[0]) if isinstance(skipped, Tensor) else skipped
        features["sentence_embedding"] = self.pooling(
            hidden, features["attention_mask"], prompt_tokens=skipped
        )
        return features

    def get_embedding_dimension(self) -> int:
        """Numbers of a sentence embedding."""
        return self.embedding_dimension * len(self.pooling.recipe.poolings)

    def save(self, output_path: str, *_: Any, safe_serialization: bool = True, **__: Any) -> None:
        """Write config.json and model.safetensors."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(  # type: ignore[override]
        cls, model_name_or_path: str, subfolder: str = "", **options: Any
    ) -> Self:
        """Read what `save` wrote."""
        names = ("token", "cache_folder", "revision", "local_files_only")
        hub: Any = {name: options[name] for name in names if name in options}
        made = cls(**cls.load_config(model_name_or_path, subfolder=subfolder, **hub))
        cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=made, **hub)
        return made


def load_trainable(embedder: Embedder, device: str | None) -> SentenceTransformer:
    """The embedder in sentence-transformers, to be trained; an average of layers stays one."""
    bound, num_layers = embedder.bound, embedder.encoder.num_layers
    recipe = bound.recipe
    written = embedder.with_recipe(_stand_in(bound, num_layers)) if recipe.to_train else embedder
    with tempfile.TemporaryDirectory() as scratch, without_bars():
        written.write(Path(scratch))
        model = SentenceTransformer(
            scratch, device=device, trust_remote_code=False, local_files_only=True
        )
    if recipe.mix:
        del model[1]  # a WeightedLayerPooling
    if recipe.to_train:
        own = replace(bound, recipe=Recipe(recipe.poolings, mix=recipe.mix), steps=())
        pooling = RecipePooling(
            str(own.recipe), embedder.encoder.dim, num_layers, embedder.settings.include_prompt
        )
        pooling.pooling = Pooling(own)
        (place,) = (i for i, module in enumerate(model) if isinstance(module, TheirPooling))
        model[place] = pooling.to(model.device)
    for module in model:
        if isinstance(module, WeightedLayerPooling):
            module.requires_grad_(False)
    return model


def _stand_in(bound: BoundRecipe, num_layers: int) -> BoundRecipe:
    """A recipe of the same dimensions and hidden states that sentence-transformers has."""
    recipe = bound.recipe
    theirs = [name for name, row in POOLINGS.items() if row.sentence_transformers]
    poolings = tuple(theirs[: len(recipe.poolings)])
    layers = tuple(range(num_layers + 1)) if recipe.mix else recipe.layers
    return BoundRecipe(Recipe(poolings, layers, recipe.steps).resolve(num_layers), bound.steps)
