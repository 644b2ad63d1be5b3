"""Commands that refuse an option that is given twice, where only the last value would be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperOption

from embedkit.errors import InputError


class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        *_, given = self.make_parser(ctx).parse_args(list(args))
        single = [x for x in given if isinstance(x, TyperOption) and not (x.multiple or x.is_flag)]
        for option in single:
            if (times := single.count(option)) > 1:
                name = "/".join(option.opts)
                raise InputError(f"got {name} {times} times; expected it once")
        return super().parse_args(ctx, args)


if TYPE_CHECKING:
    App = typer.Typer
else:

    class App(typer.Typer):
        """A Typer of such commands."""

        def command(self, *args, **options):
            return super().command(*args, **{"cls": _Command, **options})
