"""The embedder: encoder + recipe + prompts."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.checkpoint import DEFAULT_MODEL, find_folder
from embedkit.devices import on_device
from embedkit.encoder import Encoder
from embedkit.errors import InputError
from embedkit.fingerprint import fingerprint, identity
from embedkit.fitting import Reading, fit_recipes
from embedkit.interop.folder import new_folder
from embedkit.interop.sentence_transformers import check_saveable, write_folder
from embedkit.loading import load_folder, name_of, write_loaded
from embedkit.onepass import Distinct, run
from embedkit.precision import AUTO, PRECISIONS, Choice, check_precision, choose
from embedkit.progress import progress
from embedkit.recipe import Recipe
from embedkit.settings import Settings
from embedkit.similarity import find_similarity
from embedkit.steps import Bound, Vectors
from embedkit.tokens import TextTokenizer, Tokenized, check_ids, check_texts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

GIVEN = "given by the caller"

# A GPU computes these while the next ones are tokenized.
_TEXTS_ON_GPU = 32_768

_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass(frozen=True)
class Encoded:
    """What one pass over texts gives.

    Attributes:
        vectors: for each recipe float32 (distinct texts, dim).
        distinct: the distinct texts, and where each text is among them.
        tokens: of the distinct texts, prompt included.
    """

    vectors: list[Vectors]
    distinct: Distinct
    tokens: Tokenized


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
        bound: Bound,
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
        if recipe is not None and not isinstance(recipe, Recipe):
            recipe = Recipe.parse(recipe)
        check_precision(precision)
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
            check_texts([*prompts, *prompts.values(), ""], "prompts")
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
        return self.bound.width(self.encoder.width)

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
    def own(self) -> Bound | None:
        """The recipe that the model's folder came with, if it had one."""
        return self.settings.own(self.encoder)

    def bind(self, recipe: Recipe) -> Bound:
        """Any recipe, resolved against this model; its present one as it is, fitted or not."""
        bound = self.settings.bind(recipe, self.encoder)
        return self.bound if bound.recipe == self.recipe else bound

    def with_recipe(self, recipe: str | Recipe | Bound) -> Embedder:
        """The same encoder, tokenizer and prompts with another recipe."""
        if isinstance(recipe, str):
            recipe = Recipe.parse(recipe)
        return self._with(recipe if isinstance(recipe, Bound) else self.bind(recipe), self._asked)

    def in_recorded(self, precision: str) -> Embedder:
        """The same in the precision that a folder records, where it was left to `auto`."""
        if self._asked != AUTO or precision == self.precision:
            return self
        other = self._with(self.bound, precision)
        other.precision_choice = Choice(precision, None, "auto: recorded in the folder")
        return other

    def _with(self, bound: Bound, precision: str) -> Embedder:
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
                them. Read once, but for recipes that need more passes (see `embedkit.fitting`).
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
        bound = Bound.of(self.recipe, self.encoder.width)
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
        recipes: Sequence[Bound],
        texts: Iterable[str],
        *,
        source: str = GIVEN,
        prompt: str | None = None,
        prompt_name: str | None = None,
        show_progress: bool | None = None,
    ) -> list[Bound]:
        """Many recipes fitted together; see `fit`. Those that are fitted stay as they are."""
        prefix = self.prompt_text(prompt, prompt_name)

        def encode(texts: Sequence[str], recipes: Sequence[Bound]) -> list[Vectors]:
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
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        show_progress: bool | None = None,
    ) -> Vectors:
        """Sentence vectors.

        Args:
            texts: n texts; equal ones are run once.
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
        self, a: Sequence[str] | NDArray[Any], b: Sequence[str] | NDArray[Any]
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
        left, right = self._as_vectors(a, "a"), self._as_vectors(b, "b")
        if left.shape[1] != right.shape[1]:
            raise InputError(
                f"a has vectors of width {left.shape[1]} and b of {right.shape[1]}; "
                "expected the same width"
            )
        matrix = find_similarity(self.settings.similarity).matrix(left, right)
        return matrix.astype(np.float32)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a sentence-transformers folder that says the same vectors.

        The folder appears whole or not at all; one that embedkit wrote before is replaced.

        Raises:
            InputError: another thing is in the way, or the recipe is not fitted or cannot be said
                there.
        """
        with new_folder(Path(folder)) as new:
            self.write(new)

    def check_saveable(self) -> None:
        """Raise the InputError that `save_pretrained` of the fitted recipe would."""
        check_saveable(self.encoder, self.bound, self.settings)

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

    def encode_recipes(
        self,
        texts: Sequence[str],
        recipes: Sequence[Bound],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        show_progress: bool | None = None,
    ) -> Encoded:
        """Vectors of many recipes from one pass; see `encode`."""
        check_texts(texts)
        for bound in recipes:
            bound.check_fitted()
        prefix = self.prompt_text(prompt, prompt_name)
        distinct = Distinct.of(texts)
        at_once = _texts_at_once(self.encoder)
        parts = [
            distinct.texts[start : start + at_once]
            for start in range(0, len(distinct.texts), at_once)
        ]
        tokenized = _ahead(partial(self._tokenize, prefix=prefix), parts)
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
                        advance=advance,
                    )
                )
        if len(parts) == 1:
            return Encoded(vectors[0], distinct, tokens[0])
        joined = [np.concatenate(of_recipe) for of_recipe in zip(*vectors, strict=True)]
        return Encoded(joined, distinct, Tokenized.joined(tokens))

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
            check_texts([prompt], "prompt")
            return prompt
        name = prompt_name if prompt_name is not None else self.settings.default_prompt_name
        if name is None:
            return ""
        if name not in prompts:
            raise InputError(
                f"unknown prompt_name {name!r}; this model has {', '.join(prompts) or 'none'}"
            )
        return prompts[name]

    def _as_vectors(self, values: Sequence[str] | NDArray[Any], what: str) -> NDArray[np.float64]:
        if isinstance(values, str | list | tuple) and not _are_numbers(values):
            texts = cast("Sequence[str]", values)
            check_texts(texts, what)
            return self.encode(texts).astype(np.float64)
        vectors = np.asarray(values, dtype=np.float64)
        if vectors.ndim != 2:
            raise InputError(f"{what} has shape {vectors.shape}; expected texts or (n, dim)")
        return vectors


def _texts_at_once(encoder: Encoder) -> int:
    """Texts that are sorted and run together: all, where nothing can be done beside them."""
    return _TEXTS_ON_GPU if encoder.device.type == "cuda" else sys.maxsize


def _ahead(function: Callable[[_T], _U], items: Sequence[_T]) -> Iterator[_U]:
    """function(item) of each in turn, the next one in another thread while one is in use."""
    if len(items) == 1:
        yield function(items[0])
        return
    with ThreadPoolExecutor(1) as other:
        coming = other.submit(function, items[0])
        for item in items[1:]:
            result, coming = coming.result(), other.submit(function, item)
            yield result
        yield coming.result()


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether a list holds vectors; anything else is taken, or refused, as texts."""
    return (
        not isinstance(values, str)
        and all(hasattr(value, "__len__") for value in values)
        and (not any(isinstance(value, str) for value in values))
    )
