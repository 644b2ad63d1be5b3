"""The prompt of a text by its role (sentence, query, document), one rule for all commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder
    from embedkit.vectors.provenance import Provenance


_ROLES = {"sentence": (), "query": ("query",), "document": ("document", "passage", "corpus")}


def role_prompt(
    embedder: Embedder, role: str, prompt: str | None = None, prompt_name: str | None = None
) -> str:
    """The text in front of each text of a role: sentence, query or document.

    Where neither `prompt` nor `prompt_name` is given, it is the model's prompt of that name (a
    document's may also be called `passage` or `corpus`), else the model's default one, or empty.
    """
    if prompt is None and prompt_name is None:
        known = embedder.settings.prompts
        prompt_name = next((name for name in _ROLES[role] if name in known), None)
    return embedder.prompt_text(prompt, prompt_name)


def role_prompts(
    embedder: Embedder, prompt: str | None, prompt_name: str | None, **own: str | None
) -> dict[str, str]:
    """The text of every role; `own` is that of `query` or `document` alone. See `role_prompt`."""
    return {
        role: role_prompt(embedder, role, prompt, prompt_name)
        if own.get(role) is None
        else embedder.prompt_text(own[role])
        for role in _ROLES
    }


def query_prompt(
    embedder: Embedder,
    origin: Provenance | None,
    prompt: str | None = None,
    prompt_name: str | None = None,
) -> str:
    """The text in front of queries: as given, as recorded with the vectors, or by their role.

    Folders that record none are of versions that put the default prompt in front.
    """
    if origin is None or prompt is not None or prompt_name is not None:
        return role_prompt(embedder, "query", prompt, prompt_name)
    return embedder.prompt_text(origin.query_prompt)


def described(text: str, prompts: Mapping[str, str]) -> str:
    """A prompt, and what the model calls it."""
    names = ", ".join(name for name, own in prompts.items() if own == text)
    if not text:
        return "none"
    return f"{text!r} ({names})" if names else repr(text)
