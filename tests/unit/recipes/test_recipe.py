from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from itertools import pairwise, permutations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedkit.errors import InputError
from embedkit.pooling import POOLINGS
from embedkit.recipes.recipe import FIRST_LAST, LAST, Recipe, RecipeError
from embedkit.recipes.steps import DENSE, STEPS

CHOICES = ", ".join(POOLINGS)
STEP_CHOICES = ", ".join(spec.name + spec.parameter for spec in STEPS.values())
WHOLE = "takes a whole number from 1, such as pca:8"
NUMBER = "is not a number; expected a hidden state such as 0, 6 or -1, first-last, or mix"

numbers = st.integers(1, 999_999_999)
plain_steps = st.sampled_from([name for name, spec in STEPS.items() if spec.parameter != ":K"])
numbered = st.sampled_from([name for name, spec in STEPS.items() if spec.parameter])
some_steps = plain_steps | st.builds("{}:{}".format, numbered, numbers)
step_lists = (
    st.lists(some_steps).filter(lambda steps: all(a != b for a, b in pairwise(steps))).map(tuple)
)
joined = st.builds(
    Recipe,
    st.lists(st.sampled_from([p for p in POOLINGS if p != "pooler"]), min_size=1, unique=True).map(
        tuple
    ),
    st.lists(st.integers(-9999, 9999), min_size=1, max_size=5, unique=True).map(tuple),
    step_lists,
)
recipes = joined | st.builds(Recipe, st.just(("pooler",)), st.just(LAST), step_lists)
# Texts that are nearly recipes reach more of the parser than any text does.
near_texts = st.lists(
    st.sampled_from([*POOLINGS, *STEPS, DENSE, "first-last", *"+@,/:-0179 ²x", "٣", ""]), max_size=8
).map("".join)


# Reading and printing


@pytest.mark.parametrize(
    ("typed", "poolings", "layers", "steps", "printed"),
    [
        ("mean", ("mean",), (-1,), (), "mean"),
        ("mean@-1", ("mean",), (-1,), (), "mean"),
        ("cls@-2", ("cls",), (-2,), (), "cls@-2"),
        ("max@0", ("max",), (0,), (), "max@0"),
        ("mean@first-last", ("mean",), (1, -1), (), "mean@1,-1"),
        ("mean@-1,1", ("mean",), (1, -1), (), "mean@1,-1"),
        ("mean@-1,-3,6,0", ("mean",), (0, 6, -3, -1), (), "mean@0,6,-3,-1"),
        ("mean+cls/normalize", ("cls", "mean"), (-1,), ("normalize",), "cls+mean/normalize"),
        ("last+max@2,1", ("max", "last"), (1, 2), (), "max+last@1,2"),
        ("pooler/normalize", ("pooler",), (-1,), ("normalize",), "pooler/normalize"),
        (
            "mean/normalize/whiten:256/normalize",
            ("mean",),
            (-1,),
            ("normalize", "whiten:256", "normalize"),
            "mean/normalize/whiten:256/normalize",
        ),
        ("idf_mean+cls/whiten", ("cls", "idf_mean"), (-1,), ("whiten",), "cls+idf_mean/whiten"),
        ("max_content/pca:8", ("max_content",), (-1,), ("pca:8",), "max_content/pca:8"),
        ("weighted_mean@12", ("weighted_mean",), (12,), (), "weighted_mean@12"),
    ],
)
def test_parse_and_print(
    typed: str,
    poolings: tuple[str, ...],
    layers: tuple[int, ...],
    steps: tuple[str, ...],
    printed: str,
) -> None:
    recipe = Recipe.parse(typed)
    assert (recipe.poolings, recipe.layers, recipe.steps) == (poolings, layers, steps)
    assert str(recipe) == printed


def test_mix_is_all_layers() -> None:
    recipe = Recipe.parse("mean+attention@mix/normalize")
    assert recipe == Recipe(("mean", "attention"), steps=("normalize",), mix=True)
    assert (recipe.layers, recipe.to_train) == ((), ("attention", "mix"))
    assert recipe.states(3) == (0, 1, 2, 3)
    assert str(recipe) == str(recipe.resolve(3)) == "mean+attention@mix/normalize"
    assert recipe != Recipe.parse("mean+attention/normalize")
    with pytest.raises(RecipeError, match="pooler takes no layer"):
        Recipe.parse("pooler@mix")


@settings(deadline=None)
@given(recipes)
def test_a_printed_recipe_reads_as_itself(recipe: Recipe) -> None:
    assert Recipe.parse(str(recipe)) == recipe
    assert str(Recipe.parse(str(recipe))) == str(recipe)


@settings(deadline=None)
@given(joined, st.data())
def test_the_typed_order_of_poolings_and_layers_does_not_matter(
    recipe: Recipe, data: st.DataObject
) -> None:
    pools = data.draw(st.permutations(recipe.poolings))
    layers = data.draw(st.permutations(recipe.layers))
    head = "+".join(pools) + "@" + ",".join(map(str, layers))
    assert Recipe.parse("/".join([head, *recipe.steps])) == recipe
    assert Recipe(tuple(pools), tuple(layers), recipe.steps) == recipe


def test_poolings_print_in_the_order_of_sentence_transformers() -> None:
    for typed in permutations(["last", "cls", "mean_sqrt_len", "max"]):
        assert str(Recipe.parse("+".join(typed))) == "cls+max+mean_sqrt_len+last"


def test_equal_recipes_have_one_hash() -> None:
    assert len({Recipe.parse("cls+mean@first-last"), Recipe.parse("mean+cls@-1,1")}) == 1
    assert Recipe(("mean",), FIRST_LAST) == Recipe.parse("mean@1,-1")


def test_a_loaded_dense_step_prints_and_repeats() -> None:
    assert str(Recipe(("cls",), LAST, ("dense", "normalize", "dense"))) == (
        "cls/dense/normalize/dense"
    )


# Against a model


@pytest.mark.parametrize(
    ("typed", "num_layers", "printed", "states"),
    [
        ("mean@12", 12, "mean", (12,)),
        ("mean@-1", 12, "mean", (12,)),
        ("mean@-13", 12, "mean@0", (0,)),
        ("cls@-2", 12, "cls@11", (11,)),
        ("mean@first-last", 12, "mean@1,-1", (1, 12)),
        ("mean@-12,12", 12, "mean@1,-1", (1, 12)),
        ("mean@2,-11", 12, "mean@2", (2,)),
        ("mean@first-last", 1, "mean", (1,)),
        ("mean@0", 0, "mean", (0,)),
        ("mean@-1,0,-2", 3, "mean@0,2,-1", (0, 2, 3)),
        ("pooler/normalize", 3, "pooler/normalize", ()),
    ],
)
def test_resolve(typed: str, num_layers: int, printed: str, states: tuple[int, ...]) -> None:
    resolved = Recipe.parse(typed).resolve(num_layers)
    assert str(resolved) == printed
    assert resolved.states(num_layers) == states
    assert Recipe.parse(typed).states(num_layers) == states


@settings(deadline=None)
@given(st.integers(1, 48), st.data())
def test_recipes_that_mean_the_same_resolve_to_one(num_layers: int, data: st.DataObject) -> None:
    layers = data.draw(st.lists(st.integers(0, num_layers), min_size=1, unique=True))
    other_names = [data.draw(st.sampled_from([k, k - num_layers - 1])) for k in layers]
    one = Recipe(("mean",), tuple(layers)).resolve(num_layers)
    other = Recipe(("mean",), tuple(other_names)).resolve(num_layers)
    assert one == other == one.resolve(num_layers)
    assert one.states(num_layers) == tuple(sorted(layers))


@pytest.mark.parametrize(
    ("typed", "num_layers", "layer", "expected"),
    [
        ("mean@13", 12, 13, "0 to 12, or -13 to -1"),
        ("mean@-14", 12, -14, "0 to 12, or -13 to -1"),
        ("cls+mean@1,7,-1", 6, 7, "0 to 6, or -7 to -1"),
        ("mean@1", 0, 1, "0 to 0, or -1 to -1"),
    ],
)
def test_a_layer_outside_the_model(typed: str, num_layers: int, layer: int, expected: str) -> None:
    with pytest.raises(RecipeError) as error:
        Recipe.parse(typed).resolve(num_layers)
    assert str(error.value) == (
        f"recipe {typed!r}: layer {layer} is not in this model; "
        f"expected {expected} counted from the end"
    )


def test_a_pooler_that_the_model_does_not_have() -> None:
    with pytest.raises(RecipeError) as error:
        Recipe.parse("pooler/normalize").resolve(12, has_pooler=False)
    assert str(error.value) == (
        "recipe 'pooler/normalize' needs a pooler, and this checkpoint has no pooler weights "
        "(transformers would invent random ones); choose another pooling, such as cls"
    )
    assert str(Recipe.parse("cls").resolve(12, has_pooler=False)) == "cls"


# Errors


@pytest.mark.parametrize(
    ("typed", "place", "problem"),
    [
        ("", 1, f"unknown pooling ''; choose from {CHOICES}"),
        ("maen", 1, f"unknown pooling 'maen' (did you mean mean?); choose from {CHOICES}"),
        ("cls+meen@1", 5, f"unknown pooling 'meen' (did you mean mean?); choose from {CHOICES}"),
        ("cls+", 5, f"unknown pooling ''; choose from {CHOICES}"),
        ("Mean", 1, f"unknown pooling 'Mean' (did you mean mean?); choose from {CHOICES}"),
        (" cls", 1, f"unknown pooling ' cls' (did you mean cls?); choose from {CHOICES}"),
        ("xyz", 1, f"unknown pooling 'xyz'; choose from {CHOICES}"),
        ("cls+mean+cls", 10, "pooling cls is given twice; expected it once"),
        ("mean@", 6, f"layer '' {NUMBER}"),
        ("mean@1,x", 8, f"layer 'x' {NUMBER}"),
        ("mean@1,,2", 8, f"layer '' {NUMBER}"),
        ("mean@01", 6, f"layer '01' {NUMBER}"),
        ("mean@-0", 6, f"layer '-0' {NUMBER}"),
        ("mean@+1", 6, f"layer '+1' {NUMBER}"),
        ("mean@1.5", 6, f"layer '1.5' {NUMBER}"),
        ("mean@٣", 6, f"layer '٣' {NUMBER}"),
        ("mean@9999999999", 6, f"layer '9999999999' {NUMBER}"),
        ("mean@first-last,2", 6, f"layer 'first-last' {NUMBER}"),
        ("mean@1@2", 6, f"layer '1@2' {NUMBER}"),
        ("mean@1,6,1", 10, "layer 1 is given twice; expected it once"),
        ("mean/", 6, f"unknown step ''; choose from {STEP_CHOICES}"),
        (
            "mean@1/normalise",
            8,
            f"unknown step 'normalise' (did you mean normalize?); choose from {STEP_CHOICES}",
        ),
        (
            "mean/normalize/normalize",
            16,
            "step normalize is there twice in a row; expected it once",
        ),
        ("mean@1,-1/normalize/foo", 21, f"unknown step 'foo'; choose from {STEP_CHOICES}"),
        ("mean/whiten:8/pca", 15, "step pca needs a number, such as pca:8"),
        ("mean/center:3", 6, "step center takes no number, got '3'"),
        ("mean/pca:0", 6, f"step pca {WHOLE}; got '0'"),
        ("mean/pca:-1", 6, f"step pca {WHOLE}; got '-1'"),
        ("mean/pca:08", 6, f"step pca {WHOLE}; got '08'"),
        ("mean/pca:", 6, f"step pca {WHOLE}; got ''"),
        ("mean/pca:8:8", 6, f"step pca {WHOLE}; got '8:8'"),
        ("mean/pca:٣", 6, f"step pca {WHOLE}; got '٣'"),
        ("mean/pca:9999999999", 6, f"step pca {WHOLE}; got '9999999999'"),
        ("mean/dense", 6, "the step dense comes with a model and cannot be typed"),
        ("mean@1/normalize/dense", 18, "the step dense comes with a model and cannot be typed"),
        ("pooler@2", 8, "pooler takes no layer, it always reads the last one"),
        ("pooler@-1", 8, "pooler takes no layer, it always reads the last one"),
        ("pooler@first-last", 8, "pooler takes no layer, it always reads the last one"),
        ("cls+pooler", 5, "pooler stands alone, it cannot be concatenated with others"),
        ("pooler+cls", 1, "pooler stands alone, it cannot be concatenated with others"),
    ],
)
def test_errors_name_the_place_and_the_choices(typed: str, place: int, problem: str) -> None:
    with pytest.raises(RecipeError) as error:
        Recipe.parse(typed)
    assert str(error.value) == f"recipe {typed!r}, character {place}: {problem}"


def test_the_choices_are_all_poolings_and_steps() -> None:
    poolings = "cls max mean mean_sqrt_len weighted_mean last mean_content max_content"
    assert [*poolings.split(), "idf_mean", "attention", "pooler"] == [*POOLINGS][:11]
    assert "whiten[:K], pca:K" in STEP_CHOICES


def test_errors_of_the_constructor() -> None:
    for poolings, layers, steps, message in [
        ((), LAST, (), "a recipe needs at least one pooling and one layer"),
        (("mean",), (), (), "a recipe needs at least one pooling and one layer"),
        (("mean", "mean"), LAST, (), "pooling mean is given twice; expected it once"),
        (("mean",), (1, 1), (), "layer 1 is given twice; expected it once"),
        (("pooler",), (1,), (), "pooler takes no layer, it always reads the last one"),
        (("lst",), LAST, (), f"unknown pooling 'lst' (did you mean last?); choose from {CHOICES}"),
        (("mean",), LAST, ("pca",), "step pca needs a number, such as pca:8"),
    ]:
        with pytest.raises(RecipeError) as error:
            Recipe(poolings, layers, steps)
        assert str(error.value) == message


@pytest.mark.parametrize("value", [None, 3, b"mean", ["mean"]])
def test_only_text_is_parsed(value: object) -> None:
    with pytest.raises(RecipeError) as error:
        Recipe.parse(value)  # type: ignore[arg-type]
    assert str(error.value) == f"a recipe is a str such as 'mean@-1/normalize', got {value!r}"


def test_a_recipe_error_is_the_users() -> None:
    assert issubclass(RecipeError, InputError)
    assert issubclass(RecipeError, ValueError)


@settings(deadline=None)
@given(st.text() | near_texts)
@example("mean@" + "9" * 5000)
@example("\ud800")
def test_any_text_is_a_recipe_or_a_recipe_error(text: str) -> None:
    with suppress(RecipeError):  # any other error fails the test
        recipe = Recipe.parse(text)
        assert Recipe.parse(str(recipe)) == recipe


def test_parsing_loads_no_torch() -> None:
    code = (
        "import sys; from embedkit import Recipe; print(Recipe.parse('cls+mean@first-last'));"
        "print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["cls+mean@1,-1", "[]", ""]
