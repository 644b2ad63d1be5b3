"""`MTEBEncoder`: an embedder as a model of MTEB, the Massive Text Embedding Benchmark."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from embedkit.arguments import check_list
from embedkit.embedder.fingerprint import fingerprint, identity
from embedkit.embedder.prompts import role_prompt, role_prompts
from embedkit.errors import InputError
from embedkit.evaluation.models import Model, ModelSettings

if TYPE_CHECKING:
    from mteb.models import ModelMeta
    from numpy.typing import ArrayLike, NDArray

    from embedkit.embedder.embedder import Embedder
    from embedkit.recipes.steps import Float32Array


class MTEBEncoder:
    """An embedder as a model of MTEB 2.26: `mteb.evaluate(MTEBEncoder(embedder), tasks)`.

    Queries and documents get the embedder's own prompts of their roles, other texts its default
    one, as in `embedkit.evaluate`; recipe, precision and maximum length are the embedder's too.

    `model` is an `Embedder`, or anything that `Embedder.from_pretrained` takes, which then runs in
    float32.

    Raises:
        InputError: mteb is not installed, or what is wrong with the model.

    Example:
        >>> encoder = MTEBEncoder("minilm")
        >>> encoder.encode([{"text": ["It rains."]}, {"text": ["A cat sleeps."]}]).shape
        (2, 384)
    """

    def __init__(self, model: Model) -> None:
        if find_spec("mteb") is None:
            raise InputError(
                "MTEBEncoder needs mteb, which is not installed; run pip install 'embedkit[mteb]'"
            )
        self.embedder = cast("Embedder", ModelSettings(model).load(embedder=True))

    def encode(
        self,
        inputs: Iterable[Mapping[str, Sequence[str]]],
        *,
        prompt_type: str | None = None,
        show_progress_bar: bool | None = None,
        **_: Any,
    ) -> Float32Array:
        """Embeddings float32 (n, dim) of the texts of all batches, in their order.

        `prompt_type` is `query`, `document`, or None for sentences. MTEB's other arguments, such as
        the task and the batch size, have no meaning here.

        Raises:
            InputError: batches without texts, such as images.
        """
        texts: list[str] = []
        for batch in inputs:
            if not isinstance(batch, Mapping) or "text" not in batch:
                raise InputError(f"inputs has {reprlib.repr(batch)}; expected batches with text")
            check_list("text", batch["text"])
            texts += batch["text"]
        if prompt_type not in (None, "query", "document"):
            raise InputError(f"prompt_type is {prompt_type!r}; expected query, document or None")
        prompt = role_prompt(self.embedder, "sentence" if prompt_type is None else str(prompt_type))
        return self.embedder.encode(texts, prompt=prompt, show_progress=show_progress_bar)

    def similarity(self, a: ArrayLike, b: ArrayLike) -> NDArray[Any]:
        """The embedder's similarity, float32 (n, m), of embeddings (n, dim) and (m, dim)."""
        return self.embedder.similarity(a, b)

    def similarity_pairwise(self, a: ArrayLike, b: ArrayLike) -> NDArray[Any]:
        """The embedder's similarity, float32 (n,), of embeddings (n, dim) each."""
        return self.embedder.similarity_pairwise(a, b)

    @cached_property
    def mteb_model_meta(self) -> ModelMeta:
        """Name and properties; `revision` is a hash of all that changes an embedding.

        MTEB files results under both, so another recipe or prompt never finds those of this one.
        """
        from mteb.models import ModelMeta
        from mteb.models.model_meta import ScoringFunction

        embedder = self.embedder
        prompts = role_prompts(embedder, None, None)
        parts = identity(embedder.encoder, embedder.tokenizer, embedder.bound, embedder.settings)
        revision = fingerprint({**parts, **prompts, "precision": embedder.precision})
        is_hub_id = embedder.name.count("/") == 1 and not Path(embedder.name).exists()
        return ModelMeta.create_empty(
            {
                "name": embedder.name if is_hub_id else f"embedkit/{Path(embedder.name).name}",
                "revision": revision[:40],
                "embed_dim": embedder.dimension,
                "max_tokens": embedder.tokenizer.max_length,
                "similarity_fn_name": ScoringFunction(embedder.settings.similarity),
                "framework": ["PyTorch"],
                "use_instructions": any(prompts.values()),
                "experiment_kwargs": {"recipe": str(embedder.recipe)},
            }
        )
