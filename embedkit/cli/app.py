"""How commands are registered: records of options are taken apart, and repeated options refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, getdoc, signature
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperOption

from embedkit.errors import InputError
from embedkit.progress import quiet

_Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Show no progress, and print only warnings and errors on stderr.",
    ),
]


ADDRESS = "[ADDRESS]"  # the metavar of an option whose value may be left out, and is empty then
_AN_ADDRESS = re.compile(r".+:\d+|auto|local|")


class _Command(TyperCommand):
    """Refuses an option that is given twice, and what may be meant as an address and is none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        alone = {name for x in self.params if x.metavar == ADDRESS for name in x.opts}
        no_address = None
        for index in range(len(args) - 1, -1, -1):
            if args[index] in alone and not _AN_ADDRESS.fullmatch((*args, "-")[index + 1]):
                no_address = (*args, "-")[index : index + 2]
                args.insert(index + 1, "")
        if ctx.resilient_parsing:  # a shell completes a command that is not finished
            return super().parse_args(ctx, args)
        _, extra, given = self.make_parser(ctx).parse_args(list(args))
        single = [x for x in given if isinstance(x, TyperOption) and not (x.multiple or x.is_flag)]
        for option in single:
            if (times := single.count(option)) > 1:
                name = "/".join(option.opts)
                raise InputError(f"got {name} {times} times; expected it once")
        if extra and no_address and not no_address[1].startswith("-"):
            name, word = no_address
            raise InputError(f"{name} is {word!r}; expected HOST:PORT, auto, local or nothing")
        return super().parse_args(ctx, args)


def expanded(function: Callable[..., None]) -> Callable[..., None]:
    """A command with --quiet, in which each record becomes the options of its fields.

    A record is a dataclass whose fields are annotated as Typer wants it, or the parameter is
    `Annotated` with a dict of such annotations. The parameter's default, if it has one, holds the
    defaults of the options.
    """
    hints = get_type_hints(function, include_extras=True)
    records: dict[str, Any] = {}
    parameters: dict[str, Parameter] = {}

    def add(name: str, default: Any, annotation: Any) -> None:
        kind = Parameter.KEYWORD_ONLY
        parameters[name] = Parameter(name, kind, default=default, annotation=annotation)

    for name, parameter in signature(function).parameters.items():
        metadata = getattr(hints[name], "__metadata__", None)
        kind: Any = hints[name].__origin__ if metadata else hints[name]
        if not is_dataclass(kind):
            add(name, parameter.default, hints[name])
            continue
        records[name] = kind
        record = records[name]() if parameter.default is Parameter.empty else parameter.default
        annotations = metadata[0] if metadata else get_type_hints(kind, include_extras=True)
        for field in fields(record):
            add(field.name, getattr(record, field.name), annotations[field.name])

    add("quiet", False, _Quiet)

    @wraps(function)
    def run(**given: Any) -> None:
        silence = quiet() if given.pop("quiet") else nullcontext()
        for name, kind in records.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        with silence:
            function(**given)

    # What Typer reads; it keeps the line breaks of a paragraph.
    run.__doc__ = re.sub(r"(?<!\n)\n(?!\n)", " ", getdoc(function) or "")
    run.__signature__ = Signature(list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: x.annotation for name, x in parameters.items()}
    return run


if TYPE_CHECKING:
    App = typer.Typer
else:

    class App(typer.Typer):
        """A Typer of such commands."""

        def command(self, *args, **options):
            register = super().command(*args, **{"cls": _Command, **options})
            return lambda function: register(expanded(function))
