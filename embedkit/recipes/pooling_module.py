"""`Pooling`: a recipe as a torch module on the outputs of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from embedkit.arguments import check_count
from embedkit.encoders.states import TokenStates
from embedkit.errors import InputError
from embedkit.pooling import POOLINGS
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import LAST, MIX, Recipe
from embedkit.recipes.torch_steps import StepModule

if TYPE_CHECKING:
    from embedkit.embedder.recipe_encoder import RecipeEncoder

_ANY_DIM = 1 << 30  # steps are checked against the real one when it is known
_CONFIG = {"dim": "hidden_size", "num_layers": "num_hidden_layers"}
_HOW = "call the model with output_hidden_states=True"


class Pooling(nn.Module):
    """A recipe on top of a BertModel or any other encoder of transformers, differentiable.

    Padded states are packed where they come in, and reduced by the poolings of the engine. The
    result depends neither on padding nor on autocast, which is off in here.

    Args:
        recipe: such as `cls+mean@-1/normalize`. What a recipe learns from texts (`whiten`, `pca`,
            `idf_mean`, ...) comes with `Pooling.of(embedder)`.
        dim: of the hidden states; `attention` needs it, for its query.
        num_layers: of the encoder; `mix` needs it, for the weights of its num_layers + 1 states.

    Attributes:
        recipe: as it was given, in canonical form.
        query: parameter (dim,) of `attention`, or None; it begins at 0, which is `mean`.
        mix: parameter (num_layers + 1,) of `mix`, or None; its softmax weighs the hidden states,
            and begins as their average.
        steps: modules. The weights of Dense and LayerNorm steps are parameters, fitted ones too;
            `requires_grad_(False)` freezes them.

    Raises:
        InputError: a recipe that cannot be read or has to be fitted first, or `dim` or
            `num_layers` is missing.

    Example:
        >>> import torch
        >>> from embedkit import Pooling
        >>> hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [9.0, 9.0]]])
        >>> attention_mask = torch.tensor([[1, 1], [1, 0]])
        >>> Pooling("cls+mean")(hidden, attention_mask).tolist()
        [[1.0, 2.0, 2.0, 3.0], [5.0, 6.0, 5.0, 6.0]]
    """

    token_weights: Tensor | None

    def __init__(
        self,
        recipe: str | Recipe | BoundRecipe,
        *,
        dim: int | None = None,
        num_layers: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"attention": ("dim", dim), MIX: ("num_layers", num_layers)}
        for name, size in sizes.values():
            if size is not None:
                check_count(name, size)
        if isinstance(recipe, BoundRecipe):
            bound = recipe
        else:
            bound = BoundRecipe.of(Recipe.of(recipe), dim or _ANY_DIM)
        self.recipe = bound.recipe
        if bound.unfitted is not None:
            raise InputError(
                f"recipe {str(self.recipe)!r}: {bound.unfitted} is learned from texts; fit an "
                "Embedder with this recipe, and take Pooling.of(embedder)"
            )
        for part in self.recipe.to_train:
            name, size = sizes[part]
            if size is None and not isinstance(recipe, BoundRecipe):
                raise InputError(
                    f"recipe {str(self.recipe)!r}: {part} has weights; expected {name}, such as "
                    f"model.config.{_CONFIG[name]}"
                )
        bound = bound.initialised(dim or 0, num_layers or 0)
        query, mix, weights = bound.query, bound.layer_weights, bound.token_weights
        self.query = None if query is None else nn.Parameter(torch.tensor(query))
        # A layer without weight, as a WeightedLayerPooling may have, stays without.
        self.mix = None if mix is None else nn.Parameter(torch.tensor(mix).log())
        self.register_buffer("token_weights", None if weights is None else torch.tensor(weights))
        self.steps = nn.ModuleList(StepModule(step) for step in bound.steps)

    @classmethod
    def of(cls, embedder: RecipeEncoder) -> Pooling:
        """The recipe of an embedder with all that it has learned, on the embedder's device.

        Raises:
            InputError: the recipe is not fitted or not trained.
        """
        if not isinstance(getattr(embedder, "bound", None), BoundRecipe):
            raise InputError(f"got a {type(embedder).__name__}, expected an Embedder")
        embedder.bound.check_fitted()
        return cls(embedder.bound).to(embedder.device)

    def forward(
        self,
        model_output: Any,
        attention_mask: Tensor,
        *,
        input_ids: Tensor | None = None,
        special_tokens_mask: Tensor | None = None,
        prompt_tokens: int = 0,
    ) -> Tensor:
        """Sentence embeddings of n texts.

        Args:
            model_output: what a model of transformers returns, or for a recipe of the last layer
                the tensor (n, length, dim) of its last_hidden_state. Another layer and `mix` read
                hidden_states. `pooler` reads pooler_output; transformers invents its weights where
                the checkpoint has none, and whether it did cannot be known here.
            attention_mask: (n, length), 1 for tokens and 0 for padding, of any dtype. Padding is on
                either side; for `pooler`, which transformers applies to the first column, on the
                right.
            input_ids: (n, length) integers; only `idf_mean` reads them.
            special_tokens_mask: (n, length), 1 for special tokens (a tokenizer returns it for
                `return_special_tokens_mask=True`); only `mean_content`, `max_content` and
                `idf_mean` read it.
            prompt_tokens: first tokens of each text that are left out of the pooling, as
                sentence-transformers does with `include_prompt=False`; `pooler` stays as it is.

        Returns:
            (n, dim of the recipe), on the device and in the dtype of the model's output. Sums are
            taken in float32, or in float64 where the output is.

        Raises:
            InputError: a part of the output or an argument that the recipe needs is missing, shapes
                do not fit, or a row of the mask has no tokens or padding between them.
        """
        layers, pooler_output = self._read(model_output)
        self._check_arguments(input_ids, special_tokens_mask, prompt_tokens)
        output = next(iter(layers.values())) if pooler_output is None else pooler_output
        with torch.autocast(output.device.type, enabled=False):
            states = TokenStates.from_padded(
                layers, attention_mask, input_ids, special_tokens_mask, pooler_output
            )
            shortest = min(states.batch.lengths)
            if shortest <= prompt_tokens:
                raise InputError(
                    f"prompt_tokens is {prompt_tokens}, and row "
                    f"{states.batch.lengths.index(shortest)} has {shortest} tokens; expected fewer"
                )
            states = states.without_prompt(prompt_tokens)
            if pooler_output is None:
                mix = None if self.mix is None else self.mix.softmax(0)
                states = states.average(tuple(layers), mix)
                if self.query is not None and len(self.query) != states.only.shape[1]:
                    raise InputError(
                        f"hidden states have {states.only.shape[1]} numbers, and the query of "
                        f"attention {len(self.query)}; expected as many"
                    )
                states = replace(states, query=self.query, token_weights=self.token_weights)
            pooled = [POOLINGS[name].reduce(states) for name in self.recipe.poolings]
            rows = torch.cat(pooled, 1)
            rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
            for step in self.steps:
                rows = step(rows)
        return rows.to(output.dtype)

    def extra_repr(self) -> str:
        """Its recipe."""
        return repr(str(self.recipe))

    def _read(self, output: Any) -> tuple[dict[int, Tensor], Tensor | None]:
        """The hidden states of the recipe, or the pooler_output."""
        recipe = self.recipe
        last = recipe.layers == LAST and recipe.poolings != ("pooler",)
        if isinstance(output, Tensor):
            if not last:
                raise InputError(
                    f"recipe {str(recipe)!r} reads more than the last hidden state, got a tensor; "
                    f"expected the output of a model of transformers ({_HOW})"
                )
            return {-1: _check_states(output)}, None

        def part(name: str) -> Any:
            if isinstance(output, Mapping):  # as transformers' outputs are
                return output.get(name)
            return getattr(output, name, None)

        kind = type(output).__name__
        if part("encoder_last_hidden_state") is not None:
            raise InputError(
                f"model_output is a {kind}, with states of a decoder; expected those of an "
                "encoder, such as model.get_encoder() returns"
            )
        if recipe.poolings == ("pooler",):
            pooled = part("pooler_output")
            if pooled is None:
                raise InputError(
                    f"the {kind} has no pooler_output; expected that of a model with a pooler"
                )
            return {}, pooled
        if last and part("last_hidden_state") is not None:
            return {-1: _check_states(part("last_hidden_state"))}, None
        hidden = part("hidden_states")
        if hidden is None and last:
            raise InputError(
                f"model_output is a {kind} without last_hidden_state and hidden_states; "
                f"{_HOW} (and return_dict=True), or pass a tensor (texts, length, dim)"
            )
        if hidden is None:
            raise InputError(
                f"recipe {str(recipe)!r} reads hidden_states, and the {kind} has none; {_HOW}"
            )
        if self.mix is not None and len(self.mix) != len(hidden):
            raise InputError(
                f"recipe {str(recipe)!r} mixes {len(self.mix)} hidden states, and the {kind} has "
                f"{len(hidden)}; expected num_layers={len(hidden) - 1}"
            )
        numbers = recipe.resolve(len(hidden) - 1).states(len(hidden) - 1)
        return {k: _check_states(hidden[k]) for k in numbers}, None

    def _check_arguments(
        self, input_ids: Tensor | None, special: Tensor | None, prompt_tokens: int
    ) -> None:
        """Refuse the lack of what a pooling of the recipe reads."""
        for name in self.recipe.poolings:
            if POOLINGS[name].content and special is None:
                raise InputError(
                    f"{name} leaves special tokens out, and special_tokens_mask is missing; call "
                    "the tokenizer with return_special_tokens_mask=True"
                )
            if POOLINGS[name].fitted and input_ids is None:
                raise InputError(f"{name} weighs tokens, and input_ids is missing")
        check_count("prompt_tokens", prompt_tokens, 0)


def _check_states(states: Any) -> Tensor:
    if not isinstance(states, Tensor) or states.ndim != 3 or not states.is_floating_point():
        shown = type(states).__name__
        if isinstance(states, Tensor):
            shown = f"{states.dtype} {tuple(states.shape)}"
        raise InputError(f"hidden states are {shown}; expected floats (texts, length, dim)")
    return states
