"""Lesson 04: parameters and multiply-adds are counted as they are in the model, and registers come and go."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dit_course.dit import SIZES, DiT, append_registers, drop_registers, named_config
from dit_course.scaling import count_multiply_adds, count_parameters

CHANGES = [
    {},
    {"registers": 0},
    {"qk_norm": False, "norm": "layer", "out_channels": 6},
    {"num_classes": None, "mlp_ratio": 1.5},
    {"image_size": 8, "patch_size": 2, "channels": 1, "heads": 1, "depth": 3, "registers": 7},
]
# which part of the model a parameter belongs to, by the beginning of its name or what is in it
PART_OF = {
    ".attention.": "attention",
    ".mlp.": "MLP",
    ".blocks.": "adaLN",
    ".final.modulation.": "last modulation",
    ".patch_embed.": "patches in and out",
    ".final.linear.": "patches in and out",
    ".time_embed.": "time and class",
    ".label_embed.": "time and class",
    ".registers.": "registers",
}


def part_of(name):
    return next(part for place, part in PART_OF.items() if place in f".{name}.")


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_parameters_are_counted_as_they_are_in_each_part(small_config, changes):
    config = small_config(**changes)
    found = dict.fromkeys(count_parameters(config), 0)
    for name, parameter in DiT(config).named_parameters():
        found[part_of(name)] += parameter.numel()
    assert count_parameters(config) == found


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_multiply_adds_are_half_of_what_torch_counts_as_flops(small_config, changes):
    config = small_config(**changes)
    model = DiT(config).eval()
    x, t = torch.randn(1, config.channels, *config.image_shape), torch.rand(1)
    batch = (x, t) if config.num_classes is None else (x, t, torch.tensor([1]))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*batch)
    assert 2 * sum(count_multiply_adds(config).values()) == counter.get_total_flops()


def test_the_named_sizes_cost_what_the_papers_table_says():
    """Peebles & Xie 2023, arXiv 2212.09748, table 4: latents of 32 x 32 x 4, 1,000 classes, twice the channels out."""
    paper = {"S/8": 0.36, "S/4": 1.41, "S/2": 6.06, "B/2": 23.01, "L/2": 80.71, "XL/2": 118.64}
    for name, gflops in paper.items():
        config = named_config(
            f"DiT-{name}", channels=4, out_channels=8, num_classes=1000, registers=0, qk_norm=False, norm="layer"
        )
        assert sum(count_multiply_adds(config).values()) / 1e9 == pytest.approx(gflops, abs=0.02)


def test_the_courses_large_model_is_as_large_as_the_lesson_says():
    config = named_config("DiT-S/2", image_size=32, channels=3, registers=4)
    parameters, work = count_parameters(config), count_multiply_adds(config)
    assert sum(parameters.values()) == pytest.approx(32.5e6, rel=0.002)
    assert sum(work.values()) == pytest.approx(6.16e9, rel=0.001)
    assert 0.32 < parameters["adaLN"] / sum(parameters.values()) < 0.34
    assert work["adaLN"] / sum(work.values()) < 0.002
    coarse = named_config("DiT-S/4", image_size=32, channels=3, registers=4)
    assert sum(work.values()) / sum(count_multiply_adds(coarse).values()) == pytest.approx(4.2, abs=0.1)
    assert set(SIZES) == {"S", "B", "L", "XL"}


def test_registers_are_appended_to_every_picture_and_dropped_again():
    tokens, registers = torch.randn(3, 5, 8), torch.randn(2, 8, requires_grad=True)
    longer = append_registers(tokens, registers)
    assert longer.shape == (3, 7, 8)
    assert torch.equal(longer[:, :5], tokens)
    for picture in longer:
        assert torch.equal(picture[5:], registers)
    assert torch.equal(drop_registers(longer, 2), tokens)
    assert append_registers(tokens.half(), registers).dtype == torch.float16
    longer.sum().backward()
    assert torch.equal(registers.grad, torch.full((2, 8), 3.0))


def test_no_registers_are_no_special_case():
    tokens = torch.randn(3, 5, 8)
    assert torch.equal(append_registers(tokens, torch.zeros(0, 8)), tokens)
    assert torch.equal(drop_registers(tokens, 0), tokens)
