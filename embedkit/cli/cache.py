"""`embedkit cache info` and `embedkit cache clear`."""

from __future__ import annotations

from embedkit.cli import options, output
from embedkit.cli.app import App

cache_app = App(
    help="Show or clear the cache of embeddings, which is in $EMBEDKIT_CACHE.",
    no_args_is_help=True,
)


@cache_app.command("info")
def info_command(as_json: options.Json = False) -> None:
    """Print where the cache is, how large it is, and what it may grow to.

    Example: [bold]embedkit cache info[/bold]
    """
    _show(as_json=as_json)


@cache_app.command("clear")
def clear_command(as_json: options.Json = False) -> None:
    """Remove all embeddings of the cache.

    Example: [bold]embedkit cache clear[/bold]
    """
    from embedkit.embedder.cache import EmbeddingCache

    with EmbeddingCache() as cache:
        cache.clear()
    _show(as_json=as_json)


def _show(*, as_json: bool) -> None:
    from embedkit.embedder.cache import EmbeddingCache

    with EmbeddingCache() as cache:
        info = cache.info()
    if as_json:
        output.print_json(info)
        return
    megabytes, limit = (f"{info[name] / 1e6:,.1f} MB" for name in ("bytes", "limit"))
    print(f"{info['path']}: {megabytes} of {limit}")
    print(f"{info['embeddings']:,} embeddings of {info['recipes']:,} models and recipes")
