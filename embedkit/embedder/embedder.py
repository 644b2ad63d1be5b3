"""The embedder: load a model, encode texts, compare embeddings, save."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, Unpack, cast, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from embedkit.arguments import as_path, check_count, check_type
from embedkit.data.texts import as_texts
from embedkit.embedder.encode_arguments import check_encode_arguments
from embedkit.embedder.loading import load_parts
from embedkit.embedder.one_pass import check_finite
from embedkit.embedder.precision import AUTO, INT8, PRECISIONS, check_precision, usable_engine
from embedkit.embedder.prompts import role_prompt
from embedkit.embedder.recipe_encoder import GIVEN, RecipeEncoder
from embedkit.encoders.devices import on_device, standard_torch
from embedkit.encoders.encoder import on_engine
from embedkit.encoders.packed import PackedEncoder
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL, new_folder
from embedkit.html_table import html_table
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array
from embedkit.similarity import as_vectors, find_similarity, float32_matrix, unit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

    from embedkit.embedder.workers import EmbedderPool
    from embedkit.training.outcome import TrainingOutcome


class LoadOptions(TypedDict, total=False):
    """The options of `Embedder`."""

    revision: str | None
    device: str | torch.device | None
    precision: str
    engine: str
    calibrate_on: Iterable[str] | None
    reproducible: bool
    max_length: int | None
    prompts: Mapping[str, str] | None
    local_files_only: bool


class Embedder(RecipeEncoder):
    """Turns texts into sentence embeddings.

    Args:
        model: `minilm`, a hub id, a folder of transformers or sentence-transformers, or a loaded
            BertModel (or other model of transformers) or SentenceTransformer. A loaded object is
            copied, never changed.
        recipe: a recipe; None uses the model's own, or `mean` if it has none.
        revision: the revision on the hub: a branch, tag or commit.
        device: "cpu", "cuda", ...; None uses a GPU if there is one.
        precision: float32, bfloat16, float16 or int8; auto uses a lower one than float32 if it is
            faster on this device and agrees with float32 on fixed sample sentences. OpenVINO runs
            int8, with the calibration in the model's folder, or else with a new one, which takes
            seconds; auto uses int8 only if the folder's calibration is certified (see `quantize`).
        engine: torch or openvino (extra `openvino`, CPU only); auto uses OpenVINO if
            `embedkit bench --calibrate` measured it as faster.
        calibrate_on: texts for a new calibration of int8; None uses the folder's calibration, or
            else texts that come with embedkit.
        reproducible: make embeddings bit-identical, whatever else is encoded with them, on one
            machine with one engine, engine version and number of threads. It is slower.
        max_length: the most tokens of a text; None for the model's own.
        prompts: texts to put in front, by name; they are added to the model's own.
        local_files_only: do not contact the hub.

    Attributes:
        precision_choice: the precision that it runs in, why, and how near its embeddings are to
            those of float32.
        training: how `train_bi_encoder` trained it; None for one that was loaded.

    Raises:
        InputError: what is wrong with the model or with an argument.

    Example:
        >>> from embedkit import Embedder
        >>> embedder = Embedder("minilm", precision="float32", device="cpu")
        >>> embedder.encode(["A man plays the guitar.", "It rains."]).shape
        (2, 384)
        >>> embedder.encode("It rains.").shape
        (384,)
    """

    kind: ClassVar[Literal["model"]] = "model"
    training: TrainingOutcome | None = None

    @standard_torch()
    def __init__(
        self,
        model: str | Path | SentenceTransformer | PreTrainedModel = DEFAULT_MODEL,
        recipe: str | Recipe | None = None,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        precision: str = AUTO,
        engine: str = AUTO,
        calibrate_on: Iterable[str] | None = None,
        reproducible: bool = False,
        max_length: int | None = None,
        prompts: Mapping[str, str] | None = None,
        local_files_only: bool = False,
    ) -> None:
        recipe = None if recipe is None else Recipe.of(recipe)
        check_precision(precision, engine)
        if calibrate_on is not None and precision != INT8:
            raise InputError(f"got calibrate_on and precision {precision!r}; expected int8")
        check_type("reproducible", reproducible, bool, "True or False")
        self.name, parts = load_parts(
            model, recipe, max_length, revision=revision, local_files_only=local_files_only
        )
        self.tokenizer = parts.tokenizer
        self.settings = parts.settings.with_prompts(prompts)
        self.reproducible = reproducible
        self.asked_precision = precision
        if calibrate_on is not None:
            self._calibrate_on = as_texts(calibrate_on, "calibrate_on")
        with on_device(device) as target:
            engine = usable_engine(engine, self.settings.engine, target)
            own = engine == "openvino"  # it takes float32 weights, whatever it computes in
            dtype = torch.float32 if own else PRECISIONS.get(precision, torch.float32)
            encoder = parts.encoder.to(target, dtype)
        self.settings = replace(self.settings, engine=engine)
        if self._calibrate_on is not None and isinstance(encoder, PackedEncoder):
            encoder = encoder.uncalibrated()
        self._settle(encoder=encoder, bound=parts.bound)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | SentenceTransformer | PreTrainedModel = DEFAULT_MODEL,
        recipe: str | Recipe | None = None,
        **options: Unpack[LoadOptions],
    ) -> Embedder:
        """The same as `Embedder(model, recipe, **options)`."""
        return cls(model, recipe, **options)

    def __repr__(self) -> str:
        return (
            f"Embedder({self.name!r}, recipe={str(self.recipe)!r}, dimension={self.dimension}, "
            f"max_length={self.tokenizer.max_length}, precision={self.precision!r}, "
            f"{'' if self.engine == 'torch' else f'engine={self.engine!r}, '}"
            f"device={str(self.device)!r})"
        )

    def _repr_html_(self) -> str:
        """What notebooks show."""
        rows = (
            ("recipe", self.recipe),
            ("dimension", f"{self.dimension:,}"),
            ("maximum length", f"{self.tokenizer.max_length:,} tokens"),
            ("precision", self.precision),
            ("engine", self.engine),
            ("device", self.device),
        )
        return html_table(("Embedder", self.name), rows, {0, 1})

    def to(self, device: str | torch.device) -> Embedder:
        """Move the encoder to another device, as torch's modules do; returns the embedder."""
        with on_device(device) as target:
            if target == self.device:
                return self
            chosen = self.settings.engine == AUTO  # which takes torch elsewhere
            encoder = on_engine(self.encoder, "torch") if chosen else self.encoder
            encoder = encoder.to(target, PRECISIONS[self.precision])
        return self._settle(encoder=encoder)

    def workers(self, devices: int | str | Sequence[str | torch.device]) -> EmbedderPool:
        """The same embedder, encoding in processes of its own: on several GPUs, or on a CPU.

        It is an `Embedder`, so every function that takes one takes it: `encode_corpus`,
        `build_index`, `evaluate`. The processes start once, share the threads of this one, and end
        with the `with` block or with this process. One that dies (for example out of memory) starts
        again and repeats its work. Scripts need no `if __name__ == "__main__":` for it.

        Args:
            devices: one process per device, such as ["cuda:0", "cuda:1"]; "all" is every GPU, and a
                number so many processes on the CPU.

        Raises:
            InputError: a device that torch cannot use here, or no worker.
            ChildProcessError: at `encode`, where three processes died at the same texts.

        Example:
            >>> embedder = Embedder("minilm", precision="float32", device="cpu")
            >>> with embedder.workers(2) as pool:
            ...     pool.encode(["A man plays the guitar.", "It rains."]).shape
            (2, 384)
        """
        from embedkit.embedder.workers import EmbedderPool, check_devices

        return EmbedderPool(self, check_devices(devices))

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
            show_progress: show a bar on stderr; None shows it if stderr is a terminal.

        Returns:
            The embedder itself; `bound.fit` says what was fitted.

        Raises:
            InputError: nothing to fit, too few texts, or texts that are none.

        Example:
            >>> embedder = Embedder("minilm", "mean/center", precision="float32", device="cpu")
            >>> texts = ["A cat sleeps.", "It rains.", "Stocks fell.", "She sings."]
            >>> bool(abs(embedder.fit(texts).encode(texts).mean(axis=0)).max() < 1e-6)
            True
        """
        if not self.recipe.to_fit:
            raise InputError(f"recipe {str(self.recipe)!r} has nothing to fit on texts")
        prefix = self.prompt_text(prompt, prompt_name)
        unfitted = BoundRecipe.of(self.recipe, self.encoder.dim).with_weights_of(self.bound)
        (bound,) = self.fit_recipes(
            [unfitted], texts, source=source, prompt=prefix, show_progress=show_progress
        )
        return self._settle(bound=bound)

    @overload
    def encode(
        self,
        texts: str | Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        convert_to_tensor: Literal[False] = False,
        device: str | torch.device | Sequence[str | torch.device] | None = None,
        show_progress: bool | None = None,
        **others: Any,
    ) -> Float32Array: ...

    @overload
    def encode(
        self, texts: str | Iterable[str], *, convert_to_tensor: Literal[True], **others: Any
    ) -> Tensor: ...

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        convert_to_tensor: bool = False,
        device: str | torch.device | Sequence[str | torch.device] | None = None,
        show_progress: bool | None = None,
        **others: Any,
    ) -> Float32Array | Tensor:
        """Sentence embeddings.

        Args:
            texts: one text; or n texts, as a list, a tuple, an array or Series of str, or an
                iterator; equal ones are run once.
            prompt: text to put in front of each text.
            prompt_name: one of the model's prompts instead; where neither is given, the model's
                default one, if it has any.
            normalize_embeddings: divide each embedding by its length, after all steps.
            truncate_dim: keep the first numbers of each, before it is normalized.
            convert_to_tensor: return a tensor of torch, on the device of the embedder.
            device: move the embedder there first; see `to`. Several devices in a list encode
                together; see `workers`.
            show_progress: show a bar on stderr; None shows it if stderr is a terminal.
            others: what sentence-transformers' `encode` takes; see `encode_arguments`.

        Returns:
            float32 (n, dim), in the order of `texts`; (dim,) for one text.

        Raises:
            InputError: an element that is not a str (names its index), an unknown prompt, a
                recipe that is not fitted, or an embedding that is not finite.
        """
        show_progress = check_encode_arguments(others, show_progress)
        if truncate_dim is not None:
            truncate_dim = check_count("truncate_dim", truncate_dim)
        devices = device if isinstance(device, list | tuple) else None
        if device is not None and devices is None:
            self.to(cast("str | torch.device", device))
        prefix = self.prompt_text(prompt, prompt_name)
        if getattr(texts, "shape", None) == (0,) or (isinstance(texts, list | tuple) and not texts):
            self.bound.check_fitted()
            vectors = np.empty((0, self.dimension), np.float32)
        else:
            listed = [texts] if isinstance(texts, str) else texts
            with nullcontext(self) if devices is None else self.workers(devices) as encoder:
                encoded = encoder.encode_recipes(
                    listed, [self.bound], prompt=prefix, show_progress=show_progress
                )
            (vectors,) = encoded.vectors
            check_finite(vectors, encoded.distinct.texts, self.precision)
            if len(encoded.distinct.inverse) > len(vectors):
                vectors = vectors[encoded.distinct.inverse]
        if truncate_dim is not None:
            vectors = np.ascontiguousarray(vectors[:, :truncate_dim])
        if normalize_embeddings and len(vectors):
            vectors = unit(vectors)
        if isinstance(texts, str):
            vectors = vectors[0]
        return torch.from_numpy(vectors).to(self.device) if convert_to_tensor else vectors

    def encode_query(self, texts: str | Iterable[str], **options: Any) -> Any:
        """`encode` with the model's prompt for queries, where `options` give none."""
        return self._encode_role("query", texts, **options)

    def encode_document(self, texts: str | Iterable[str], **options: Any) -> Any:
        """`encode` with the model's prompt for documents, where `options` give none."""
        return self._encode_role("document", texts, **options)

    def _encode_role(
        self,
        role: str,
        texts: str | Iterable[str],
        prompt: str | None = None,
        prompt_name: str | None = None,
        **options: Any,
    ) -> Any:
        return self.encode(texts, prompt=role_prompt(self, role, prompt, prompt_name), **options)

    def similarity(
        self, a: str | Iterable[str] | ArrayLike, b: str | Iterable[str] | ArrayLike
    ) -> NDArray[np.float32]:
        """The model's similarity (cosine where its folder names none) of each a with each b.

        Args:
            a: n texts, or their embeddings (n, dim); one text or (dim,) counts as n = 1.
            b: m texts, or their embeddings (m, dim).

        Returns:
            float32 (n, m); larger is more similar.

        Raises:
            InputError: texts that cannot be encoded, or embeddings of differing dimensions.

        Example:
            >>> embedder = Embedder("minilm", precision="float32", device="cpu")
            >>> near, far = embedder.similarity("A cat sleeps.", ["A cat naps.", "Stocks fell."])[0]
            >>> bool(near > 0.7 > 0.3 > far)
            True
        """
        return float32_matrix(self.settings.similarity, *self._both_vectors(a, b))

    def similarity_pairwise(
        self, a: str | Iterable[str] | ArrayLike, b: str | Iterable[str] | ArrayLike
    ) -> NDArray[np.float32]:
        """The similarity of a[i] with b[i], float32 (n,); see `similarity`."""
        left, right = self._both_vectors(a, b)
        if len(left) != len(right):
            raise InputError(f"a has {len(left)} rows and b has {len(right)}; expected as many")
        return find_similarity(self.settings.similarity).pairwise(left, right).astype(np.float32)

    def _both_vectors(self, a: Any, b: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        left, right = self._vectors(a, "a"), self._vectors(b, "b")
        if left.shape[1] != right.shape[1]:
            raise InputError(
                f"a has vectors of width {left.shape[1]} and b of {right.shape[1]}; "
                "expected the same width"
            )
        return left, right

    def _vectors(self, values: Any, name: str) -> NDArray[np.float64]:
        if isinstance(values, str):
            values = [values]
        elif isinstance(values, Tensor) or getattr(values, "dtype", np.dtype(object)).kind in "fiu":
            values = values[None] if values.ndim == 1 else values
        vectors = as_vectors(values, name)
        if vectors is None:
            vectors = self.encode(as_texts(cast("Iterable[str]", values), name)).astype(np.float64)
        return vectors

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a sentence-transformers folder that gives the same embeddings.

        The folder appears whole or not at all; one that embedkit wrote before is replaced.

        Raises:
            InputError: another thing is in the way, or the recipe is not fitted or cannot be
                expressed there.
        """
        with new_folder(as_path("folder", folder)) as new:
            self.write(new)

    save = save_pretrained

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool | None = None,
        commit_message: str = "Upload a model saved by embedkit",
        exist_ok: bool = False,
        revision: str | None = None,
    ) -> str:
        """Save into a new repository of the Hugging Face hub; returns the commit's URL.

        The arguments are those of huggingface_hub; `exist_ok` takes a repository that exists.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.write(Path(folder))
            api.create_repo(repo_id, private=private, exist_ok=exist_ok)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message,
                revision=revision,
            )
        return str(commit.commit_url)

    def __sklearn_clone__(self) -> Embedder:
        """scikit-learn's clone copies estimators unfitted; an embedder is shared."""
        return self
