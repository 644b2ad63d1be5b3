from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from sentence_transformers.sentence_transformer.modules import Pooling as TheirPooling
from sentence_transformers.sentence_transformer.modules import WeightedLayerPooling
from torch import Tensor
from transformers import AutoModel, AutoTokenizer
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPoolingAndCrossAttentions,
    MaskedLMOutput,
    Seq2SeqModelOutput,
)

from embedkit import POOLINGS, Embedder, InputError, Pooling, RecipeError
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.dense import Dense, LayerNorm
from embedkit.recipes.recipe import Recipe

DIM = 8
LENGTHS = (5, 1, 7, 4)
LENGTH = max(LENGTHS)
THEIRS = [name for name, row in POOLINGS.items() if row.sentence_transformers]
CONTENT = ("mean_content", "max_content", "idf_mean")


def make_mask(side: str = "right", dtype: torch.dtype = torch.int64) -> Tensor:
    rows = [[1] * n + [0] * (LENGTH - n) for n in LENGTHS]
    return torch.tensor([row[::-1] if side == "left" else row for row in rows]).to(dtype)


def make_hidden(dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(LENGTHS), LENGTH, DIM, generator=generator, dtype=torch.float64).to(
        dtype
    )


def theirs(
    name: str, hidden: Tensor, mask: Tensor, prompt_tokens: int = 0, *, include_prompt: bool = True
) -> Tensor:
    pooling = TheirPooling(DIM, POOLINGS[name].sentence_transformers, include_prompt)
    features = {
        "token_embeddings": hidden,
        "attention_mask": mask,
        "prompt_length": prompt_tokens,
    }
    vectors: Tensor = pooling(features)["sentence_embedding"]
    return vectors


def ulp(values: Tensor) -> Tensor:
    """The distance of bfloat16 numbers there."""
    exponents = values.float().abs().clamp(min=2.0**-126).log2().floor()
    return torch.exp2(exponents - 7)


# Values: sentence-transformers is the oracle


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str
)
@pytest.mark.parametrize("name", THEIRS)
def test_as_sentence_transformers(
    name: str, dtype: torch.dtype, tolerance: float, side: str
) -> None:
    hidden, mask = make_hidden(dtype), make_mask(side)
    got = Pooling(name)(hidden, mask)
    assert got.dtype == dtype
    assert (got - theirs(name, hidden, mask)).abs().max() <= tolerance


@pytest.mark.parametrize("name", THEIRS)
def test_one_ulp_of_sentence_transformers_in_bfloat16(name: str) -> None:
    hidden, mask = make_hidden(torch.bfloat16), make_mask()
    got, expected = Pooling(name)(hidden, mask), theirs(name, hidden, mask)
    assert got.dtype == torch.bfloat16
    assert ((got.float() - expected.float()).abs() <= ulp(expected)).all()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", THEIRS)
def test_without_the_prompt_as_with_include_prompt_false(name: str, side: str) -> None:
    lengths = torch.tensor(LENGTHS) > 2
    hidden, mask = make_hidden()[lengths], make_mask(side)[lengths]
    got = Pooling(name)(hidden, mask, prompt_tokens=2)
    expected = theirs(name, hidden, mask, 2, include_prompt=False)
    assert (got - expected).abs().max() <= 1e-6
    assert not torch.allclose(got, Pooling(name)(hidden, mask)) or name == "last"


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int32, torch.float16, torch.float64], ids=str
)
def test_the_mask_may_have_any_dtype(dtype: torch.dtype) -> None:
    hidden = make_hidden()
    expected = Pooling("mean+last")(hidden, make_mask())
    assert torch.equal(Pooling("mean+last")(hidden, make_mask(dtype=dtype)), expected)


def test_concatenated_in_the_order_of_the_recipe_and_normalized() -> None:
    hidden, mask = make_hidden(torch.float64), make_mask()
    pooling = TheirPooling(DIM, ("cls", "mean"))
    both = pooling({"token_embeddings": hidden, "attention_mask": mask})["sentence_embedding"]
    got = Pooling("mean+cls@-1/normalize")(hidden, mask)
    assert (got - torch.nn.functional.normalize(both)).abs().max() <= 1e-12


def test_content_poolings_by_hand() -> None:
    hidden = torch.tensor([[[9.0], [1.0], [3.0], [9.0]], [[9.0], [9.0], [0.0], [0.0]]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    special = torch.tensor([[1, 0, 0, 1], [1, 1, 1, 1]])
    got = Pooling("mean_content+max_content")(hidden, mask, special_tokens_mask=special)
    assert got.tolist() == [[2.0, 3.0], [0.0, 0.0]]


# Outputs of transformers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=3, width=DIM, heads=2)


def run(folder: Path) -> tuple[Any, dict[str, Tensor]]:
    """The output of the model for the texts of tiny, and its tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(
        list(tiny.TEXTS), padding=True, return_tensors="pt", return_special_tokens_mask=True
    )
    special = tokens.pop("special_tokens_mask")
    with torch.no_grad():
        output = AutoModel.from_pretrained(folder)(**tokens, output_hidden_states=True)
    return output, {
        "attention_mask": tokens["attention_mask"],
        "input_ids": tokens["input_ids"],
        "special_tokens_mask": special,
    }


@pytest.mark.parametrize(
    "recipe",
    [
        *("cls", "mean@1,-1/normalize", "max@0/truncate:3", "weighted_mean+last@2"),
        *("mean_content@2", "pooler/normalize", "max_content"),
    ],
)
def test_the_same_as_the_engine(folder: Path, recipe: str) -> None:
    output, tokens = run(folder)
    embedder = Embedder(folder, recipe, device="cpu", precision="float32")
    assert np.abs(embedder.encode(tiny.TEXTS) - Pooling(recipe)(output, **tokens).numpy()).max() < (
        1e-5
    )


@pytest.mark.parametrize(
    "recipe", ["idf_mean", "mean/whiten:4/normalize", "cls@1/center/truncate:2"]
)
def test_what_an_embedder_has_learned_comes_along(folder: Path, recipe: str) -> None:
    output, tokens = run(folder)
    embedder = Embedder(folder, recipe, device="cpu", precision="float32").fit(tiny.TEXTS)
    pooling = Pooling.of(embedder)
    expected = embedder.encode(tiny.TEXTS)
    scale = np.abs(expected).max()
    got = pooling(output, **tokens).detach().numpy()
    assert np.abs(expected - got).max() < 1e-4 * scale
    assert str(pooling.recipe) == recipe
    assert f"'{recipe}'" in repr(pooling)


def test_any_output_with_hidden_states(folder: Path) -> None:
    output, tokens = run(folder)
    mask = tokens["attention_mask"]
    expected = Pooling("mean")(output, mask)
    for other in (
        output.last_hidden_state,
        BaseModelOutput(last_hidden_state=output.last_hidden_state),
        MaskedLMOutput(hidden_states=output.hidden_states),
        {"last_hidden_state": output.last_hidden_state},
    ):
        assert torch.equal(Pooling("mean")(other, mask), expected)
    one_layer = Pooling("mean@1")(MaskedLMOutput(hidden_states=output.hidden_states), mask)
    assert torch.equal(one_layer, Pooling("mean")(output.hidden_states[1], mask))


# Gradients: autograd of a naive formula is the oracle


def naive(name: str, rows: Tensor, special: Tensor, weights: Tensor, query: Tensor) -> Tensor:
    """The pooling of one text (length, dim), in plain torch."""
    n = len(rows)
    places = torch.arange(1, n + 1, dtype=rows.dtype).unsqueeze(1)
    content = rows[~special]
    formulas: dict[str, Callable[[], Tensor]] = {
        "cls": lambda: rows[0],
        "max": lambda: rows.max(0).values,
        "mean": lambda: rows.mean(0),
        "mean_sqrt_len": lambda: rows.sum(0) / n**0.5,
        "weighted_mean": lambda: (places * rows).sum(0) / places.sum(),
        "last": lambda: rows[-1],
        "mean_content": lambda: content.mean(0),
        "max_content": lambda: content.max(0).values,
        "idf_mean": lambda: (weights[~special].unsqueeze(1) * content).mean(0),
        "attention": lambda: (rows @ query).softmax(0) @ rows,
    }
    if not len(content) and name in CONTENT:
        return rows.new_zeros(rows.shape[1])
    return formulas[name]()


def bound_for(name: str) -> BoundRecipe:
    generator = np.random.default_rng(0)
    return BoundRecipe(
        Recipe.parse(f"{name}/normalize"),
        BoundRecipe.of(Recipe.parse("mean/normalize"), DIM).steps,
        token_weights=generator.random(50, np.float32) if name == "idf_mean" else None,
        query=generator.normal(size=DIM).astype(np.float32) if name == "attention" else None,
    )


def special_and_ids() -> tuple[Tensor, Tensor]:
    special = torch.zeros(len(LENGTHS), LENGTH, dtype=torch.bool)
    special[:, 0] = True
    return special, torch.arange(len(LENGTHS) * LENGTH).view(len(LENGTHS), LENGTH)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str
)
@pytest.mark.parametrize("name", [name for name in POOLINGS if name != "pooler"])
def test_gradients_as_of_a_naive_formula(name: str, dtype: torch.dtype, tolerance: float) -> None:
    mask, (special, ids) = make_mask(), special_and_ids()
    bound = bound_for(name)
    pooling = Pooling(bound)
    weigh = make_hidden(dtype, seed=1)[:, 0]
    ours, plain = make_hidden(dtype).requires_grad_(), make_hidden(dtype).requires_grad_()

    got = pooling(ours, mask, input_ids=ids, special_tokens_mask=special)
    (got * weigh).sum().backward()

    no_weights = np.zeros(50)
    table = torch.tensor(no_weights if bound.token_weights is None else bound.token_weights)
    query = torch.tensor(np.zeros(DIM) if bound.query is None else bound.query).to(dtype)
    query.requires_grad_()
    vectors = torch.stack(
        [
            naive(name, plain[i, :n], special[i, :n], table.to(dtype)[ids[i, :n]], query)
            for i, n in enumerate(LENGTHS)
        ]
    )
    expected = torch.nn.functional.normalize(vectors)
    (expected * weigh).sum().backward()

    assert (got - expected).abs().max() <= tolerance
    assert ours.grad is not None
    assert plain.grad is not None
    assert (ours.grad - plain.grad).abs().max() <= tolerance
    assert torch.equal(ours.grad[mask == 0], torch.zeros(int((mask == 0).sum()), DIM, dtype=dtype))
    if name == "attention":
        assert pooling.query is not None
        assert pooling.query.grad is not None
        assert query.grad is not None
        assert (pooling.query.grad - query.grad).abs().max() <= max(tolerance, 1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in POOLINGS if name != "pooler"])
def test_gradcheck(name: str) -> None:
    mask, (special, ids) = make_mask(), special_and_ids()
    pooling = partial(
        Pooling(bound_for(name)), attention_mask=mask, input_ids=ids, special_tokens_mask=special
    )
    assert torch.autograd.gradcheck(pooling, make_hidden(torch.float64).requires_grad_())


@pytest.mark.thorough
def test_gradcheck_through_steps_and_layers() -> None:
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(3, DIM)).astype(np.float32)
    tanh = "torch.nn.modules.activation.Tanh"
    steps = (
        LayerNorm(generator.random(DIM, np.float32), generator.random(DIM, np.float32)),
        Dense(weight, generator.random(3, np.float32), tanh),
    )
    layer_weights = np.array([0.5, 0.2, 0.3], np.float32)
    recipe = Recipe(("mean",), steps=("layer_norm", "dense"), mix=True)
    bound = BoundRecipe(recipe, steps, layer_weights=layer_weights)
    pooling = Pooling(bound).double()
    assert {name for name, _ in pooling.named_parameters()} == {
        "mix",
        *(f"steps.{step}.{part}" for step in (0, 1) for part in ("weight", "bias")),
    }

    def run(*hidden: Tensor) -> Tensor:
        vectors: Tensor = pooling({"hidden_states": hidden}, make_mask())
        return vectors

    hidden = [make_hidden(torch.float64, seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(run, hidden)
    run(*hidden).sum().backward()
    assert all(parameter.grad is not None for parameter in pooling.parameters())
    mixed = sum(float(w) * h for w, h in zip(layer_weights, hidden, strict=True))
    pooled = BoundRecipe(Recipe(("mean",)), ())
    expected = Pooling(pooled)(mixed, make_mask()).detach().float().numpy()
    for step in steps:
        expected = step(expected)
    assert np.abs(run(*hidden).detach().numpy() - expected).max() < 1e-6


# Dtype, device, state


@pytest.mark.parametrize("recipe", ["mean/normalize", "max+mean@-1", "attention"])
def test_autocast_changes_nothing(recipe: str) -> None:
    pooling, hidden = Pooling(recipe, dim=DIM), make_hidden()
    with torch.no_grad():
        expected = pooling(hidden, make_mask())
        with torch.autocast("cpu", torch.bfloat16):
            got = pooling(hidden, make_mask())
            low = pooling(hidden.bfloat16(), make_mask())
    assert torch.equal(got, expected)
    assert low.dtype == torch.bfloat16
    assert (low.float() - expected).abs().max() < 0.02


def test_weights_in_another_precision_leave_the_dtype_of_the_input() -> None:
    pooling = Pooling("attention", dim=DIM).half()
    assert pooling(make_hidden(torch.float64), make_mask()).dtype == torch.float64


def test_extremes_are_normalized() -> None:
    hidden = torch.tensor([[[3e-30, 4e-30]], [[3e30, 4e30]], [[0.0, 0.0]]]).requires_grad_()
    got = Pooling("mean/normalize")(hidden, torch.ones(3, 1))
    assert torch.allclose(got, torch.tensor([[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]]))
    got.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_state_dict_goes_into_another_module() -> None:
    pooling = Pooling("attention+mean@mix", dim=DIM, num_layers=2)
    assert pooling.query is not None
    assert pooling.mix is not None
    torch.nn.init.normal_(pooling.query)
    torch.nn.init.normal_(pooling.mix)
    other = Pooling("mean+attention@mix", dim=DIM, num_layers=2)
    other.load_state_dict(pooling.state_dict())
    output = {"hidden_states": [make_hidden(seed=seed) for seed in range(3)]}
    expected = pooling(output, make_mask())
    assert torch.equal(other(output, make_mask()), expected)
    assert torch.equal(copy.deepcopy(pooling)(output, make_mask()), expected)
    assert Pooling("mean").state_dict() == {}
    assert set(Pooling(bound_for("idf_mean")).state_dict()) == {"token_weights"}


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in POOLINGS if name != "pooler"])
def test_on_a_gpu_as_on_the_cpu(name: str) -> None:
    special, ids = special_and_ids()
    pooling = Pooling(bound_for(name))
    expected = pooling(make_hidden(), make_mask(), input_ids=ids, special_tokens_mask=special)
    got = pooling.to("cuda")(
        make_hidden().to("cuda"),
        make_mask().to("cuda"),
        input_ids=ids.to("cuda"),
        special_tokens_mask=special.to("cuda"),
    )
    assert got.device.type == "cuda"
    assert (got.cpu() - expected).abs().max() < 1e-6


# Trained poolings


def test_attention_begins_as_mean_and_mix_as_an_average() -> None:
    hidden, mask = [make_hidden(seed=seed) for seed in range(3)], make_mask()
    attention = Pooling("attention", dim=DIM)(hidden[-1], mask)
    assert (attention - Pooling("mean")(hidden[-1], mask)).abs().max() <= 1e-6
    mixed = Pooling("mean@mix", num_layers=2)({"hidden_states": hidden}, mask)
    average = Pooling("mean@0,1,2")({"hidden_states": hidden}, mask)
    assert (mixed - average).abs().max() <= 1e-6


def test_mix_is_a_weighted_layer_pooling_with_softmax_weights() -> None:
    hidden, mask = [make_hidden(torch.float64, seed) for seed in range(3)], make_mask()
    pooling = Pooling("cls@mix", num_layers=2).double()
    assert pooling.mix is not None
    torch.nn.init.normal_(pooling.mix)
    layers = WeightedLayerPooling(DIM, 2, 0, torch.nn.Parameter(pooling.mix.softmax(0)))
    features = layers({"all_layer_embeddings": hidden, "attention_mask": mask})
    expected = TheirPooling(DIM, "cls")(features)["sentence_embedding"]
    assert (pooling({"hidden_states": hidden}, mask) - expected).abs().max() <= 1e-12


# What is refused


HIDDEN, MASK = make_hidden(), make_mask()
HOLE, EMPTY, ADDITIVE, BOTH = (MASK.clone() for _ in range(4))
HOLE[2, 3], EMPTY[1, 0] = 0, 0


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        (HOLE, "row 2 of the attention mask has padding between tokens"),
        (EMPTY, "row 1 of the attention mask has no tokens"),
        ((1 - MASK.float()) * -1e9, "row 0 of the attention mask has values other than 0 and 1"),
        (MASK[:, :3], r"hidden state -1 has shape \(4, 7, 8\), and the attention mask \(4, 3\)"),
        (MASK[:, None], r"the attention mask is a Tensor of shape \(4, 1, 7\); expected"),
        (MASK.tolist(), r"the attention mask is a list of shape \(\); expected"),
        (None, r"the attention mask is a NoneType of shape \(\); expected"),
        (MASK[:0], r"of shape \(0, 7\); expected a tensor \(texts, length\), of one text at least"),
    ],
)
def test_masks_that_are_refused(mask: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Pooling("mean")(HIDDEN, mask)


def test_what_a_tokenizer_returns_without_tensors_is_refused() -> None:
    lists: Any = MASK.tolist()
    for name in ("special_tokens_mask", "input_ids"):
        with pytest.raises(InputError, match=f"{name} is a list; expected a tensor"):
            Pooling("mean_content")(HIDDEN, MASK, **{"special_tokens_mask": MASK, name: lists})


def test_the_pooler_needs_padding_on_the_right() -> None:
    output = {"pooler_output": HIDDEN[:, 0]}
    assert torch.equal(Pooling("pooler")(output, MASK), HIDDEN[:, 0])
    with pytest.raises(InputError, match="leaves out in row 0; expected padding on the right"):
        Pooling("pooler")(output, make_mask("left"))


def test_padding_on_both_sides_is_packed_too() -> None:
    mask = torch.tensor([[0, 1, 1, 0, 0, 0, 0]])
    got = Pooling("mean")(HIDDEN[:1], mask)
    assert torch.allclose(got, HIDDEN[:1, 1:3].mean(1))


@pytest.mark.parametrize(
    ("recipe", "output", "problem"),
    [
        ("mean@1", HIDDEN, "'mean@1' reads more than the last hidden state, got a tensor"),
        ("pooler", HIDDEN, "'pooler' reads more than the last hidden state, got a tensor"),
        (
            "mean@1",
            BaseModelOutput(last_hidden_state=HIDDEN),
            "reads hidden_states, and the BaseModelOutput has none; call the model with "
            "output_hidden_states=True$",
        ),
        (
            "mean",
            MaskedLMOutput(logits=HIDDEN),
            "is a MaskedLMOutput without last_hidden_state and hidden_states; call the model with",
        ),
        ("mean", HIDDEN.numpy(), r"is a ndarray .* or pass a tensor \(texts, length, dim\)$"),
        ("pooler", {"pooler_output": HIDDEN[:2, 0]}, "pooler_output has 2 rows, and the .* mask 4"),
        (
            "pooler",
            BaseModelOutputWithPoolingAndCrossAttentions(last_hidden_state=HIDDEN),
            "has no pooler_output",
        ),
        (
            "mean",
            Seq2SeqModelOutput(last_hidden_state=HIDDEN, encoder_last_hidden_state=HIDDEN),
            "with states of a decoder",
        ),
        ("mean", (HIDDEN,), "is a tuple without last_hidden_state and hidden_states"),
        ("mean@7", {"hidden_states": [HIDDEN] * 3}, "layer 7 is not in this model"),
        ("mean", HIDDEN[0], r"hidden states are torch.float32 \(7, 8\); expected floats"),
        ("mean", HIDDEN.long(), r"hidden states are torch.int64 \(4, 7, 8\); expected floats"),
        ("mean_content", HIDDEN, "special_tokens_mask is missing; call the tokenizer with"),
    ],
)
def test_outputs_that_are_refused(recipe: str, output: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Pooling(recipe)(output, MASK)


def test_arguments_that_are_refused() -> None:
    with pytest.raises(InputError, match="prompt_tokens is 1, and row 1 has 1 tokens"):
        Pooling("mean")(HIDDEN, MASK, prompt_tokens=1)
    with pytest.raises(InputError, match="prompt_tokens is -1; expected"):
        Pooling("mean")(HIDDEN, MASK, prompt_tokens=-1)
    with pytest.raises(InputError, match="prompt_tokens is True; expected"):
        Pooling("mean")(HIDDEN, MASK, prompt_tokens=True)
    special, ids = special_and_ids()
    idf = Pooling(bound_for("idf_mean"))
    with pytest.raises(InputError, match="input_ids is missing"):
        idf(HIDDEN, MASK, special_tokens_mask=special)
    with pytest.raises(InputError, match=r"input_ids has shape \(4, 3\), and the attention mask"):
        idf(HIDDEN, MASK, special_tokens_mask=special, input_ids=ids[:, :3])


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        ("idf_mean", r"'idf_mean': idf_mean is learned from texts; fit an Embedder .* Pooling\.of"),
        ("mean/whiten:4", r"whiten:4 is learned from texts"),
        ("attention", r"attention has weights; expected dim, such as model\.config\.hidden_size"),
        (
            "mean@mix",
            r"mix has weights; expected num_layers, such as model\.config\.num_hidden_layers",
        ),
        ("mean@mix,1", "layer 'mix' is not a number"),
        ("median", "unknown pooling 'median'"),
    ],
)
def test_recipes_that_are_refused(recipe: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Pooling(recipe)


def test_sizes_that_are_refused() -> None:
    with pytest.raises(InputError, match="dim is 0; expected a whole number from 1"):
        Pooling("attention", dim=0)
    with pytest.raises(InputError, match="dim is '8'; expected a whole number"):
        Pooling("attention", dim="8")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="hidden states have 8 numbers, and the query of attentio"):
        Pooling("attention", dim=1)(HIDDEN, MASK)
    with pytest.raises(
        InputError, match=r"mixes 4 hidden states, and the dict has 3; expected num"
    ):
        Pooling("mean@mix", num_layers=3)({"hidden_states": [HIDDEN] * 3}, MASK)
    with pytest.raises(InputError, match="truncate:9"):
        Pooling("mean/truncate:9")(HIDDEN, MASK)
    with pytest.raises(RecipeError, match="truncate:9"):
        Pooling("mean/truncate:9", dim=8)


def test_an_embedder_that_is_not_fitted_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="center is not fitted yet"):
        Pooling.of(Embedder(folder, "mean/center", device="cpu", precision="float32"))
    with pytest.raises(InputError, match="got a str, expected an Embedder"):
        Pooling.of("minilm")
