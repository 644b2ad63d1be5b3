"""Which embedder stored vectors come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
}


@dataclass(frozen=True)
class Origin:
    """The embedder behind vectors, as a manifest says it.

    Attributes:
        model: name or folder, to load it again.
        recipe: as it prints.
        max_length: tokens of a text at most.
        precision: of the encoder.
        prompt: put in front of each text.
        similarity: the model's.
        fingerprint: see `Embedder.fingerprint`.
        identity: its parts.
        query_prompt: put in front of each query; None where an older version wrote the folder.
    """

    model: str
    recipe: str
    max_length: int
    precision: str
    prompt: str
    similarity: str
    fingerprint: str
    identity: Mapping[str, str | int | bool] = field(repr=False)
    query_prompt: str | None = None

    @classmethod
    def of(cls, embedder: Embedder, prompt: str) -> Origin:
        """The origin of what `embedder` encodes with this text in front."""
        path = Path(embedder.name)
        return cls(
            model=str(path.resolve()) if path.is_dir() else embedder.name,
            recipe=str(embedder.recipe),
            max_length=embedder.tokenizer.max_length,
            precision=embedder.precision,
            prompt=prompt,
            similarity=embedder.settings.similarity,
            fingerprint=embedder.fingerprint,
            identity=embedder.identity,
            query_prompt=role_prompt(embedder, "query"),
        )

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Origin:
        """What `to_json` gave."""
        values = {"query_prompt": None, **said}
        return cls(**{part.name: values[part.name] for part in fields(cls)})

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def load(self, model: str | None = None, *, device: str | None = None) -> Embedder:
        """The embedder itself.

        Args:
            model: where it is now; None for where it was.
            device: see `Embedder.from_pretrained`.

        Raises:
            InputError: the model is no longer where it was, or is another.
        """
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

        One of other vectors is refused; an explicit precision and the prompt may differ.

        Raises:
            InputError: what differs.
        """
        if embedder.fingerprint != self.fingerprint:
            raise InputError(
                f"the vectors are of {self.model} (recipe {self.recipe}), and {embedder.name} "
                f"(recipe {embedder.recipe}) makes others: it has "
                f"{_listed(self.identity, embedder.identity)}; expected the same model"
            )
        return embedder.in_recorded(self.precision)

    def differences(self, other: Origin, *, precision: bool = True) -> list[str]:
        """What of another origin gives other vectors, in words; the precision by option."""
        found = []
        if other.fingerprint != self.fingerprint:
            found.append(_listed(self.identity, other.identity))
        for name in ("prompt", "precision") if precision else ("prompt",):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                found.append(f"{name} {others!r} instead of {mine!r}")
        return found


def _listed(mine: Mapping[str, object], others: Mapping[str, object]) -> str:
    return ", ".join(text for name, text in _PARTS.items() if mine.get(name) != others.get(name))
