"""Provenance: the embedder that stored vectors were made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.arguments import check_embedder
from embedkit.embedder.prompts import role_prompt
from embedkit.errors import InputError

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder


_PARTS = {
    "weights": "other weights",
    "tokenizer": "another tokenizer",
    "recipe": "another recipe",
    "max_length": "another maximum length",
    "default_prompt": "another default prompt",
    "include_prompt": "another rule on pooling the prompt",
    "quantization": "another quantization (int8)",
}


@dataclass(frozen=True)
class Provenance:
    """The embedder behind vectors, as a manifest records it."""

    model: str  # name or folder, to load it again
    recipe: str
    max_length: int
    precision: str
    prompt: str
    similarity: str
    fingerprint: str
    identity: Mapping[str, str | int | bool] = field(repr=False)
    query_prompt: str | None = None  # None where an older version wrote the folder

    @classmethod
    def of(cls, embedder: Embedder, prompt: str | None = None) -> Provenance:
        """The provenance of texts that `embedder` encodes behind a prompt, by default its own."""
        check_embedder(embedder)
        path = Path(embedder.name)
        return cls(
            model=str(path.resolve()) if path.is_dir() else embedder.name,
            recipe=str(embedder.recipe),
            max_length=embedder.tokenizer.max_length,
            precision=embedder.precision,
            prompt=embedder.prompt_text(prompt),
            similarity=embedder.settings.similarity,
            fingerprint=embedder.fingerprint,
            identity=embedder.identity,
            query_prompt=role_prompt(embedder, "query"),
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Provenance:
        """Read what `to_json` gave; keys of later versions are passed over."""
        values = {"query_prompt": None, **content}
        return cls(**{part.name: values[part.name] for part in fields(cls)})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def load(self, model: str | None = None, *, device: str | None = None) -> Embedder:
        """Load the embedder, from `model` where it was moved."""
        from embedkit.embedder.embedder import Embedder

        embedder = Embedder.from_pretrained(
            model or self.model,
            device=device,
            max_length=self.max_length,
            precision=self.precision,
        )
        if str(embedder.recipe) != self.recipe:
            embedder = embedder.with_recipe(self.recipe)
        return self.check(embedder)

    def check(self, embedder: Embedder) -> Embedder:
        """The embedder, in the precision of the vectors where its own was left to `auto`.

        An explicit precision and the prompt may differ.
        """
        check_embedder(embedder)
        embedder = embedder.in_recorded(self.precision)
        if embedder.fingerprint != self.fingerprint:
            raise InputError(
                f"the vectors are of {self.model} (recipe {self.recipe}), and {embedder.name} "
                f"(recipe {embedder.recipe}) makes others: it has "
                f"{_differing_parts(self.identity, embedder.identity)}; expected the same model"
            )
        return embedder

    def check_rows(self, other: Provenance) -> None:
        """Refuse to add vectors of another embedder to these; another precision may pass."""
        differing = self.differences(other, precision=False)
        if differing:
            raise InputError(
                f"vectors: got {', '.join(differing)} than in the index, which is of {self.model} "
                f"(recipe {self.recipe}); expected the same embedder"
            )

    def differences(self, other: Provenance, *, precision: bool = True) -> list[str]:
        """What makes the vectors of `other` differ, in words; `precision` counts it too."""
        differing = []
        if other.fingerprint != self.fingerprint:
            differing.append(_differing_parts(self.identity, other.identity))
        for name in ("prompt", "precision") if precision else ("prompt",):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                differing.append(f"{name} {others!r} instead of {mine!r}")
        return differing


def _differing_parts(mine: Mapping[str, object], others: Mapping[str, object]) -> str:
    return ", ".join(text for name, text in _PARTS.items() if mine.get(name) != others.get(name))
