"""Why the Hugging Face hub gave nothing, and what a user can do about it, in one sentence."""

from __future__ import annotations

from embedkit.errors import first_line


def hub_problem(
    error: Exception,
    repository: str,
    revision: str | None,
    *,
    kind: str = "model",
    local_files_only: bool = False,
    elsewhere: str,
) -> str:
    """Why neither the hub nor its cache gave a repository, and what to do.

    `kind` is `model` or `data set`; `elsewhere` says what to do where the hub cannot be asked.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
    page = f"{constants.ENDPOINT}/{'datasets/' * (kind != 'model')}{repository}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(cause, RevisionNotFoundError):
        return (
            f"and the hub has no revision {revision!r} of it; expected a branch, a tag or a commit "
            f"of {page}"
        )
    if isinstance(cause, GatedRepoError):
        remedy = "with the account of your token" if get_token() else f"and {log_in}"
        return f"and it is gated on the hub; ask for access at {page} {remedy}"
    if isinstance(cause, RepositoryNotFoundError):
        remedy = "the rights of your token" if get_token() else log_in
        return (
            f"and the hub has no such {kind}, or it is private; check the spelling, and for a "
            f"private {kind} {remedy}"
        )
    if isinstance(cause, HfHubHTTPError):
        status = cause.response.status_code
        if status == 401:
            return f"and the hub refuses your token; {log_in}"
        reason = cause.server_message or cause.response.reason_phrase
        return f"and the hub answers with HTTP {status} ({reason}); see {page}, or try again later"
    missing = f"{'it' if revision is None else f'revision {revision!r}'} is not in the local cache"
    if local_files_only:
        return f"{missing}, and local_files_only forbids asking the hub; allow it, or {elsewhere}"
    if constants.HF_HUB_OFFLINE:
        return f"{missing}, and HF_HUB_OFFLINE forbids asking the hub; unset it, or {elsewhere}"
    if isinstance(error, LocalEntryNotFoundError) or not isinstance(error, OSError):
        return (
            f"{missing}, and the connection to {constants.ENDPOINT} failed "
            f"({first_line(cause or error)}); check that this machine is online, and its proxy, "
            f"or {elsewhere}"
        )
    return f"and it could not be downloaded ({first_line(error)})"
