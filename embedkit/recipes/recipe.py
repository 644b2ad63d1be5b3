"""Recipes: all that lies between hidden states and sentence vectors.

Grammar: ``POOL[+POOL...][@LAYER[,LAYER...]][/STEP[:K]...]``, for example ``mean``, ``cls@-2``,
``mean@1,-1/normalize``, ``cls+mean/whiten:256/normalize``.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import accumulate
from typing import NamedTuple

from embedkit.arguments import check_type
from embedkit.errors import InputError
from embedkit.pooling import POOLINGS


class StepKind(NamedTuple):
    """A row of the table of steps.

    Attributes:
        name: what a recipe says.
        number: how it takes a number: ``""`` for not at all, ``":K"``, or ``"[:K]"`` if it may.
        fitted: whether it learns from texts.
        note: what it does with a vector v.
        note_ko: the same in Korean.
    """

    name: str
    number: str
    fitted: bool
    note: str
    note_ko: str


_STEPS = (
    StepKind("center", "", True, "subtract the mean", "평균을 뺀다"),
    StepKind(
        "standardize",
        "",
        True,
        "subtract the mean, and divide each number by its standard deviation",
        "평균을 빼고 차원마다 표준편차로 나눈다",
    ),
    StepKind(
        "remove_top",
        ":K",
        True,
        "subtract the mean, and project out the K directions that vary most",
        "평균을 빼고 분산이 가장 큰 방향 K개를 없앤다",
    ),
    StepKind(
        "whiten",
        "[:K]",
        True,
        "uncorrelated numbers of variance 1, of the K directions that vary most (or of all)",
        "분산이 가장 큰 방향 K개(없으면 전부)를 상관 없이 분산 1로",
    ),
    StepKind(
        "pca",
        ":K",
        True,
        "subtract the mean, and keep the K directions that vary most",
        "평균을 빼고 분산이 가장 큰 방향 K개만 남긴다",
    ),
    StepKind("truncate", ":K", False, "keep the first K numbers", "앞 숫자 K개만 남긴다"),
    StepKind(
        "normalize",
        "",
        False,
        "divide by the norm; a zero vector stays zero",
        "노름으로 나눈다. 영벡터는 그대로 둔다",
    ),
)


STEPS: dict[str, StepKind] = {kind.name: kind for kind in _STEPS}


DENSE, LAYER_NORM = "dense", "layer_norm"


TRAINED = (DENSE, LAYER_NORM)  # the trained layers of a loaded folder: printed, never typed


LAST = (-1,)


FIRST_LAST = (1, -1)


_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,8}", re.ASCII)


_ORDER = {name: place for place, name in enumerate(POOLINGS)}


class RecipeError(InputError):
    """A recipe that cannot be read, or that a model does not have."""


@dataclass(frozen=True)
class Recipe:
    """Layers, poolings and steps, in canonical form.

    Attributes:
        poolings: names from the pooling table, in its order; more than one are concatenated.
        layers: hidden states whose average is pooled; 0 is the input of the first layer, negative
            numbers count from the end.
        steps: the steps that follow, in order, as they print: `normalize`, `whiten:256`.

    Raises:
        RecipeError: an unknown or repeated name, a step without the number that it needs, or a
            pooler with layers or company.
    """

    poolings: tuple[str, ...]
    layers: tuple[int, ...] = LAST
    steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in (("poolings", str), ("layers", int), ("steps", str)):
            parts = getattr(self, name)
            if not isinstance(parts, tuple | list) or not all(
                isinstance(part, kind) and not isinstance(part, bool) for part in parts
            ):
                raise RecipeError(
                    f"{name} is {reprlib.repr(parts)}; expected a tuple of {kind.__name__}"
                )
        if not self.poolings or not self.layers:
            raise RecipeError("a recipe needs at least one pooling and one layer")
        if flaw := _find_flaw(self.poolings, self.layers, self.steps):
            raise RecipeError(flaw[2])
        object.__setattr__(self, "poolings", tuple(sorted(self.poolings, key=_ORDER.__getitem__)))
        # Layers counted from the start first, each group rising: the order in the network.
        object.__setattr__(self, "layers", tuple(sorted(self.layers, key=lambda k: (k < 0, k))))

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Read a recipe.

        Raises:
            RecipeError: names the wrong part, its place (from 1) and the choices.
        """
        if not isinstance(text, str):
            raise RecipeError(f"a recipe is a str such as 'mean@-1/normalize', got {text!r}")

        def error(place: int, problem: str) -> RecipeError:
            return RecipeError(f"recipe {text!r}, character {place}: {problem}")

        head, *steps = text.split("/")
        pools, at, layer_text = head.partition("@")
        poolings = pools.split("+")
        layer_parts = layer_text.split(",") if at else []
        places = {
            "pooling": _places(1, poolings),
            "layer": _places(len(pools) + 2, layer_parts),
            "step": _places(len(head) + 2, steps),
        }
        layers: tuple[int, ...] = LAST
        if layer_parts == ["first-last"]:
            layers = FIRST_LAST
        elif at:
            for place, part in zip(places["layer"], layer_parts, strict=True):
                if not _INTEGER.fullmatch(part):
                    raise error(
                        place,
                        f"layer {part!r} is not a number; expected a hidden state such as 0, 6 or "
                        "-1, or first-last",
                    )
            layers = tuple(int(part) for part in layer_parts)
        for place, step in zip(places["step"], steps, strict=True):
            if step in TRAINED:
                raise error(place, f"the step {step} comes with a model and cannot be typed")
        if flaw := _find_flaw(poolings, layers, steps):
            kind, index, problem = flaw
            raise error(places[kind][index], problem)
        if at and "pooler" in poolings:
            raise error(places["layer"][0], _POOLER_LAYER)
        return cls(tuple(poolings), layers, tuple(steps))

    @classmethod
    def of(cls, recipe: str | Recipe) -> Recipe:
        """A recipe as it is, or `parse` of its text."""
        return recipe if isinstance(recipe, Recipe) else cls.parse(recipe)

    def __str__(self) -> str:
        text = "+".join(self.poolings)
        if self.layers != LAST:
            text += "@" + ",".join(map(str, self.layers))
        return "/".join((text, *self.steps))

    @property
    def to_fit(self) -> tuple[str, ...]:
        """The poolings and steps that learn from texts."""
        poolings = tuple(name for name in self.poolings if POOLINGS[name].fitted)
        kinds = ((step, split_step(step)[0]) for step in self.steps if step not in TRAINED)
        return poolings + tuple(step for step, name in kinds if STEPS[name].fitted)

    def resolve(self, num_layers: int, *, has_pooler: bool = True) -> Recipe:
        """The recipe as a model of `num_layers` layers has it: two that mean the same are equal.

        Layers are counted from 0, but for the last one, which is always -1.

        Raises:
            RecipeError: a layer outside the model, or a pooler that it does not have.
        """
        check_type("num_layers", num_layers, int, "the number of layers")
        if "pooler" in self.poolings and not has_pooler:
            raise RecipeError(
                f"recipe {str(self)!r} needs a pooler, and this checkpoint has no pooler weights "
                "(transformers would invent random ones); choose another pooling, such as cls"
            )
        layers = set()
        for layer in self.layers:
            if not -num_layers - 1 <= layer <= num_layers:
                raise RecipeError(
                    f"recipe {str(self)!r}: layer {layer} is not in this model; expected 0 to "
                    f"{num_layers}, or {-num_layers - 1} to -1 counted from the end"
                )
            index = layer % (num_layers + 1)
            layers.add(-1 if index == num_layers else index)
        return Recipe(self.poolings, tuple(layers), self.steps)

    def states(self, num_layers: int) -> tuple[int, ...]:
        """The hidden states to ask an encoder for, counted from 0 and rising; none for a pooler."""
        if "pooler" in self.poolings:
            return ()
        return tuple(sorted({layer % (num_layers + 1) for layer in self.layers}))


_POOLER_LAYER = "pooler takes no layer, it always reads the last one"


def _find_flaw(
    poolings: Sequence[str], layers: Sequence[int], steps: Sequence[str]
) -> tuple[str, int, str] | None:
    """A wrong part: its kind, its place among its kind, and the problem."""
    for index, name in enumerate(poolings):
        if name not in POOLINGS:
            return "pooling", index, _unknown("pooling", name, POOLINGS)
    for index, step in enumerate(steps):
        if problem := _step_flaw(step):
            return "step", index, problem
        if index and step == steps[index - 1] and step not in TRAINED:
            return "step", index, f"step {step} is there twice in a row; expected it once"
    parts: dict[str, Sequence[str | int]] = {"pooling": poolings, "layer": layers}
    for kind, names in parts.items():
        seen: set[str | int] = set()  # a folder's recipe may name a million layers
        for index, part in enumerate(names):
            if part in seen:
                return kind, index, f"{kind} {part} is there twice; expected it once"
            seen.add(part)
    if "pooler" in poolings:
        if len(poolings) > 1:
            problem = "pooler stands alone, it cannot be concatenated with others"
            return "pooling", poolings.index("pooler"), problem
        if tuple(layers) != LAST:
            return "layer", 0, _POOLER_LAYER
    return None


def _step_flaw(step: str) -> str | None:
    if step in TRAINED:
        return None
    name, colon, number = step.partition(":")
    kind = STEPS.get(name)
    if kind is None:
        return _unknown("step", name, STEPS, [row.name + row.number for row in _STEPS])
    if not colon:
        return f"step {name} needs a number, such as {name}:8" if kind.number == ":K" else None
    if not kind.number:
        return f"step {name} takes no number, got {number!r}"
    if not _NUMBER.fullmatch(number):
        return f"step {name} takes a whole number from 1, such as {name}:8; got {number!r}"
    return None


def split_step(step: str) -> tuple[str, int | None]:
    """A step's name and its number: `whiten:256` is ("whiten", 256), `whiten` ("whiten", None)."""
    name, colon, number = step.partition(":")
    return name, int(number) if colon else None


def _unknown(
    what: str, name: str, choices: Collection[str], shown: Collection[str] | None = None
) -> str:
    close = get_close_matches(name, choices, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown {what} {name!r}{hint}; choose from {', '.join(shown or choices)}"


def _places(start: int, parts: Sequence[str]) -> list[int]:
    """Where each part begins when they stand one separator apart."""
    return list(accumulate((len(part) + 1 for part in parts), initial=start))[: len(parts)]


def step_table(language: str = "en") -> str:
    """The table as Markdown, as the READMEs show it, in English (en) or Korean (ko)."""
    korean = language == "ko"
    head = "| 단계 | 텍스트로 학습 | |" if korean else "| step | fitted on texts | |"
    fitted = "예" if korean else "yes"
    lines = [head, "| --- | --- | --- |"]
    for kind in _STEPS:
        note = kind.note_ko if korean else kind.note
        lines.append(f"| `{kind.name}{kind.number}` | {fitted if kind.fitted else ''} | {note} |")
    return "\n".join(lines)
