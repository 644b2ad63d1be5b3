"""Texts to embeddings of any recipes of one model: its encoder, tokenizer and prompts."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedkit.data.texts import as_texts, check_text
from embedkit.embedder.fingerprint import fingerprint, identity
from embedkit.embedder.one_pass import Distinct, Encoded, ahead, in_parts, run
from embedkit.embedder.precision import AUTO, Choice, choose
from embedkit.embedder.saving import check_saveable, write_folder
from embedkit.encoders.devices import standard_torch
from embedkit.encoders.encoder import Encoder
from embedkit.errors import InputError
from embedkit.progress import progress
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.fitting import fit_recipes
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array
from embedkit.tokenization.tokenizer import TextTokenizer, Tokenized, check_ids

if TYPE_CHECKING:
    from typing import Self

    import torch

    from embedkit.embedder.model_config import Settings

GIVEN = "given by the caller"


class RecipeEncoder:
    """What `Embedder` is made of; see there."""

    encoder: Encoder
    tokenizer: TextTokenizer
    bound: BoundRecipe  # resolved against `encoder`
    settings: Settings
    name: str  # what reports call the model
    precision_choice: Choice
    reproducible: bool
    asked_precision: str  # that was asked for, which may be `auto`
    _calibrate_on: Sequence[str] | None = None  # for int8; None for built-in texts

    @standard_torch()
    def _settle(
        self,
        *,
        encoder: Encoder | None = None,
        bound: BoundRecipe | None = None,
        precision: str | None = None,
    ) -> Self:
        """Take another encoder, recipe or precision; with `auto`, choose the precision again."""
        if encoder is not None:
            self.encoder = encoder
            self.__dict__.pop("_digests", None)
        self.bound = bound or self.bound
        self.asked_precision = precision or self.asked_precision
        self.__dict__.pop("identity", None)
        own = self.own
        self.encoder, self.precision_choice = choose(
            self.encoder,
            lambda texts: self._tokenize(texts, "")[0],
            self.bound,
            self.asked_precision,
            self.settings.engine,
            self._calibrate_on,
            own_recipe=own is not None and own.recipe == self.recipe,
        )
        return self

    @property
    def precision(self) -> str:
        """float32, bfloat16, float16 or int8: what the encoder runs in."""
        return self.precision_choice.name

    @property
    def engine(self) -> str:
        """torch or openvino: what runs the encoder."""
        return self.encoder.engine

    @property
    def recipe(self) -> Recipe:
        """Resolved: its layers are counted from 0, the last one is -1."""
        return self.bound.recipe

    @property
    def dimension(self) -> int:
        """Numbers in a sentence embedding; at most these, where a step is not fitted yet."""
        return self.bound.dim(self.encoder.dim)

    @property
    def device(self) -> torch.device:
        """Where the encoder runs."""
        return self.encoder.device

    @cached_property
    def identity(self) -> dict[str, str | int | bool]:
        """The parts of `fingerprint` by name."""
        self.bound.check_fitted()
        return identity(self.encoder, self.tokenizer, self.bound, self.settings, self._digests)

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {}

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits, the same for embedders of equal embeddings in float32."""
        return fingerprint(self.identity)

    def fingerprint_of(self, bound: BoundRecipe) -> str:
        """The fingerprint with another recipe; the weights are read once for all of them."""
        parts = identity(self.encoder, self.tokenizer, bound, self.settings, self._digests)
        return fingerprint(parts)

    @property
    def own(self) -> BoundRecipe | None:
        """The recipe that the model's folder came with, if it had one."""
        return self.settings.own(self.encoder)

    def bind(self, recipe: str | Recipe) -> BoundRecipe:
        """Any recipe, resolved against this model; its present one as it is, fitted or not."""
        bound = self.settings.bind(Recipe.of(recipe), self.encoder)
        return self.bound if bound.recipe == self.recipe else bound

    def with_recipe(self, recipe: str | Recipe | BoundRecipe) -> Self:
        """The same encoder, tokenizer and prompts with another recipe."""
        bound = recipe if isinstance(recipe, BoundRecipe) else self.bind(recipe)
        return copy.copy(self)._settle(bound=bound)

    def with_initial_weights(self) -> Self:
        """The same, with the weights that training begins with where attention or mix has none."""
        if self.bound.untrained is None:
            return self
        return self.with_recipe(self.bound.initialised(self.encoder.dim, self.encoder.num_layers))

    def in_recorded(self, precision: str) -> Self:
        """The same in the precision that a folder records, where it was left to `auto`."""
        if self.asked_precision != AUTO or precision == self.precision:
            return self
        other = copy.copy(self)._settle(precision=precision)
        other.precision_choice = Choice(
            precision, None, "auto: recorded in the folder", engine=other.engine
        )
        return other

    def fit_recipes(
        self,
        recipes: Sequence[BoundRecipe],
        texts: Iterable[str],
        *,
        source: str = GIVEN,
        prompt: str | None = None,
        show_progress: bool | None = None,
    ) -> list[BoundRecipe]:
        """Many recipes fitted together; see `fit`. Those that are fitted stay as they are."""
        prefix = self.prompt_text(prompt)

        def encode(texts: Sequence[str], recipes: Sequence[BoundRecipe]) -> list[Float32Array]:
            encoded = self.encode_recipes(texts, recipes, prompt=prefix, show_progress=False)
            return [vectors[encoded.distinct.inverse] for vectors in encoded.vectors]

        def count(texts: Sequence[str]) -> NDArray[np.int64]:
            tokens, skipped = self._tokenize(texts, prefix)
            starts = np.repeat(tokens.offsets[:-1], tokens.lengths)
            pooled = np.arange(len(tokens.token_ids)) - starts >= skipped
            content = tokens.token_ids[pooled & ~tokens.special]
            return np.bincount(content, minlength=self.encoder.vocab_size)

        return fit_recipes(
            recipes, texts, encode, count, source=source, show_progress=show_progress
        )

    def check_saveable(self) -> None:
        """Raise the InputError that `save_pretrained` of the fitted recipe would."""
        check_saveable(self.encoder, self.bound, self.settings)

    @standard_torch()
    def write(self, folder: Path) -> None:
        """Write into an empty folder; see `save_pretrained`."""
        self.bound.check_fitted()
        write_folder(
            folder, self.encoder, self.tokenizer, self.bound, self.settings, name=self.name
        )
        if self.encoder.int8 is not None:
            states = self.bound.recipe.states(self.encoder.num_layers)
            self.encoder.int8.save(folder, states[-1] if states else self.encoder.num_layers)

    @standard_torch()
    def encode_recipes(
        self,
        texts: Iterable[str],
        recipes: Sequence[BoundRecipe],
        *,
        prompt: str | None = None,
        batch_tokens: int | None = None,
        show_progress: bool | None = None,
    ) -> Encoded:
        """Embeddings of many recipes from one pass; see `encode`, and `encode_corpus`."""
        distinct = Distinct.of(as_texts(texts))
        for bound in recipes:
            bound.check_fitted()
        tokenize = partial(self._tokenize, prefix=self.prompt_text(prompt))
        parts = in_parts(distinct.texts, self.encoder)
        tokenized = ahead(tokenize, parts)
        first = next(tokenized)
        total = len(first[0].token_ids) if len(parts) == 1 else None
        tokens, vectors = [], []
        with progress(total, "tokens", show=show_progress) as advance:
            for part, skipped in chain([first], tokenized):
                tokens.append(part)
                vectors.append(
                    run(
                        self.encoder,
                        part,
                        recipes,
                        prompt_tokens=skipped,
                        reproducible=self.reproducible,
                        budget=batch_tokens,
                        advance=advance,
                    )
                )
        if len(parts) == 1:
            return Encoded(vectors[0], distinct, tokens[0])
        joined = [np.concatenate(of_recipe) for of_recipe in zip(*vectors, strict=True)]
        return Encoded(joined, distinct, Tokenized.joined(tokens))

    def encode_each(
        self,
        parts: Iterable[Sequence[str]],
        recipes: Sequence[BoundRecipe],
        **options: Any,
    ) -> Iterator[Encoded]:
        """`encode_recipes` of each list of texts, in turn."""
        return (
            self.encode_recipes(texts, recipes, **options, show_progress=False) for texts in parts
        )

    def _tokenize(self, texts: Sequence[str], prefix: str) -> tuple[Tokenized, int]:
        """Tokens of texts behind a prompt, and how many first ones are left out of the pooling."""
        tokens = self.tokenizer([prefix + text for text in texts])
        check_ids(tokens.token_ids, self.encoder.vocab_size)
        skipped = 0
        if prefix and not self.settings.include_prompt:
            skipped = self.tokenizer.prompt_tokens(prefix)
            if skipped >= tokens.lengths.min():
                raise InputError(
                    f"the prompt fills the {self.tokenizer.max_length} tokens that a text may "
                    "have, and is left out of the pooling; expected a shorter prompt"
                )
        return tokens, skipped

    def prompt_text(self, prompt: str | None = None, prompt_name: str | None = None) -> str:
        """What `encode` puts in front of each text for these arguments."""
        prompts = self.settings.prompts
        if prompt is not None:
            if prompt_name is not None:
                raise InputError("got a prompt and a prompt_name; expected one of them")
            check_text("prompt", prompt)
            return prompt
        name = prompt_name if prompt_name is not None else self.settings.default_prompt_name
        if name is None:
            return ""
        if not isinstance(name, str) or name not in prompts:
            raise InputError(
                f"unknown prompt_name {name!r}; this model has {', '.join(prompts) or 'none'}"
            )
        return prompts[name]
