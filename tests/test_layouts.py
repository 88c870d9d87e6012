"""Weights of the official layout and of diffusers give the same outputs in our model."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dit_course.dit import DiT, DiTConfig
from dit_course.pretrained.layouts import config_of_diffusers, config_of_official, load_diffusers, load_official

STEPS = torch.tensor([0, 1, 37, 250, 500, 731, 998, 999])
ROUNDED = torch.tensor([127, 251, 253, 254, 502, 503, 506, 507, 508, 511])  # 1000 * (step / 1000) misses the step
CLASSES = 5
LABELS = torch.tensor([0, 4, CLASSES, 2, CLASSES, 3, 1, CLASSES])  # CLASSES means "no label"
SMALL = {"width": 24, "depth": 2, "heads": 2, "patch": 2, "channels": 3, "out": 6, "hidden": 96, "image": (8, 8)}
CONFIGS = {
    "patch 2": SMALL,
    "patch 4": SMALL | {"patch": 4, "image": (16, 16), "heads": 3},
    "4 latent channels": SMALL | {"channels": 4, "out": 8, "depth": 3, "width": 32},
    "no variance": SMALL | {"out": 3},
}
ONLY_OFFICIAL = {
    "not square": SMALL | {"image": (6, 10)},
    "thin MLP": SMALL | {"width": 28, "hidden": 61},  # int(28 * (61 / 28)) is 60
}


def outcome(model, x, steps=STEPS):
    with torch.no_grad():
        return model.eval()(x, steps / 1000, LABELS)


def assert_same(ours, theirs, atol=1e-5):
    assert theirs.std() > 0.3  # nothing is compared where nothing happens
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


def images(size):
    return torch.randn(len(STEPS), size["channels"], *size["image"])


def far_apart(a, b):
    return (a - b).abs().max() > 1e-3


# An independent network in the official layout: a plain function of its state dict, as the paper describes it.


def grid_positions(rows, columns, width):
    """(1, rows * columns, width): for each place sin and cos of its column, then sin and cos of its row."""
    k = np.arange(width // 4)
    table = []
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        features = [wave(at / 10000 ** (4 * k / width)) for at in (column, row) for wave in (np.sin, np.cos)]
        table.append(np.concatenate(features))
    return torch.tensor(np.array(table), dtype=torch.float32)[None]


def official_weights(size, seed=0):
    """Random, and nowhere zero: nothing can hide behind a closed gate."""
    torch.manual_seed(seed)
    width, patch, hidden = size["width"], size["patch"], size["hidden"]
    rows, columns = (side // patch for side in size["image"])
    weights = {"pos_embed": grid_positions(rows, columns, width)}

    def add(name, *shape):
        weights[f"{name}.weight"] = torch.randn(shape) / math.prod(shape[1:]) ** 0.5
        weights[f"{name}.bias"] = 0.3 * torch.randn(shape[0])

    add("x_embedder.proj", width, size["channels"], patch, patch)
    add("t_embedder.mlp.0", width, 256)
    add("t_embedder.mlp.2", width, width)
    weights["y_embedder.embedding_table.weight"] = torch.randn(CLASSES + 1, width)
    for n in range(size["depth"]):
        add(f"blocks.{n}.attn.qkv", 3 * width, width)
        add(f"blocks.{n}.attn.proj", width, width)
        add(f"blocks.{n}.mlp.fc1", hidden, width)
        add(f"blocks.{n}.mlp.fc2", width, hidden)
        add(f"blocks.{n}.adaLN_modulation.1", 6 * width, width)
    add("final_layer.adaLN_modulation.1", 2 * width, width)
    add("final_layer.linear", patch * patch * size["out"], width)
    return weights


def official_output(weights, size, x, steps, labels):
    def linear(name, value):
        return F.linear(value, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def normed(value, shift, scale):
        mean, variance = value.mean(-1, keepdim=True), value.var(-1, keepdim=True, correction=0)
        return (value - mean) / (variance + 1e-6).sqrt() * (1 + scale[:, None]) + shift[:, None]

    def attend(name, value):
        pieces = linear(f"{name}.qkv", value).split(size["width"], dim=-1)
        mixed = []
        heads = zip(*(piece.chunk(size["heads"], dim=-1) for piece in pieces), strict=True)
        for query, key, offer in heads:
            logits = query @ key.mT / query.shape[-1] ** 0.5
            mixed.append(logits.softmax(-1) @ offer)
        return linear(f"{name}.proj", torch.cat(mixed, -1))

    patch = size["patch"]
    angles = steps[:, None] * torch.exp(-math.log(10000) * torch.arange(128) / 128)
    time = linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], -1))
    condition = linear("t_embedder.mlp.2", F.silu(time)) + weights["y_embedder.embedding_table.weight"][labels]
    condition = F.silu(condition)

    kernel, bias = weights["x_embedder.proj.weight"], weights["x_embedder.proj.bias"]
    value = F.conv2d(x, kernel, bias, stride=patch).flatten(2).mT + weights["pos_embed"]
    for n in range(size["depth"]):
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = linear(f"blocks.{n}.adaLN_modulation.1", condition).chunk(
            6, -1
        )
        value = value + gate_a[:, None] * attend(f"blocks.{n}.attn", normed(value, shift_a, scale_a))
        inner = F.gelu(linear(f"blocks.{n}.mlp.fc1", normed(value, shift_m, scale_m)), approximate="tanh")
        value = value + gate_m[:, None] * linear(f"blocks.{n}.mlp.fc2", inner)
    shift, scale = linear("final_layer.adaLN_modulation.1", condition).chunk(2, -1)
    value = linear("final_layer.linear", normed(value, shift, scale))

    output = torch.empty(len(x), size["out"], *size["image"])
    columns = size["image"][1] // patch
    for place in range(value.shape[1]):  # write patch after patch: the channel is the last axis
        top, left = patch * (place // columns), patch * (place % columns)
        picture = value[:, place].reshape(len(x), patch, patch, size["out"])
        output[:, :, top : top + patch, left : left + patch] = picture.movedim(-1, 1)
    return output


def official_model(weights, size):
    image_size = None if size["image"][0] == size["image"][1] else size["image"]
    return DiT(config_of_official(weights, heads=size["heads"], image_size=image_size))


@pytest.mark.parametrize("size", (CONFIGS | ONLY_OFFICIAL).values(), ids=(CONFIGS | ONLY_OFFICIAL).keys())
def test_official_weights_give_the_same_outputs(size):
    weights = official_weights(size)
    x = images(size)
    model = official_model(weights, size)
    assert load_official(model, weights) is model
    expected = official_output(weights, size, x, STEPS, LABELS)
    assert_same(outcome(model, x), expected)


def test_ten_of_the_thousand_steps_are_a_last_digit_off():
    steps = torch.arange(1000)
    error = (1000 * (steps / 1000) - steps).abs()
    assert torch.equal(steps[error > 0], ROUNDED)
    assert error.max() < 3.1e-5
    weights, x = official_weights(SMALL), images(SMALL)
    model = load_official(official_model(weights, SMALL), weights)
    for steps in (ROUNDED[:8], ROUNDED[2:]):
        assert_same(outcome(model, x, steps), official_output(weights, SMALL, x, steps, LABELS), atol=1e-4)


# diffusers itself


def diffusers_model(size, seed=0, **further):
    from diffusers import DiTTransformer2DModel  # takes long: not before it is needed

    torch.manual_seed(seed)
    theirs = DiTTransformer2DModel(
        num_attention_heads=size["heads"],
        attention_head_dim=size["width"] // size["heads"],
        in_channels=size["channels"],
        out_channels=size["out"],
        num_layers=size["depth"],
        sample_size=size["image"][0],
        patch_size=size["patch"],
        num_embeds_ada_norm=CLASSES,
        **further,
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            scale = 0.3 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(scale * torch.randn_like(parameter))
        for block in theirs.transformer_blocks[1:]:
            block.norm1.emb.load_state_dict(theirs.transformer_blocks[0].norm1.emb.state_dict())
    return theirs


def diffusers_output(theirs, x):
    with torch.no_grad():
        return theirs(x, timestep=STEPS, class_labels=LABELS).sample


def ours_for(theirs, size):
    return DiT(config_of_diffusers(theirs.state_dict(), heads=size["heads"], image_size=size["image"][0]))


@pytest.mark.parametrize("size", CONFIGS.values(), ids=CONFIGS.keys())
def test_diffusers_weights_give_the_same_outputs(size):
    theirs, x = diffusers_model(size), images(size)
    model = ours_for(theirs, size)
    assert load_diffusers(model, theirs.state_dict()) is model
    expected = diffusers_output(theirs, x)
    assert_same(outcome(model, x), expected)


def test_diffusers_eps_matters_where_activations_are_small():
    theirs, x = diffusers_model(SMALL), images(SMALL)
    with torch.no_grad():  # tokens of the first place nearly vanish, and the first block's attention stays out
        theirs.pos_embed.proj.weight.mul_(0.02)
        theirs.pos_embed.proj.bias.copy_(-theirs.pos_embed.pos_embed[0, 0])
        modulation = theirs.transformer_blocks[0].norm1.linear
        for parameter in (modulation.weight, modulation.bias):
            parameter[2 * SMALL["width"] : 3 * SMALL["width"]] *= 1e-3
    model, expected = ours_for(theirs, SMALL), diffusers_output(theirs, x)
    right = outcome(load_diffusers(model, theirs.state_dict()), x)
    assert_same(right, expected)
    assert far_apart(outcome(load_diffusers(model, theirs.state_dict(), norm_eps=1e-6), x), expected)


def test_diffusers_eps_of_another_config():
    theirs, x = diffusers_model(SMALL, norm_eps=0.1), images(SMALL)
    model = load_diffusers(ours_for(theirs, SMALL), theirs.state_dict(), norm_eps=0.1)
    assert_same(outcome(model, x), diffusers_output(theirs, x))


# What is loaded


def test_the_last_linear_layer_must_be_reordered():
    weights, x = official_weights(SMALL), images(SMALL)
    model = load_official(official_model(weights, SMALL), weights)
    right = outcome(model, x)
    with torch.no_grad():  # as it lies in the file
        model.final.linear.weight.copy_(weights["final_layer.linear.weight"])
        model.final.linear.bias.copy_(weights["final_layer.linear.bias"])
    assert far_apart(outcome(model, x), right)


def swap_query_and_key(model):
    query, key, value = model.blocks[0].attention.qkv.weight.data.chunk(3)
    model.blocks[0].attention.qkv.weight.data = torch.cat([key, query, value])


def swap_shift_and_scale(model):
    shift, scale = model.final.modulation.weight.data.chunk(2)
    model.final.modulation.weight.data = torch.cat([scale, shift])


def sines_first(model):
    model.time_embed.input.weight.data = model.time_embed.input.weight.data.roll(128, dims=1)


def official_frequencies(model):
    model.time_embed.frequencies.copy_(DiT(model.config).time_embed.frequencies)


@pytest.mark.parametrize("slip", [swap_query_and_key, swap_shift_and_scale, sines_first, official_frequencies])
def test_the_comparison_would_notice(slip):
    theirs, x = diffusers_model(SMALL), images(SMALL)
    model = load_diffusers(ours_for(theirs, SMALL), theirs.state_dict())
    slip(model)
    assert far_apart(outcome(model, x), diffusers_output(theirs, x))


def test_saved_and_loaded_again():
    theirs, x = diffusers_model(SMALL), images(SMALL)
    model = load_diffusers(ours_for(theirs, SMALL), theirs.state_dict())
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = DiT(model.config)
    fresh.load_state_dict(torch.load(file))
    for block in fresh.blocks:
        block.norm_2.eps = 1e-5  # as the docstring says: no state dict has it
    assert torch.equal(outcome(fresh, x), outcome(model, x))


def test_the_second_load_leaves_nothing_of_the_first():
    theirs, weights, x = diffusers_model(SMALL), official_weights(SMALL), images(SMALL)
    once = load_official(official_model(weights, SMALL), weights)
    twice = load_official(load_diffusers(ours_for(theirs, SMALL), theirs.state_dict()), weights)
    assert torch.equal(outcome(once, x), outcome(twice, x))
    assert {block.norm_2.eps for block in twice.blocks} == {1e-6}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precision_are_welcome(dtype):
    weights = {name: weight.to(dtype) for name, weight in official_weights(SMALL).items()}
    model = load_official(official_model(weights, SMALL), weights)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.blocks[1].mlp.up.bias, weights["blocks.1.mlp.fc1.bias"].float())


def test_positions_that_diffusers_saved_are_checked_too():
    weights = dict(diffusers_model(SMALL).state_dict())
    model = DiT(config_of_diffusers(weights, heads=2, image_size=8))
    weights["pos_embed.pos_embed"] = grid_positions(4, 4, SMALL["width"])
    load_diffusers(model, weights)
    weights["pos_embed.pos_embed"] = weights["pos_embed.pos_embed"].flip(1)
    with pytest.raises(ValueError, match=r"pos_embed\.pos_embed is up to .* away from our sine-cosine positions"):
        load_diffusers(model, weights)


# Configurations


@pytest.mark.parametrize("size", (CONFIGS | ONLY_OFFICIAL).values(), ids=(CONFIGS | ONLY_OFFICIAL).keys())
def test_config_of_official(size):
    config = official_model(official_weights(size), size).config
    assert (config.width, config.depth, config.heads) == (size["width"], size["depth"], size["heads"])
    assert (config.patch_size, config.image_shape) == (size["patch"], size["image"])
    assert (config.channels, config.out_channels, config.num_classes) == (size["channels"], size["out"], CLASSES)
    assert (config.registers, config.qk_norm, config.norm) == (0, False, "layer")
    assert int(config.width * config.mlp_ratio) == size["hidden"]


def test_config_needs_an_image_size_where_positions_make_no_square():
    weights = official_weights(ONLY_OFFICIAL["not square"])
    with pytest.raises(ValueError, match="pos_embed holds 15 positions, which make no square: give the image_size"):
        config_of_official(weights, heads=2)


def test_config_with_heads_that_do_not_fit():
    with pytest.raises(ValueError, match="multiple of the number of heads"):
        config_of_official(official_weights(SMALL), heads=5)


def test_a_config_that_does_not_say_what_is_the_default_fits_too():
    weights = official_weights(CONFIGS["no variance"])
    config = DiTConfig(8, 2, 3, 24, 2, 2, registers=0, num_classes=CLASSES, qk_norm=False, norm="layer")
    load_official(DiT(config), weights)


# Errors: one line that says what was found, what was expected, what to do; and the model is as it was


def assert_refused(load, model, weights, *parts):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the parts are checked below
        load(model, weights)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(block.norm_2.eps == 1e-6 for block in model.blocks)


MISFITS = [
    ({"width": 48}, "width 24 (model: 48)"),
    ({"depth": 3}, "depth 2 (model: 3)"),
    ({"patch_size": 4}, "patch_size 2 (model: 4)"),
    ({"channels": 4}, "channels 3 (model: 4)"),
    ({"out_channels": None}, "out_channels 6 (model: 3)"),
    ({"mlp_ratio": 2.0}, "mlp_ratio 4.0 (model: 2.0)"),
    ({"num_classes": 10}, "num_classes 5 (model: 10)"),
    ({"num_classes": None}, "num_classes 5 (model: None)"),
    ({"registers": 4}, "registers 0 (model: 4)"),
    ({"qk_norm": True}, "qk_norm False (model: True)"),
    ({"norm": "rms"}, "norm 'layer' (model: 'rms')"),
]


@pytest.mark.parametrize(("change", "message"), MISFITS, ids=[str(change) for change, _ in MISFITS])
@pytest.mark.parametrize("layout", ["official", "diffusers"])
def test_a_model_that_does_not_fit(layout, change, message):
    weights = official_weights(SMALL)
    model = DiT(replace(config_of_official(weights, heads=2), **change))
    if layout == "official":
        assert_refused(load_official, model, weights, message, "build the model with config_of_official")
    else:
        weights = diffusers_model(SMALL).state_dict()
        assert_refused(load_diffusers, model, weights, message, "build the model with config_of_diffusers")


def test_an_image_size_that_does_not_fit():
    weights = official_weights(SMALL)
    model = DiT(config_of_official(weights, heads=2, image_size=16))
    found, expected = "pos_embed has shape (1, 16, 24)", "image_size=16 expects (1, 64, 24)"
    assert_refused(load_official, model, weights, found, expected, "build the model with the image_size")


def without(name):
    return lambda weights: weights.pop(name)


def with_value(name, value):
    return lambda weights: weights.update({name: value})


def changed(name, change):
    return lambda weights: weights.update({name: change(weights[name])})


FAULTS = {
    "missing": (without("blocks.1.attn.qkv.bias"), "blocks.1.attn.qkv.bias missing", "hand over all weights"),
    "no positions": (without("pos_embed"), "pos_embed missing"),
    "no block 0": (
        lambda weights: [weights.pop(name) for name in list(weights) if name.startswith("blocks.0.")],
        "blocks.0.adaLN_modulation.1.bias, ",
        " and 7 more missing",
    ),
    "unexpected": (with_value("ema_step", torch.ones(())), "ema_step not expected", "no others"),
    "qk norm": (with_value("blocks.0.attn.q_norm.weight", torch.ones(12)), "blocks.0.attn.q_norm.weight not"),
    "turned": (changed("blocks.1.mlp.fc2.weight", torch.t), "fc2.weight has shape (96, 24), expected (24, 96)"),
    "flat kernel": (changed("x_embedder.proj.weight", lambda w: w.flatten(1)), "no float tensor of 4 axes"),
    "oblong kernel": (changed("x_embedder.proj.weight", lambda w: w[..., :1]), "(24, 3, 2, 1), expected (24, 3, 2, 2)"),
    "whole numbers": (changed("blocks.0.attn.proj.weight", torch.Tensor.int), "proj.weight is no float tensor"),
    "numpy": (changed("final_layer.linear.bias", torch.Tensor.numpy), "linear.bias is no float tensor of 1 axes"),
    "time features": (changed("t_embedder.mlp.0.weight", lambda w: w[:, 1:]), "(24, 255), expected (24, 256)"),
    "output": (changed("final_layer.linear.weight", lambda w: w[1:]), "out_channels 5 (model: 6)"),
    "output bias": (changed("final_layer.linear.bias", lambda w: w[1:]), "shape (23,), expected (24,)"),
    "positions": (changed("pos_embed", lambda w: w + 0.01), "0.01 away from", "take weights with these positions"),
    "positions nan": (changed("pos_embed", lambda w: w * math.nan), "nan away from"),
    "row and column": (changed("pos_embed", lambda w: w.roll(12, -1)), "away from our sine-cosine positions"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_faulty_official_weights(fault):
    weights = official_weights(SMALL)
    model = DiT(config_of_official(weights, heads=2))
    break_it, *parts = fault
    break_it(weights)
    assert_refused(load_official, model, weights, *parts)


EMBEDDER = "transformer_blocks.1.norm1.emb"
DIFFUSERS_FAULTS = {
    "missing": (without("transformer_blocks.0.attn1.to_k.bias"), "transformer_blocks.0.attn1.to_k.bias missing"),
    "affine norm": (with_value("transformer_blocks.0.norm3.weight", torch.ones(24)), "norm3.weight not expected"),
    "narrow key": (changed("transformer_blocks.1.attn1.to_k.weight", lambda w: w[:4]), "(4, 24), expected (24, 24)"),
    "own classes": (
        changed(f"{EMBEDDER}.class_embedder.embedding_table.weight", lambda w: w + 1e-3),
        f"{EMBEDDER}.class_embedder.embedding_table.weight differs from transformer_blocks.0.",
        "take weights converted from the official layout",
    ),
    "own time": (changed(f"{EMBEDDER}.timestep_embedder.linear_2.bias", lambda w: -w), "linear_2.bias differs"),
}


@pytest.mark.parametrize("fault", DIFFUSERS_FAULTS.values(), ids=DIFFUSERS_FAULTS.keys())
def test_faulty_diffusers_weights(fault):
    weights = dict(diffusers_model(SMALL).state_dict())
    model = DiT(config_of_diffusers(weights, heads=2, image_size=8))
    break_it, *parts = fault
    break_it(weights)
    assert_refused(load_diffusers, model, weights, *parts)


def test_the_other_layout_and_whole_checkpoints_are_recognised():
    official, diffusers = official_weights(SMALL), diffusers_model(SMALL).state_dict()
    model = DiT(config_of_official(official, heads=2))
    assert_refused(load_official, model, diffusers, "these are diffusers names: use load_diffusers")
    assert_refused(load_diffusers, model, official, "these are official names: use load_official")
    checkpoint = {"model": official, "ema": official, "opt": {}, "args": None}
    assert_refused(load_official, model, checkpoint, "a whole checkpoint", "the weights in it, ema or model")
    assert_refused(load_official, model, {}, "blocks.0.attn.proj.bias and 19 more missing")
    for config_of in (config_of_official, config_of_diffusers):
        with pytest.raises(ValueError, match="missing"):
            config_of({}, heads=2, image_size=8)
