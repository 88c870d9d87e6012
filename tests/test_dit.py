"""Lesson 04: the whole model, its registers and its configuration."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dit_course.dit import SIZES, DiT, DiTConfig, named_config


def inputs(model, n=2, seed=3):
    """A batch for a float64 model: pictures, times and labels."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n, model.config.channels, *model.config.image_shape)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    t = torch.rand(n, generator=generator, dtype=torch.float64)
    if model.config.num_classes is None:
        return x, t
    return x, t, torch.randint(model.config.num_classes, (n,), generator=generator)


def slow_dit(config, state, x, t, y=None):
    """The whole network written a second time, from the paper and the weights alone."""
    linear = lambda name, v: F.linear(v, state[f"{name}.weight"], state[f"{name}.bias"])  # noqa: E731
    p, width = config.patch_size, config.width
    height, columns = config.image_shape[0], config.image_shape[1] // p

    def norm(v):
        return F.layer_norm(v, (width,), eps=1e-6) if config.norm == "layer" else F.rms_norm(v, (width,), eps=1e-6)

    kernel = state["patch_embed.projection.weight"].reshape(width, config.channels, p, p)
    patches = F.conv2d(x, kernel, state["patch_embed.projection.bias"], stride=p).flatten(2).transpose(1, 2)
    positions = torch.zeros_like(patches[0])
    for n in range(len(positions)):
        for k in range(width // 4):
            for start, place in ((0, n % columns), (width // 2, n // columns)):
                angle = place / 10000 ** (4 * k / width)
                positions[n, start + k] = math.sin(angle)
                positions[n, start + width // 4 + k] = math.cos(angle)
    tokens = torch.cat([patches + positions, state["registers"].expand(len(x), -1, -1)], dim=1)

    angles = 1000 * t[:, None] * 10000 ** (-torch.arange(128, dtype=t.dtype) / 128)
    condition = F.silu(linear("time_embed.input", torch.cat([angles.cos(), angles.sin()], dim=1)))
    condition = linear("time_embed.output", condition)
    if y is not None:
        condition = condition + state["label_embed.table.weight"][y]
    condition = F.silu(condition)

    for i in range(config.depth):
        name = f"blocks.{i}"
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = linear(f"{name}.modulation", condition).split(width, 1)
        h = norm(tokens) * (1 + scale_1[:, None]) + shift_1[:, None]
        q, k, v = (
            part.unflatten(2, (config.heads, -1)).transpose(1, 2)
            for part in linear(f"{name}.attention.qkv", h).split(width, dim=2)
        )
        if config.qk_norm:
            q = F.rms_norm(q, q.shape[-1:], state[f"{name}.attention.norm_q.weight"], eps=1e-6)
            k = F.rms_norm(k, k.shape[-1:], state[f"{name}.attention.norm_k.weight"], eps=1e-6)
        weights = (torch.einsum("bhnd,bhmd->bhnm", q, k) / math.sqrt(width // config.heads)).softmax(dim=-1)
        h = torch.einsum("bhnm,bhmd->bnhd", weights, v).flatten(2)
        tokens = tokens + gate_1[:, None] * linear(f"{name}.attention.output", h)
        h = norm(tokens) * (1 + scale_2[:, None]) + shift_2[:, None]
        h = linear(f"{name}.mlp.down", F.gelu(linear(f"{name}.mlp.up", h), approximate="tanh"))
        tokens = tokens + gate_2[:, None] * h

    shift, scale = linear("final.modulation", condition).split(width, dim=1)
    out = linear("final.linear", norm(tokens[:, : len(positions)]) * (1 + scale[:, None]) + shift[:, None])
    image = torch.zeros(len(x), config.out_channels or config.channels, *config.image_shape, dtype=x.dtype)
    for n in range(len(positions)):
        top, left = n // columns * p, n % columns * p
        image[:, :, top : top + p, left : left + p] = out[:, n].reshape(len(x), -1, p, p)
    assert image.shape[2] == height
    return image


VARIANTS = [
    {},
    {"norm": "layer", "qk_norm": False, "registers": 0, "out_channels": 6},
    {"num_classes": None, "depth": 1},
    {"image_size": 6, "patch_size": 2, "channels": 1, "registers": 1},
    {"image_size": (12, 4), "mlp_ratio": 1.5, "heads": 1},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_model_is_the_slow_one(small_dit, changes):
    model = small_dit(**changes)
    batch = inputs(model)
    with torch.no_grad():
        expected = slow_dit(model.config, model.state_dict(), *batch)
        assert expected.abs().mean() > 0.1
        torch.testing.assert_close(model(*batch), expected, atol=2e-4, rtol=2e-4)  # sinusoids are float32


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_every_parameter_shapes_the_output(small_dit, changes):
    model = small_dit(**changes).train()
    batch = inputs(model, n=8)
    model(*batch).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} is not used"
        assert parameter.numel() == 0 or parameter.grad.abs().max() > 0, f"{name} has no influence"


def test_model_listens_to_time_and_label(small_dit):
    model = small_dit()
    x, t, y = inputs(model)
    out = model(x, t, y)
    assert (model(x, (t + 0.01) % 1, y) - out).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert (model(x, t, (y + 1) % 5) - out).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_pictures_of_a_batch_do_not_see_each_other(small_dit):
    model = small_dit()
    x, t, y = inputs(model, n=3)
    torch.testing.assert_close(model(x[1:2], t[1:2], y[1:2]), model(x, t, y)[1:2])


# registers


def test_registers_change_the_output(small_dit):
    model = small_dit()
    batch = inputs(model)
    before = model(*batch)
    with torch.no_grad():
        model.registers.add_(1)
    after = model(*batch)
    assert after.shape == before.shape
    for place in (after - before).abs().unflatten(2, (2, 4)).unflatten(4, (3, 4)).amax(dim=(0, 1, 3, 5)).flatten():
        assert place > 1e-4, "registers reach every patch, through attention"


def test_registers_are_dropped_from_the_output_and_patches_are_kept(small_dit):
    """With closed gates tokens cannot talk: each patch must depend on its own place alone, and on no register."""
    model = small_dit(registers=3)
    with torch.no_grad():
        for block in model.blocks:
            block.modulation.weight.zero_()
            block.modulation.bias.zero_()
    x, t, y = inputs(model)
    before = model(x, t, y)
    for row in range(2):
        for column in range(3):
            place = (..., slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
            other = x.clone()
            other[place] += 1
            changed = (model(other, t, y) - before).abs() > 1e-6
            assert changed[place].all()
            changed[place] = False
            assert not changed.any()
    with torch.no_grad():
        model.registers.normal_()
    assert torch.equal(model(x, t, y), before)


def test_registers_stand_behind_the_patches_and_are_the_same_for_all_pictures(small_dit):
    model = small_dit()
    x, _, _ = inputs(model)
    tokens = model.embed(x)
    assert tokens.shape == (2, 6 + 2, 24)
    assert torch.equal(tokens[:, :6], model.patch_embed(x) + model.positions)
    assert torch.equal(tokens[0, 6:], model.registers)
    assert torch.equal(tokens[1, 6:], model.registers)


def test_order_of_the_registers_does_not_matter(small_dit):
    model = small_dit(registers=3)
    batch = inputs(model)
    before = model(*batch)
    with torch.no_grad():
        model.registers.copy_(model.registers[[2, 0, 1]].clone())
    torch.testing.assert_close(model(*batch), before)


def test_a_model_without_registers_has_none(small_dit):
    model = small_dit(registers=0)
    x, t, y = inputs(model)
    assert model.embed(x).shape == (2, 6, 24)
    assert model(x, t, y).shape == x.shape
    assert model.registers.numel() == 0


def test_registers_start_different_from_each_other():
    model = DiT(DiTConfig(registers=4))
    assert torch.cdist(model.registers, model.registers).fill_diagonal_(1).min() > 0.1


# positions


def shuffle_patches(images, order, p=4):
    """The same picture with its patches (2 x 3 of them) in another order."""
    patches = [images[..., i : i + p, j : j + p] for i in range(0, 8, p) for j in range(0, 12, p)]
    patches = [patches[n] for n in order]
    return torch.cat([torch.cat(patches[:3], dim=3), torch.cat(patches[3:], dim=3)], dim=2)


@pytest.mark.parametrize("registers", [0, 2])
def test_without_positions_patches_are_a_set(small_dit, registers):
    model = small_dit(registers=registers)
    model.positions.zero_()
    x, t, y = inputs(model)
    order = [4, 2, 0, 5, 1, 3]
    torch.testing.assert_close(model(shuffle_patches(x, order), t, y), shuffle_patches(model(x, t, y), order))


def test_with_positions_patches_are_no_set(small_dit):
    model = small_dit(registers=0)
    x, t, y = inputs(model)
    order = [4, 2, 0, 5, 1, 3]
    difference = model(shuffle_patches(x, order), t, y) - shuffle_patches(model(x, t, y), order)
    assert difference.abs().max() > 0.01


def test_positions_are_fixed_and_not_in_the_checkpoint(small_config):
    model = DiT(small_config())
    assert "positions" not in dict(model.named_parameters())
    assert "positions" not in model.state_dict()


# initialisation


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_zeros_of_adaln_zero_are_still_there_in_the_finished_model(small_config, changes):
    model = DiT(small_config(**changes))
    zeroed = [block.modulation for block in model.blocks] + [model.final.modulation, model.final.linear]
    for linear in zeroed:
        assert not linear.weight.any()
        assert not linear.bias.any()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and parameter.numel() and "modulation" not in name and name != "final.linear.weight":
            assert parameter.std() > 0, f"{name} is constant"


def test_initialisation_is_that_of_the_paper():
    """Xavier for the linear maps (the patch embedding as a flat one), normal with 0.02 for time and label."""
    model = DiT(DiTConfig(width=192, depth=1))
    for linear in (model.patch_embed.projection, model.blocks[0].attention.qkv, model.blocks[0].mlp.up):
        bound = math.sqrt(6 / (linear.in_features + linear.out_features))
        assert 0.98 * bound < linear.weight.abs().max() <= bound
        assert not linear.bias.any()
    for weight in (model.time_embed.input.weight, model.time_embed.output.weight, model.label_embed.table.weight):
        assert 0.018 < weight.std() < 0.022


def test_the_same_seed_makes_the_same_model(small_config):
    models = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        models.append(DiT(small_config()).state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert not torch.equal(models[0]["registers"], models[2]["registers"])


def test_models_can_be_copied_saved_and_loaded(small_dit, tmp_path):
    model = small_dit()
    batch = inputs(model)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = small_dit(seed=9)
    assert not torch.equal(other(*batch), model(*batch))
    other.load_state_dict(torch.load(tmp_path / "model.pt"))
    assert torch.equal(other(*batch), model(*batch))
    assert torch.equal(copy.deepcopy(model)(*batch), model(*batch))


# sizes


def counted(config):
    """How many parameters a configuration makes, by arithmetic."""
    w, head = config.width, config.width // config.heads
    patch = config.patch_size**2
    hidden = int(w * config.mlp_ratio)
    block = 4 * w * w + 4 * w  # qkv and output
    block += 2 * w * hidden + hidden + w  # MLP
    block += 6 * w * w + 6 * w  # modulation
    block += 2 * head if config.qk_norm else 0
    total = config.depth * block + config.registers * w
    total += config.channels * patch * w + w  # patches
    total += 256 * w + w + w * w + w  # time
    total += 0 if config.num_classes is None else (config.num_classes + 1) * w
    outputs = (config.out_channels or config.channels) * patch
    return total + 2 * w * w + 2 * w + w * outputs + outputs


def parameters(config):
    with torch.device("meta"):
        model = DiT(config)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "millions"), [("DiT-S/2", 33.0), ("DiT-B/2", 130.5), ("DiT-L/2", 458.1), ("DiT-XL/2", 675.1)]
)
def test_named_sizes_are_those_of_the_paper(name, millions):
    """Table 4 of arXiv 2212.09748 and the official code: latents of 32x32x4, sigma learned, ImageNet's classes."""
    config = named_config(name, image_size=32, channels=4, out_channels=8, num_classes=1000)
    assert parameters(config) == counted(config)
    assert parameters(config) == pytest.approx(millions * 1e6, rel=0.01)


def test_just_a_dit_has_its_32_5_million():
    model = DiT.from_name("DiT-S/2", image_size=32, channels=3, num_classes=10)
    config = model.config
    assert (config.width, config.depth, config.heads, config.patch_size, config.registers) == (384, 12, 6, 2, 4)
    assert len(model.positions) == 256
    total = sum(p.numel() for p in model.parameters())
    assert total == counted(config) == pytest.approx(32.5e6, rel=0.01)
    adaln = sum(p.numel() for name, p in model.named_parameters() if "modulation" in name)
    assert adaln / total == pytest.approx(1 / 3, abs=0.02)  # "adaLN is a third of them"


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_small_models_have_the_parameters_of_the_arithmetic(small_config, changes):
    assert parameters(small_config(**changes)) == counted(small_config(**changes))


def test_every_size_can_be_named_with_and_without_its_prefix():
    for size in SIZES:
        assert named_config(f"DiT-{size}/4") == named_config(f"{size}/4")
        assert named_config(f"{size}/8").patch_size == 8


@pytest.mark.parametrize("name", ["DiT-M/2", "DiT-S", "DiT-S/", "DiT-S/x", "S/-2", "", "dit-s/2", "S/2.5"])
def test_unknown_sizes_are_refused(name, one_line_error):
    with one_line_error(ValueError, name, "DiT-S", "DiT-XL"):
        named_config(name)


def test_named_sizes_check_their_patches(one_line_error):
    with one_line_error(ValueError, "patch", "28x28"):
        named_config("DiT-S/8", image_size=28)
    with one_line_error(ValueError, "patch_size", "0"):
        named_config("DiT-S/0")


# the configuration

NAN, INF = float("nan"), float("inf")
INVALID = {
    "image_size": [0, -32, 30, (32, 30), (0, 32), (32,), (32, 32, 3), "32", 32.5, None, (32, None), True],
    "patch_size": [0, -4, 5, 2.0, "4", None, True],
    "channels": [0, -3, 3.0, "3", None],
    "width": [0, -192, 190, 194, 192.0, "192", None],
    "depth": [0, -1, 6.0, "6", None],
    "heads": [0, -6, 5, 7, 6.0, "6", None],
    "mlp_ratio": [0, -4.0, NAN, INF, "4", None, 1e-6],
    "registers": [-1, 4.0, "4", None],
    "num_classes": [0, -10, 10.0, "10", NAN],
    "label_dropout": [-0.1, 1.1, NAN, INF, "0.1", None],
    "qk_norm": ["yes", None, 2],
    "norm": ["batch", "", None, 1],
    "out_channels": [0, -3, 6.0, "6"],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in INVALID.items() for v in values], ids=repr)
def test_invalid_fields_are_named(field, value, one_line_error):
    with one_line_error(ValueError, "DiTConfig", field):
        DiTConfig(**{field: value})


def test_every_field_is_checked():
    assert set(INVALID) == {field.name for field in dataclasses.fields(DiTConfig)}


def test_valid_edges_of_the_configuration():
    config = DiTConfig(
        image_size=4, patch_size=4, channels=1, width=4, depth=1, heads=1, registers=0, num_classes=1, label_dropout=1
    )
    assert config.grid == (1, 1)
    assert DiT(config)(torch.randn(1, 1, 4, 4), torch.rand(1), torch.zeros(1, dtype=torch.int64)).shape == (1, 1, 4, 4)


def test_configurations_survive_json():
    config = DiTConfig(image_size=(24, 32), num_classes=None)
    again = DiTConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert again == config
    assert hash(again) == hash(config)
    assert config.image_shape == (24, 32)
    assert config.grid == (6, 8)
    assert DiTConfig(image_size=24).image_shape == (24, 24)


@pytest.mark.parametrize("number", [np.int64, np.uint8, torch.tensor])
def test_whole_numbers_of_any_kind_are_taken_and_kept_as_int(number):
    names = ("patch_size", "channels", "width", "depth", "heads", "registers", "num_classes", "out_channels")
    values = {name: number(4) for name in names}
    config = DiTConfig(
        image_size=(number(8), number(12)), mlp_ratio=np.float32(2), label_dropout=np.float64(0.5), **values
    )
    assert {type(getattr(config, name)) for name in names} == {int}
    assert config == DiTConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert DiTConfig(image_size=number(8)).image_shape == (8, 8)
    with pytest.raises(ValueError, match="depth"):
        DiTConfig(depth=number(0))


def test_configurations_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DiTConfig().width = 64


# bad input


@pytest.mark.parametrize("shape", [(2, 3, 12, 8), (2, 1, 8, 12), (3, 8, 12), (2, 3, 8, 13), (2, 288)])
def test_pictures_of_another_shape_are_refused(small_dit, shape, one_line_error):
    x = torch.zeros(shape, dtype=torch.float64)
    with one_line_error(ValueError, str(tuple(shape)), "3, 8, 12"):
        small_dit()(x, torch.zeros(len(x)), torch.zeros(len(x), dtype=torch.int64))


def test_pictures_of_another_dtype_are_refused(small_config, one_line_error):
    model = DiT(small_config())
    t, y = torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    with one_line_error(TypeError, "uint8", "127.5"):
        model(torch.zeros(2, 3, 8, 12, dtype=torch.uint8), t, y)
    with one_line_error(TypeError, "float64", "float32"):
        model(torch.zeros(2, 3, 8, 12, dtype=torch.float64), t, y)


def test_autocast_takes_either_dtype(small_config, perturbed):
    model = perturbed(DiT(small_config())).eval()
    x, t, y = torch.randn(2, 3, 8, 12), torch.rand(2), torch.zeros(2, dtype=torch.int64)
    exact = model(x, t, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(x, t, y).float(), exact, atol=0.3, rtol=0.1)
        torch.testing.assert_close(model(x.bfloat16(), t, y).float(), exact, atol=0.3, rtol=0.1)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1)])
def test_times_and_labels_of_another_shape_are_refused(small_dit, shape, one_line_error):
    model = small_dit()
    x, t, y = inputs(model)
    with one_line_error(ValueError, "t has shape", str(tuple(shape))):
        model(x, torch.zeros(shape), y)
    with one_line_error(ValueError, "y has shape", str(tuple(shape))):
        model(x, t, torch.zeros(shape, dtype=torch.int64))


def test_labels_where_none_belong_and_none_where_they_do(small_dit, one_line_error):
    model = small_dit()
    x, t, y = inputs(model)
    with one_line_error(ValueError, "needs labels"):
        model(x, t)
    with one_line_error(ValueError, "no classes"):
        small_dit(num_classes=None)(x, t, y)


def test_labels_out_of_range_or_of_another_dtype_are_refused(small_dit, one_line_error):
    model = small_dit()
    x, t, _ = inputs(model)
    with one_line_error(ValueError, "6", "0 to 4"):
        model(x, t, torch.tensor([0, 6]))
    with one_line_error(TypeError, "int64", "float32"):
        model(x, t, torch.zeros(2))


def test_an_empty_batch_is_fine(small_dit):
    model = small_dit()
    assert model(*[part[:0] for part in inputs(model)]).shape == (0, 3, 8, 12)
