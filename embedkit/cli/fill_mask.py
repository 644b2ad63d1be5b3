"""`embedkit fill-mask`."""

from __future__ import annotations

from typing import Annotated

import typer

from embedkit.cli import options, output
from embedkit.cli.options import output_option


def fill_mask_command(
    text: Annotated[str, typer.Argument(help="Text with the model's mask token, such as [MASK].")],
    *,
    model: options.Model,
    top_k: Annotated[int, output_option("Print this many tokens for each mask.", "--top-k")] = 5,
    device: options.Device = None,
    revision: options.Revision = None,
    as_json: options.Json = False,
) -> None:
    """Print the most probable tokens for each mask of a text.

    Example: [bold]embedkit fill-mask "서울은 대한민국의 [MASK]이다." -m klue/bert-base[/bold]
    """
    from embedkit.evaluation.report.grid import Grid
    from embedkit.masked_lm import MaskedLM

    masks = MaskedLM.from_pretrained(model, device=device, revision=revision).fill_mask(text, top_k)
    if as_json:
        content = [[candidate._asdict() for candidate in own] for own in masks]
        output.print_json({"model": model, "text": text, "masks": content})
        return
    for number, own in enumerate(masks, 1):
        rows = tuple((one.token, f"{one.probability:.4f}") for one in own)
        token = "token" if len(masks) == 1 else f"token of mask {number}"
        Grid((token, "probability"), rows, frozenset([0])).print(output.console())
