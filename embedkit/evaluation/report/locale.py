"""The texts of reports in English and Korean: one JSON file a language."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from embedkit.errors import InputError

LANGUAGES = ("en", "ko")


def check_language(language: str) -> None:
    """Refuse other languages."""
    if language not in LANGUAGES:
        raise InputError(f"unknown language {language!r}; choose from {', '.join(LANGUAGES)}")


@cache
def catalogue(language: str) -> dict[str, dict[str, str]]:
    """The texts of a language: `notes` (sentences), `labels` (words), `reasons` (for no value)."""
    text = (files(__package__) / "locale" / f"{language}.json").read_text(encoding="utf-8")
    texts: dict[str, dict[str, str]] = json.loads(text)
    return texts


def kind_words(kind: str, language: str) -> dict[str, str]:
    """What to call a recipe, a model or a candidate, by the names that texts use."""
    known = catalogue(language)["kinds"]
    return {name.replace(kind, "kind", 1): known[name] for name in known if name.startswith(kind)}


def note(key: str, language: str = "en", *, kind: str = "recipe", **values: Any) -> str:
    """One of the notes, with its values filled in; a `reason` among them is translated."""
    if "reason" in values:
        values["reason"] = translate_reason(values["reason"], language)
    table = catalogue(language)["table"]
    for phrase in ("strata", "cached"):  # empty unless they are true
        if phrase in values:
            count = values[phrase]
            values[phrase] = table[phrase].format(count=count) if count else ""
    if values.get("suite") == "all":
        values["suite"] = table["all_sets"]
    values |= kind_words(kind, language)
    return catalogue(language)["notes"][key].format(**values)


def translate_reason(reason: str, language: str) -> str:
    """A reason, which results give in English, in another language; unknown ones stay."""
    if language == "en":
        return reason
    for key, english in catalogue("en")["reasons"].items():
        pattern = re.escape(english).replace(r"\{\}", "(.+)")
        if match := re.fullmatch(pattern, reason):
            parts = [translate_reason(part, language) for part in match.groups()]
            return catalogue(language)["reasons"][key].format(*parts)
    return reason
