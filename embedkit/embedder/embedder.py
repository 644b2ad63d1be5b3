"""The embedder: encoder + recipe + prompts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from embedkit.arguments import as_path, check_type
from embedkit.data.texts import as_texts, check_text
from embedkit.embedder.fingerprint import fingerprint, identity
from embedkit.embedder.loading import load_folder, name_of, write_loaded
from embedkit.embedder.model_config import Settings
from embedkit.embedder.one_pass import Distinct, Encoded, run_texts
from embedkit.embedder.precision import AUTO, PRECISIONS, Choice, check_precision, choose
from embedkit.embedder.saving import check_saveable, write_folder
from embedkit.encoders.devices import on_device, standard_torch
from embedkit.encoders.encoder import Encoder
from embedkit.encoders.hub import find_folder
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL, new_folder
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.fitting import Reading, fit_recipes
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array
from embedkit.similarity import as_vectors, float32_matrix
from embedkit.tokenization.tokenizer import TextTokenizer, Tokenized, check_ids

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel


GIVEN = "given by the caller"


class Embedder:
    """Turns texts into sentence vectors.

    Args:
        encoder: token ids to hidden states.
        tokenizer: texts to token ids.
        bound: the recipe, resolved against `encoder`, with its steps.
        settings: prompts, similarity, and what the model's folder said.
        name: what the model is called in reports.
        precision: of the encoder; see `from_pretrained`.
        reproducible: see `from_pretrained`.

    Attributes:
        precision_choice: the precision that it runs in, and where it was chosen by `auto`, why and
            how near its vectors are to those of float32.

    Most callers use `from_pretrained`.
    """

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: TextTokenizer,
        bound: BoundRecipe,
        settings: Settings,
        *,
        name: str,
        precision: str = AUTO,
        reproducible: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.bound = bound
        self.settings = settings
        self.name = name
        self.reproducible = reproducible
        self._asked = precision
        self._settle(encoder)

    @standard_torch()
    def _settle(self, encoder: Encoder) -> None:
        """Take the precision that was asked for, or for `auto` the one that fits the recipe."""

        def tokenize(texts: Sequence[str]) -> Tokenized:
            tokens = self.tokenizer(texts)
            check_ids(tokens.token_ids, encoder.vocab_size)
            return tokens

        self.encoder, self.precision_choice = choose(encoder, tokenize, self.bound, self._asked)

    @property
    def precision(self) -> str:
        """float32, bfloat16 or float16: what the encoder runs in."""
        return self.precision_choice.name

    @classmethod
    @standard_torch()
    def from_pretrained(
        cls,
        model: str | Path | SentenceTransformer | PreTrainedModel = DEFAULT_MODEL,
        recipe: str | Recipe | None = None,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        precision: str = AUTO,
        reproducible: bool = False,
        max_length: int | None = None,
        prompts: Mapping[str, str] | None = None,
        local_files_only: bool = False,
    ) -> Embedder:
        """Load a model.

        Args:
            model: `minilm`, a hub id, a folder of transformers or sentence-transformers, or a
                loaded BertModel (or other model of transformers) or SentenceTransformer. A loaded
                object is copied, never changed.
            recipe: a recipe, or None for the model's own (`mean` for a model that has none).
            revision: of the hub id.
            device: "cpu", "cuda", ...; None takes a GPU where there is one.
            precision: of the encoder: float32, bfloat16 or float16; auto takes a low one where the
                device is faster in it and a fixed probe agrees with float32 (`precision_choice`
                says what it came to).
            reproducible: the same bits for the same text on one machine, number of threads and
                version of torch, whatever else is encoded with it. It costs speed.
            max_length: tokens of a text at most; None for the model's own.
            prompts: name -> text put in front; added to the model's own.
            local_files_only: ask no hub.

        Raises:
            InputError: what is wrong with the model or with an argument.
        """
        if recipe is not None:
            recipe = Recipe.of(recipe)
        check_precision(precision)
        check_type("reproducible", reproducible, bool, "True or False")
        if isinstance(model, str | Path):
            folder = find_folder(model, revision=revision, local_files_only=local_files_only)
            parts = load_folder(folder, recipe, max_length)
            name = str(model)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                write_loaded(model, Path(scratch))
                parts = load_folder(Path(scratch), recipe, max_length)
            name = name_of(model)
        encoder, tokenizer, bound, settings = parts
        if prompts is not None:
            if not isinstance(prompts, Mapping):
                raise InputError(f"prompts is {prompts!r}; expected names and texts")
            for text in (*prompts, *prompts.values()):
                check_text("prompts", text)
            settings = replace(settings, prompts={**settings.prompts, **prompts})
        default = settings.default_prompt_name
        if default is not None and default not in settings.prompts:
            raise InputError(
                f"the default prompt {default!r} is not among the prompts "
                f"{', '.join(settings.prompts) or '(none)'}"
            )
        with on_device(device) as place:
            encoder = encoder.to(place, PRECISIONS.get(precision, torch.float32))
        return cls(
            encoder,
            tokenizer,
            bound,
            settings,
            name=name,
            precision=precision,
            reproducible=reproducible,
        )

    @property
    def recipe(self) -> Recipe:
        """Resolved: its layers are counted from 0, the last one is -1."""
        return self.bound.recipe

    @property
    def dimension(self) -> int:
        """Numbers in a sentence vector; at most these, where a step is not fitted yet."""
        return self.bound.dim(self.encoder.dim)

    @cached_property
    def identity(self) -> dict[str, str | int | bool]:
        """The parts of `fingerprint` by name."""
        self.bound.check_fitted()
        return identity(self.encoder, self.tokenizer, self.bound, self.settings)

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits, the same for embedders of the same vectors but for precision."""
        return fingerprint(self.identity)

    @property
    def own(self) -> BoundRecipe | None:
        """The recipe that the model's folder came with, if it had one."""
        return self.settings.own(self.encoder)

    def bind(self, recipe: str | Recipe) -> BoundRecipe:
        """Any recipe, resolved against this model; its present one as it is, fitted or not."""
        bound = self.settings.bind(Recipe.of(recipe), self.encoder)
        return self.bound if bound.recipe == self.recipe else bound

    def with_recipe(self, recipe: str | Recipe | BoundRecipe) -> Embedder:
        """The same encoder, tokenizer and prompts with another recipe."""
        return self._with(
            recipe if isinstance(recipe, BoundRecipe) else self.bind(recipe), self._asked
        )

    def in_recorded(self, precision: str) -> Embedder:
        """The same in the precision that a folder records, where it was left to `auto`."""
        if self._asked != AUTO or precision == self.precision:
            return self
        other = self._with(self.bound, precision)
        other.precision_choice = Choice(precision, None, "auto: recorded in the folder")
        return other

    def _with(self, bound: BoundRecipe, precision: str) -> Embedder:
        return Embedder(
            self.encoder,
            self.tokenizer,
            bound,
            self.settings,
            name=self.name,
            precision=precision,
            reproducible=self.reproducible,
        )

    def fit(
        self,
        texts: Iterable[str],
        *,
        source: str = GIVEN,
        prompt: str | None = None,
        prompt_name: str | None = None,
        show_progress: bool | None = None,
    ) -> Embedder:
        """Fit what the recipe learns from texts: its steps, and the weights of `idf_mean`.

        Args:
            texts: any number of texts, streamed in constant memory; a list, or anything that yields
                them. Read once, but for recipes that need more passes (see
                `embedkit.recipes.fitting`).
            source: where they are from, for the model card.
            prompt: as `encode` will put in front of each text.
            prompt_name: one of the model's prompts instead.
            show_progress: a bar on stderr; None shows it where stderr is a terminal.

        Returns:
            The embedder itself; `bound.fit` says what was fitted.

        Raises:
            InputError: nothing to fit, too few texts, or texts that are none.
        """
        if not self.recipe.to_fit:
            raise InputError(f"recipe {str(self.recipe)!r} has nothing to fit on texts")
        bound = BoundRecipe.of(self.recipe, self.encoder.dim)
        (self.bound,) = self.fit_recipes(
            [bound],
            texts,
            source=source,
            prompt=prompt,
            prompt_name=prompt_name,
            show_progress=show_progress,
        )
        self.__dict__.pop("identity", None)  # it was cached
        self._settle(self.encoder)
        return self

    def fit_recipes(
        self,
        recipes: Sequence[BoundRecipe],
        texts: Iterable[str],
        *,
        source: str = GIVEN,
        prompt: str | None = None,
        prompt_name: str | None = None,
        show_progress: bool | None = None,
    ) -> list[BoundRecipe]:
        """Many recipes fitted together; see `fit`. Those that are fitted stay as they are."""
        prefix = self.prompt_text(prompt, prompt_name)

        def encode(texts: Sequence[str], recipes: Sequence[BoundRecipe]) -> list[Float32Array]:
            encoded = self.encode_recipes(texts, recipes, prompt=prefix, show_progress=False)
            return [vectors[encoded.distinct.inverse] for vectors in encoded.vectors]

        def count(texts: Sequence[str]) -> NDArray[np.int64]:
            tokens, skipped = self._tokenize(texts, prefix)
            starts = np.repeat(tokens.offsets[:-1], tokens.lengths)
            pooled = np.arange(len(tokens.token_ids)) - starts >= skipped
            content = tokens.token_ids[pooled & ~tokens.special]
            return np.bincount(content, minlength=self.encoder.vocab_size)

        reading = Reading(encode, count)
        return fit_recipes(recipes, texts, reading, source=source, show_progress=show_progress)

    def encode(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        show_progress: bool | None = None,
    ) -> Float32Array:
        """Sentence vectors.

        Args:
            texts: n texts, as a list, a tuple, an array or Series of str, or an iterator; equal
                ones are run once.
            prompt: put in front of each text.
            prompt_name: one of the model's prompts instead; where neither is given, the model's
                default one, if it has any.
            show_progress: a bar on stderr; None shows it where stderr is a terminal.

        Returns:
            float32 (n, dim), in the order of `texts`.

        Raises:
            InputError: an empty list, an element that is no str (its index), an unknown prompt, or
                a recipe that is not fitted.
        """
        encoded = self.encode_recipes(
            texts, [self.bound], prompt=prompt, prompt_name=prompt_name, show_progress=show_progress
        )
        (vectors,) = encoded.vectors
        inverse = encoded.distinct.inverse
        return vectors if len(vectors) == len(inverse) else vectors[inverse]

    def similarity(
        self, a: Iterable[str] | ArrayLike, b: Iterable[str] | ArrayLike
    ) -> NDArray[np.float32]:
        """The model's similarity (cosine where its folder names none) of each a with each b.

        Args:
            a: n texts, or their vectors (n, dim).
            b: m texts, or their vectors (m, dim).

        Returns:
            float32 (n, m); larger is more similar.

        Raises:
            InputError: texts that cannot be encoded, or vectors of differing widths.
        """
        left, right = self._vectors(a, "a"), self._vectors(b, "b")
        if left.shape[1] != right.shape[1]:
            raise InputError(
                f"a has vectors of width {left.shape[1]} and b of {right.shape[1]}; "
                "expected the same width"
            )
        return float32_matrix(self.settings.similarity, left, right)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a sentence-transformers folder that says the same vectors.

        The folder appears whole or not at all; one that embedkit wrote before is replaced.

        Raises:
            InputError: another thing is in the way, or the recipe is not fitted or cannot be said
                there.
        """
        with new_folder(as_path("folder", folder)) as new:
            self.write(new)

    def check_saveable(self) -> None:
        """Raise the InputError that `save_pretrained` of the fitted recipe would."""
        check_saveable(self.encoder, self.bound, self.settings)

    @standard_torch()
    def write(self, folder: Path) -> None:
        """Write into an empty folder; see `save_pretrained`."""
        self.bound.check_fitted()
        self.check_saveable()
        write_folder(
            folder, self.encoder, self.tokenizer, self.bound, self.settings, name=self.name
        )

    def __sklearn_clone__(self) -> Embedder:
        """scikit-learn's clone copies estimators unfitted; an embedder never changes."""
        return self

    @standard_torch()
    def encode_recipes(
        self,
        texts: Iterable[str],
        recipes: Sequence[BoundRecipe],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        show_progress: bool | None = None,
    ) -> Encoded:
        """Vectors of many recipes from one pass; see `encode`."""
        distinct = Distinct.of(as_texts(texts))
        for bound in recipes:
            bound.check_fitted()
        prefix = self.prompt_text(prompt, prompt_name)
        return run_texts(
            self.encoder,
            partial(self._tokenize, prefix=prefix),
            distinct,
            recipes,
            reproducible=self.reproducible,
            show_progress=show_progress,
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
        """What `encode` puts in front of each text for these arguments.

        Raises:
            InputError: both are given, or the model has no prompt of this name.
        """
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

    def _vectors(self, values: Iterable[str] | ArrayLike, name: str) -> NDArray[np.float64]:
        vectors = as_vectors(values, name)
        if vectors is None:
            vectors = self.encode(as_texts(cast("Iterable[str]", values), name)).astype(np.float64)
        return vectors
