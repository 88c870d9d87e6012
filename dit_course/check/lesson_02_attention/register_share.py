"""Lesson 02b: measuring how much attention the patches give to the registers."""

import torch

from dit_course.check.engine.exercise import Case, Draw, Exercise
from dit_course.check.stretch_solutions import register_share as share


def map_cases(draw: Draw) -> list[Case]:
    """Maps of one picture, of heads, and of blocks, pictures and heads, whose rows sum to 1."""
    cases = []
    for in_front, registers in (((), 2), ((3,), 4), ((2, 3, 4), 3)):
        tokens = registers + 4 + draw.sizes(1)[0]
        logits = 2 * draw.normal(*in_front, tokens, tokens)
        logits.view(-1)[0], logits.view(-1)[-1] = -torch.inf, torch.inf  # weights may be 0 and 1
        weights = logits.clamp(max=200.0).softmax(dim=-1)
        shape = "x".join(map(str, weights.shape))
        cases.append(Case((weights, registers), f"{shape} with {registers} registers"))
    return cases


register_share = Exercise(
    "register_share",
    reference=share,
    lesson="02",
    number=6,
    cases=map_cases,
    mistakes=[
        "that is what the registers give to the patches: a row is a query, so the patches are rows here",
        lambda w, r: w[..., -r:, :-r].sum(dim=-1).mean(dim=-1),
        "that is what *one* register gets on average: a patch's share for all of them together is a sum",
        lambda w, r: w[..., :-r, -r:].mean(dim=(-2, -1)),
        "the rows of the registers are in your mean: only what the patches give is asked for",
        lambda w, r: w[..., -r:].sum(dim=-1).mean(dim=-1),
        "that is the sum over all patches, which can be above 1: their mean is a share",
        lambda w, r: w[..., :-r, -r:].sum(dim=(-2, -1)),
        "that is what the patches give to patches: the registers get the rest",
        lambda w, r: w[..., :-r, :-r].sum(dim=-1).mean(dim=-1),
        "the registers are the last tokens, not the first",
        lambda w, r: w[..., r:, :r].sum(dim=-1).mean(dim=-1),
        "that is what the registers give to each other: look at the rows of the patches",
        lambda w, r: w[..., -r:, -r:].sum(dim=-1).mean(dim=-1),
        "that is one share for each patch: their mean is still missing",
        lambda w, r: w[..., :-r, -r:].sum(dim=-1),
        "you divide by all tokens: the mean is over the patches only",
        lambda w, r: w[..., :-r, -r:].sum(dim=(-2, -1)) / w.shape[-1],
        "you add up over the patches and average over the registers: it is the other way round",
        lambda w, r: w[..., :-r, -r:].sum(dim=-2).mean(dim=-1),
        "that is relative to an equal share: return the share itself",
        lambda w, r: w[..., :-r, -r:].sum(dim=-1).mean(dim=-1) * w.shape[-1] / r,
        "each patch gives its largest weight to one register, but the others count, too: add them up",
        lambda w, r: w[..., :-r, -r:].amax(dim=-1).mean(dim=-1),
    ],
    partly="the axes in front (blocks, heads) stay: count from the end, `[..., rows, columns]`. Or is a size a number?",
    praise="The same share",
    free=("weights",),  # a share can also be computed from what is left to the patches
)
