"""Choose precision and engine of an encoder, and check its embeddings against those of float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import torch

from embedkit.embedder.calibration import (
    Measurement,
    calibrate,
    calibrated,
    has_bfloat16,
    kept_openvino,
)
from embedkit.embedder.certificate import built_in_texts, described, in_int8, row_cosines
from embedkit.embedder.one_pass import run
from embedkit.encoders.encoder import ENGINES, Encoder, on_engine
from embedkit.encoders.packed import PackedEncoder
from embedkit.errors import InputError
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import LAST, Recipe
from embedkit.recipes.steps import Float32Array
from embedkit.tokenization.tokenizer import Tokenized

AUTO, INT8 = "auto", "int8"

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS |= {INT8: torch.float32}  # what it computes in between its linears

AGREEMENT = 0.999

# How much faster bfloat16 has to be at matrix products; see `embedkit.embedder.calibration`.
WORTH = 1.35

# How much faster OpenVINO has to be than torch.
ENGINE_WORTH = 1.1

# One word to some hundred tokens, in scripts that tokenizers split in different ways.
PROBE = (
    "rain",
    "서울",
    "A man is playing a guitar on the street.",
    "The quick brown fox jumps over the lazy dog, and nobody was there to see it happen.",
    "Is the hydroxychloroquine dosage of 400 mg/day safe for patients over 65 years of age?",
    "한 남자가 거리에서 기타를 치고 있다.",
    "어제 국회에서 통과된 법안은 내년 1월부터 시행될 예정이라고 정부 관계자가 밝혔다.",
    "이 영화 진짜 재밌음ㅋㅋㅋ 근데 결말이 좀 아쉬웠어요ㅠㅠ",
    "彼女は毎朝六時に起きて、公園を走っています。",
    "国务院总理在会议上强调，要进一步扩大对外开放。",
    "Der Zug nach München fällt heute wegen eines Streiks leider aus.",
    "Le musée du Louvre a accueilli près de neuf millions de visiteurs l'année dernière.",
    "¿Cuánto cuesta un billete de ida y vuelta a Barcelona en primera clase?",
    "Завтра ожидается сильный снегопад, поэтому школы будут закрыты.",
    "تقع مدينة القاهرة على ضفاف نهر النيل في شمال مصر.",
    "भारत में मानसून की पहली बारिश आमतौर पर जून में होती है।",
    "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "x = [i ** 2 for i in range(10) if i % 2 == 0]  # squares of even numbers",
    "!!! 50% OFF ??? 😀🎉 www.example.com/a?b=c&d=1 #sale @shop",
    "not good, not bad, not good, not bad, not good, not bad, not good, not bad",
    "Retrieval models map queries and documents into one space, where the nearest neighbours of a "
    "query are the documents that answer it. They are trained on pairs: a question and a passage "
    "that holds its answer, with the other passages of the batch as negatives. What they learn "
    "depends on how hard those negatives are, on the temperature of the loss and on how vectors of "
    "tokens become the vector of a text, which may be that of the first token or a mean of all.",
    "훈민정음은 1443년에 세종대왕이 창제하고 1446년에 반포한 한국의 문자이다. 스물여덟 글자로 "
    "이루어졌으며, 자음은 발음 기관의 모양을 본떠 만들었고 모음은 하늘과 땅과 사람을 본떠 "
    "만들었다. 누구나 쉽게 배워 쓸 수 있도록 한 글자로, 오늘날에는 스물네 글자를 쓴다.",
)


def check_not_auto(precision: str) -> None:
    """Refuse `auto` where several machines encode, which may choose differently."""
    if precision == AUTO:
        raise InputError(
            "precision is 'auto', which each machine would choose by its own speed; expected one "
            "for all of them, such as float32 or bfloat16"
        )


@dataclass(frozen=True)
class Choice:
    """The precision of an embedder, and what runs it."""

    name: str  # one of PRECISIONS
    agreement: float | None  # the smallest cosine of a text of PROBE to its vector in float32
    reason: str  # in words
    measured: Measurement | None = None  # what it was decided by, on a CPU
    engine: str = "torch"  # one of ENGINES

    @property
    def run_as(self) -> str:
        """Such as `bfloat16 by openvino`; torch is not named."""
        return self.name if self.engine == "torch" else f"{self.name} by {self.engine}"

    def __str__(self) -> str:
        return f"{self.run_as} ({self.reason})"


def check_precision(precision: str, engine: str = AUTO) -> None:
    """Refuse an unknown precision or engine."""
    for option, value, known in (
        ("precision", precision, (AUTO, *PRECISIONS)),
        ("engine", engine, (AUTO, *ENGINES)),
    ):
        if not isinstance(value, str) or value not in known:
            raise InputError(f"{option} is {value!r}; expected one of {', '.join(known)}")
    if precision == INT8 and engine == "torch":
        raise InputError("precision is 'int8' and engine 'torch'; expected engine openvino or auto")


def usable_engine(asked: str, recorded: str, device: torch.device) -> str:
    """The engine that was asked for, else the one that the folder records if it is there."""
    if asked != AUTO or recorded != "openvino":
        return asked
    return recorded if device.type == "cpu" and find_spec("openvino") is not None else AUTO


def choose(
    encoder: Encoder,
    tokenize: Callable[[list[str]], Tokenized],
    bound: BoundRecipe,  # the recipe; while it is not fitted the mean of its layers stands for it
    precision: str,  # a name of PRECISIONS, or `auto`
    engine: str = "torch",  # one of ENGINES, or `auto`
    calibrate_on: Sequence[str] | None = None,  # texts for int8; None for built-in ones
    *,
    own_recipe: bool = True,  # whether it is the folder's, which alone is certified
) -> tuple[Encoder, Choice]:
    """The encoder in the precision and engine that were asked for, or for `auto` in the best ones.

    `auto` takes the low precision of the device where it is faster, and OpenVINO where a user let
    it be measured and it is faster, if the vectors of PROBE agree with those of torch in float32
    (cosine of AGREEMENT or more); it reads no text of the caller's.
    """
    check_precision(precision, engine)
    certified = None
    if precision == AUTO and engine != "torch" and own_recipe:
        certified = _certified(encoder)
    if precision == INT8 or certified is not None:
        texts = [*PROBE, *built_in_texts()] if calibrate_on is None else calibrate_on
        source = "built-in" if calibrate_on is None else "given"
        quantized = in_int8(encoder, tokenize, _comparable(bound), texts, source)
        if quantized.int8 is not None and not own_recipe:
            quantized = quantized.with_int8(quantized.int8.uncertified())
        return quantized, _int8_choice(quantized, certified)
    if isinstance(encoder, PackedEncoder):
        encoder = encoder.with_int8(None)
    tried = Choice(precision, None, "asked")
    if precision == AUTO:
        tried = fast_precision(encoder.device)
        tried = replace(tried, reason=f"auto: {tried.reason}")
    if engine == AUTO:
        by, why = fastest_engine(encoder, tried.name)
        tried = replace(tried, engine=by, reason=f"{tried.reason}{why}")
    else:
        tried = replace(tried, engine=engine)
    safe = replace(
        tried,
        name="float32" if precision == AUTO else precision,
        engine="torch" if engine == AUTO else engine,
    )
    if tried == safe:
        return _variant(encoder, safe), safe
    try:
        tokens = tokenize(list(PROBE))
        rough = _variant(encoder, tried)
    except InputError as error:
        reason = f"auto: {tried.run_as} cannot be tried: {error}"
        return _variant(encoder, safe), replace(safe, reason=reason)
    exact = _variant(encoder, Choice("float32", None, ""))
    agreement = smallest_cosine(
        *(run(variant, tokens, [_comparable(bound)])[0] for variant in (exact, rough))
    )
    agreed = f"smallest cosine of {tried.run_as} to float32 {agreement:.5f}, {AGREEMENT} is needed"
    if agreement >= AGREEMENT:
        return rough, replace(tried, agreement=agreement, reason=f"{tried.reason}; {agreed}")
    safe = replace(safe, agreement=agreement, reason=f"auto: {agreed}")
    return _variant(encoder, safe), safe


def _certified(encoder: Encoder) -> float | None:
    """The loss within which the folder's int8 is certified, where it can run here."""
    known = encoder.calibration if isinstance(encoder, PackedEncoder) else None
    usable = encoder.device.type == "cpu" and find_spec("openvino") is not None
    return known.certificate.get("max_loss") if known is not None and usable else None


def _int8_choice(encoder: PackedEncoder, certified: float | None) -> Choice:
    certificate = {} if encoder.int8 is None else encoder.int8.certificate
    reason = "asked" if certified is None else f"auto: certified to lose at most {certified}"
    agreement = certificate.get("smallest_cosine")
    return Choice(INT8, agreement, f"{reason}; {described(certificate)}", engine="openvino")


def _variant(encoder: Encoder, choice: Choice) -> Encoder:
    """The encoder as it was chosen, itself where it is that already."""
    return on_engine(encoder, choice.engine).to(encoder.device, PRECISIONS[choice.name])


def fastest_engine(encoder: Encoder, precision: str) -> tuple[str, str]:
    """The engine for an encoder, and why in words, by what is kept alone."""
    measured = kept_openvino() if encoder.device.type == "cpu" else None
    if measured is None or not isinstance(encoder, PackedEncoder):
        return "torch", ""
    gain = measured.gain_over_torch(precision)
    why = f"; OpenVINO is {gain:.2f} times as fast as torch here, {ENGINE_WORTH} is needed"
    return ("openvino" if gain >= ENGINE_WORTH else "torch"), why


def fast_precision(device: torch.device) -> Choice:
    """The low precision to try on a device; float32 for none."""
    if device.type == "cuda":
        return Choice("bfloat16" if torch.cuda.is_bf16_supported() else "float16", None, "a GPU")
    if device.type != "cpu":
        return Choice("float32", None, f"no low precision is tried on {device.type}")
    return cpu_precision()


def cpu_precision(*, anew: bool = False) -> Choice:
    """`fast_precision` of this CPU, by the kept measurement or by a new one."""
    if not has_bfloat16():
        return Choice("float32", None, "this CPU has no instructions for bfloat16")
    measured, note = calibrate(anew=True) if anew else calibrated()
    if measured is None:
        reason = f"times of products are too unsteady here to choose by{note}"
        return Choice("float32", None, reason)
    reason = f"bfloat16 products are {measured.gain:.1f} times as fast as float32 here{note}"
    return Choice("bfloat16" if measured.gain >= WORTH else "float32", None, reason, measured)


def smallest_cosine(a: Float32Array, b: Float32Array) -> float:
    """Of the rows of a and b, (n, dim); two zero vectors agree, zero and another do not."""
    return float(np.where((a == b).all(axis=1), 1.0, row_cosines(a, b)).min())


def _comparable(bound: BoundRecipe) -> BoundRecipe:
    """The recipe, or while it is not fitted the mean of its layers."""
    if bound.unfitted is None and bound.untrained is None:
        return bound
    return BoundRecipe(Recipe(("mean",), bound.recipe.layers or LAST), ())
