"""Recipes: everything between hidden states and sentence embeddings, as text and as a record.

Grammar: ``POOL[+POOL...][@LAYER[,LAYER...]][/STEP[:K]...]``, for example ``mean``, ``cls@-2``,
``mean@1,-1/normalize``, ``cls+mean/whiten:256/normalize``. The layer ``mix`` is
all of them, by trained weights.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from embedkit.arguments import check_type
from embedkit.errors import InputError
from embedkit.pooling import POOLINGS
from embedkit.recipes.steps import STEPS, TRAINED, split_step, step_problem, unknown_name

LAST = (-1,)
FIRST_LAST = (1, -1)
MIX = "mix"

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,8}", re.ASCII)
_POOLER_LAYER = "pooler takes no layer, it always reads the last one"


class RecipeError(InputError):
    """A recipe that cannot be read, or that a model does not have.

    Example:
        >>> Recipe.parse("mean/whiten:0")
        Traceback (most recent call last):
        ...
        embedkit.recipes.recipe.RecipeError: ...
    """


@dataclass(frozen=True)
class Recipe:
    """Layers, poolings and steps, in canonical form.

    Attributes:
        poolings: names from the pooling table, in its order; more than one are concatenated.
        layers: hidden states whose average is pooled; 0 is the input of the first layer, negative
            numbers count from the end.
        steps: the steps that follow, in order, as they print: `normalize`, `whiten:256`.
        mix: all hidden states are pooled, averaged by softmax weights that are trained (Peters et
            al. 2018, "Deep contextualized word representations", equation 1, without its scale);
            `layers` is empty then.

    Raises:
        RecipeError: an unknown or repeated name, a step without the number that it needs, or a
            pooler with layers or company.
    """

    poolings: tuple[str, ...]
    layers: tuple[int, ...] = LAST
    steps: tuple[str, ...] = ()
    mix: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("poolings", str), ("layers", int), ("steps", str)):
            parts = getattr(self, name)
            if not isinstance(parts, tuple | list) or not all(
                isinstance(part, kind) and not isinstance(part, bool) for part in parts
            ):
                raise RecipeError(
                    f"{name} is {reprlib.repr(parts)}; expected a tuple of {kind.__name__}"
                )
        if self.mix:
            object.__setattr__(self, "layers", ())
        if not self.poolings or not (self.layers or self.mix):
            raise RecipeError("a recipe needs at least one pooling and one layer")
        if flaw := _find_flaw(self.poolings, self.layers, self.steps):
            raise RecipeError(flaw[2])
        object.__setattr__(self, "poolings", tuple(sorted(self.poolings, key=[*POOLINGS].index)))
        # Layers counted from the start first, each group rising: the order in the network.
        object.__setattr__(self, "layers", tuple(sorted(self.layers, key=lambda k: (k < 0, k))))

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Read a recipe.

        Raises:
            RecipeError: names the wrong part, its character (from 1) and the choices.

        Example:
            >>> recipe = Recipe.parse("mean+cls@first-last/whiten:8")
            >>> recipe.poolings, recipe.layers, recipe.steps
            (('cls', 'mean'), (1, -1), ('whiten:8',))
            >>> str(recipe)
            'cls+mean@1,-1/whiten:8'
        """
        if not isinstance(text, str):
            raise RecipeError(f"a recipe is a str such as 'mean@-1/normalize', got {text!r}")

        head, *steps = text.split("/")
        pools, at, layer_text = head.partition("@")
        poolings = pools.split("+")
        layer_parts = layer_text.split(",") if at else []

        def error(kind: str, index: int, problem: str) -> RecipeError:
            start, parts = {
                "pooling": (1, poolings),
                "layer": (len(pools) + 2, layer_parts),
                "step": (len(head) + 2, steps),
            }[kind]
            character = start + sum(len(part) + 1 for part in parts[:index])
            return RecipeError(f"recipe {text!r}, character {character}: {problem}")

        layers: tuple[int, ...] = LAST
        mix = layer_parts == [MIX]
        if layer_parts == ["first-last"]:
            layers = FIRST_LAST
        elif mix:
            layers = ()
        elif at:
            for index, part in enumerate(layer_parts):
                if not _INTEGER.fullmatch(part):
                    problem = f"layer {part!r} is not a number; expected a hidden state such as "
                    raise error("layer", index, problem + "0, 6 or -1, first-last, or mix")
            layers = tuple(int(part) for part in layer_parts)
        for index, step in enumerate(steps):
            if step in TRAINED:
                raise error(
                    "step", index, f"the step {step} comes with a model and cannot be typed"
                )
        if flaw := _find_flaw(poolings, layers, steps):
            raise error(*flaw)
        if at and "pooler" in poolings:
            raise error("layer", 0, _POOLER_LAYER)
        return cls(tuple(poolings), layers, tuple(steps), mix)

    @classmethod
    def of(cls, recipe: str | Recipe) -> Recipe:
        """A recipe as it is, or `parse` of its text."""
        return recipe if isinstance(recipe, Recipe) else cls.parse(recipe)

    def __str__(self) -> str:
        text = "+".join(self.poolings)
        if self.layers != LAST:
            text += "@" + (MIX if self.mix else ",".join(map(str, self.layers)))
        return "/".join((text, *self.steps))

    @property
    def to_fit(self) -> tuple[str, ...]:
        """The poolings and steps that learn from texts."""
        poolings = tuple(name for name in self.poolings if POOLINGS[name].fitted)
        kinds = ((step, split_step(step)[0]) for step in self.steps if step not in TRAINED)
        return poolings + tuple(step for step, name in kinds if STEPS[name].fitted)

    @property
    def to_train(self) -> tuple[str, ...]:
        """What has weights that are trained with the encoder: `attention`, `mix`."""
        poolings = tuple(name for name in self.poolings if POOLINGS[name].trained)
        return poolings + (MIX,) * self.mix

    def resolve(self, num_layers: int, *, has_pooler: bool = True) -> Recipe:
        """The recipe for a model of `num_layers` layers: recipes of one meaning become equal.

        Layers are counted from 0, except the last one, which is always -1.

        Raises:
            RecipeError: a layer outside the model, or a pooler that it does not have.

        Example:
            >>> str(Recipe.parse("mean@first-last").resolve(12))
            'mean@1,-1'
            >>> str(Recipe.parse("cls@-2").resolve(12))
            'cls@11'
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
        return replace(self, layers=tuple(layers))

    def states(self, num_layers: int) -> tuple[int, ...]:
        """The hidden states to ask an encoder for, counted from 0 and rising; none for a pooler."""
        if "pooler" in self.poolings:
            return ()
        if self.mix:
            return tuple(range(num_layers + 1))
        return tuple(sorted({layer % (num_layers + 1) for layer in self.layers}))


def _find_flaw(
    poolings: Sequence[str], layers: Sequence[int], steps: Sequence[str]
) -> tuple[str, int, str] | None:
    """A wrong part: its kind, its place among its kind, and the problem."""
    for index, name in enumerate(poolings):
        if name not in POOLINGS:
            return "pooling", index, unknown_name("pooling", name, {key: key for key in POOLINGS})
    for index, step in enumerate(steps):
        if problem := step_problem(step):
            return "step", index, problem
        if index and step == steps[index - 1] and step not in TRAINED:
            return "step", index, f"step {step} is there twice in a row; expected it once"
    parts: dict[str, Sequence[str | int]] = {"pooling": poolings, "layer": layers}
    for kind, names in parts.items():
        seen: set[str | int] = set()  # a folder's recipe may name a million layers
        for index, part in enumerate(names):
            if part in seen:
                return kind, index, f"{kind} {part} is given twice; expected it once"
            seen.add(part)
    if "pooler" in poolings:
        if len(poolings) > 1:
            problem = "pooler stands alone, it cannot be concatenated with others"
            return "pooling", poolings.index("pooler"), problem
        if tuple(layers) != LAST:
            return "layer", 0, _POOLER_LAYER
    return None
