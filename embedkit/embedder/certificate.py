"""Calibrate int8 on texts, and certify it: its cosines to float32 on texts that were held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.data.pairs import read_pairs
from embedkit.embedder.one_pass import check_finite, run
from embedkit.encoders.encoder import Encoder, on_engine
from embedkit.encoders.packed import PackedEncoder
from embedkit.encoders.quantization import Quantization, calibrate
from embedkit.errors import InputError
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.steps import Float32Array
from embedkit.similarity import find_similarity
from embedkit.tokenization.tokenizer import Tokenized

_HELD_OUT = 5  # one text of so many
_FEWEST = 10  # texts
_FEW = 50  # that show which linears are sensitive


def built_in_texts() -> list[str]:
    """The 480 sentences of first_look, English and Korean."""
    pairs = read_pairs("first_look")
    return [*pairs.sentence1, *pairs.sentence2]


def in_int8(
    encoder: Encoder,
    tokenize: Callable[[list[str]], Tokenized],
    bound: BoundRecipe,
    texts: Sequence[str],
    source: str,  # of the texts, in words
) -> PackedEncoder:
    """The encoder run by OpenVINO in int8, by its own calibration or by one on these texts.

    One text of five is held out of the calibration, for the cosines.
    """
    exact = on_engine(encoder, "openvino").to(encoder.device, torch.float32)
    exact = cast("PackedEncoder", exact).with_int8(None)  # `on_engine` refuses others
    if exact.calibration is not None:
        return exact.with_int8(exact.calibration)
    distinct = [*dict.fromkeys(texts)]
    if len(distinct) < _FEWEST:
        raise InputError(
            f"got {len(distinct)} distinct texts to calibrate int8 on; expected at least {_FEWEST}"
        )
    held_out = distinct[::_HELD_OUT]
    taken = [text for index, text in enumerate(distinct) if index % _HELD_OUT]
    tokens = tokenize(taken)
    longest_first = np.argsort(-tokens.lengths, kind="stable")
    few = longest_first[:: -(-len(taken) // _FEW)]
    others = tokenize(held_out)
    (reference,) = run(exact, others, [bound])
    check_finite(reference, held_out, "float32")
    parts = calibrate(exact, tokens.batch(longest_first), tokens.batch(few))
    certificate: dict[str, Any] = {
        "recipe": str(bound.recipe),
        "source": source,
        "texts": len(taken),
        "held_out": len(held_out),
        "kept_float": [
            f"{layer}.{part}" for layer, part in exact.linear_parts if (layer, part) not in parts
        ],
    }
    rough = exact.with_int8(Quantization(parts, certificate))
    cosines = row_cosines(reference, run(rough, others, [bound])[0])
    certificate |= {"smallest_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}
    return rough


def row_cosines(a: Float32Array, b: Float32Array) -> NDArray[np.float64]:
    """(n,): the cosine of each row of a to that of b, both (n, dim)."""
    return find_similarity("cosine").pairwise(a.astype(np.float64), b.astype(np.float64))


def described(certificate: Mapping[str, Any]) -> str:
    """A certificate in one sentence."""
    kept = certificate.get("kept_float", [])
    recipe = f" of {certificate['recipe']}" if "recipe" in certificate else ""
    return (
        f"calibrated on {certificate.get('texts')} {certificate.get('source')} texts; "
        f"cosine{recipe} to float32 on {certificate.get('held_out')} others: mean "
        f"{certificate.get('mean_cosine', float('nan')):.5f}, smallest "
        f"{certificate.get('smallest_cosine', float('nan')):.5f}; {len(kept)} linears stay float"
    )
