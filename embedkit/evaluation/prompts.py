"""What is put in front of a text, by its role in the data."""

from __future__ import annotations

from embedkit.embedder import Embedder

_ROLES = {"query": ("query",), "document": ("document", "passage", "corpus")}


def role_prompts(
    embedder: Embedder, prompt: str | None, prompt_name: str | None, **own: str | None
) -> dict[str, str]:
    """The text in front of each `sentence`, `query` and `document`.

    Args:
        embedder: has prompts by name.
        prompt: for all roles.
        prompt_name: one of the model's prompts instead.
        own: a prompt for `query` or `document` alone. Where that is None, and `prompt` and
            `prompt_name` are too, it is the model's prompt of that name (a document's may also be
            called `passage` or `corpus`), or empty: so sentence-transformers documents its
            `encode_query` and `encode_document`.

    Raises:
        InputError: an unknown prompt_name, or both it and prompt.
    """
    prompts = {"sentence": embedder.prompt_text(prompt, prompt_name)}
    for role, names in _ROLES.items():
        text = own[role]
        if text is not None:
            prompts[role] = embedder.prompt_text(text, None)
        elif prompt is not None or prompt_name is not None:
            prompts[role] = prompts["sentence"]
        else:
            known = embedder.settings.prompts
            prompts[role] = next((known[name] for name in names if name in known), "")
    return prompts
