"""Figures of lesson 04: the message is true, and wrong input is named."""

import re

import pytest
import torch

from dit_course import show
from dit_course.show.lesson_04_registers import _percent, short


def test_lengths_say_how_registers_and_patches_compare():
    lengths = torch.ones(3, 6)
    lengths[:, 4:] = torch.tensor([0.5, 2.0, 3.0])[:, None]  # two registers
    picture = show.token_norms(lengths, registers=2)
    assert picture.alt.startswith("In the end registers are 3.0 times as long as patches")
    assert "patches from 1.0 to 1.0 (median), registers from 0.5 to 3.0 (mean)" in picture.alt
    batch = lengths[:, None].expand(-1, 5, -1)
    assert show.token_norms(batch, registers=2).alt == picture.alt


def test_lengths_of_a_network_without_registers():
    picture = show.token_norms(torch.rand(3, 2, 6, requires_grad=True), registers=0)
    assert picture.alt.startswith("How long the tokens are")
    assert "registers" not in picture.alt


@pytest.mark.parametrize(("shape", "registers"), [((6,), 1), ((1, 6), 1), ((3, 6), 6), ((3, 6), -1), ((2, 3, 4, 5), 1)])
def test_lengths_need_blocks_and_patches(shape, registers):
    with pytest.raises(ValueError, match=re.escape(f"got {shape}")):
        show.token_norms(torch.ones(shape), registers)


def test_shares_of_attention_say_from_where_to_where():
    picture = show.attention_shares(torch.tensor([0.05, 0.2, 0.1]), fair=0.075)
    assert picture.alt.startswith("Registers get 5% to 20% of the attention of the patches")
    assert picture.alt.endswith("5%, 20%, 10%; an even share would be 7.5%")


@pytest.mark.parametrize("wrong", [[], [[0.1]], [-0.1], [1.1]])
def test_shares_lie_between_nothing_and_all(wrong):
    with pytest.raises(ValueError, match="one number in \\[0, 1\\] for each block"):
        show.attention_shares(wrong, fair=0.1)


def test_parts_name_the_one_that_differs_most():
    picture = show.parameter_shares({"work": {"a": 5, "b": 1, "c": 4}, "size": {"b": 60, "a": 40}})
    assert picture.alt.startswith("b: 10% of the work, 60% of the size. Bars: a: 50% of the work, 40% of the size; b:")
    assert picture.alt.endswith("c: 40% of the work, 0% of the size")
    assert show.parameter_shares({"work": {"a": 1}}, title="Mine").alt.startswith("Mine. Bars: a: 100% of the work")
    for nothing in ({}, {"work": {}}, {"work": {"a": 0}}, {"work": {"a": 1}, "size": {"a": 0}}):
        with pytest.raises(ValueError, match="nothing to compare"):
            show.parameter_shares(nothing)


def test_numbers_are_short():
    shares = {0: "0%", 0.00002: "< 0.01%", 0.0004: "0.04%", 0.002: "0.2%", 0.0994: "9.9%", 0.0996: "10%", 1: "100%"}
    assert [_percent(share) for share in shares] == list(shares.values())
    assert [short(x) for x in (2, 1500, 32.48e6, 6.157e9, 5.5e12)] == ["2", "1.5 k", "32.5 M", "6.16 G", "5.5 T"]
