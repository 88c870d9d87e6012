"""Lesson 04: the whole network. `costs` has what it is made of."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from dit_course import dit
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import OTHERWISE, Draw, Exercise, ModuleCase
from dit_course.check.engine.modules import AnswerError, explain_errors, load_reference_weights
from dit_course.check.lesson_04_registers.mistakes import (
    forwarded,
    label_hidden,
)
from dit_course.dit import DiTConfig

# -- DiT.forward -----------------------------------------------------------------------------------

SMALL = DiTConfig((8, 12), channels=2, width=16, depth=2, heads=2, registers=3, num_classes=5, label_dropout=0.5)
CONFIGS = {
    "8x12 pictures, 3 registers": SMALL,
    "12x8 pictures, no registers, 4 channels out": replace(SMALL, image_size=(12, 8), registers=0, out_channels=4),
    "no classes, patches of 2, 3 blocks": replace(SMALL, image_size=(4, 6), patch_size=2, num_classes=None, depth=3),
    "8x8 pictures, 1 channel": replace(SMALL, image_size=8, channels=1),
}


@dataclass(frozen=True)
class NetworkCase(ModuleCase):
    """A whole network; what goes into its parts is looked at, as most mistakes end in an error somewhere else."""

    def use(self, answer: Callable, track: bool = False) -> tuple[object, tuple]:
        """Build, load, call. Raises AnswerError for labels that do not arrive and for registers that come twice."""
        module = load_reference_weights(answer, self.args, self.module)
        times = []
        hooks = [
            module.time_embed.register_forward_pre_hook(lambda layer, inputs: times.append(inputs)),
            module.blocks[0].register_forward_pre_hook(self._has_registers_once),
        ]
        if module.label_embed is not None:
            hooks.append(module.label_embed.register_forward_pre_hook(self._has_labels))
        given = copy.deepcopy(self.given)
        given[0].requires_grad_(track)
        try:
            with explain_errors(FORWARD_ERRORS):
                result = module(*given)
        except ValueError as error:  # of `unpatchify`
            self._say_what_does_not_fit(str(error))
            raise
        finally:
            for hook in hooks:
                hook.remove()
        if len(times) > 1 and same(result, self.module(*self.given)):
            raise AnswerError(
                f"right, but the condition is made {len(times)} times: make it once. In training other labels would be "
                "hidden each time, so that hardly any picture is without a label in all of the network"
            )
        return result, given

    def _say_what_does_not_fit(self, error: str) -> None:
        config, batch = self.args[0], len(self.given[0])
        rows, columns = config.grid
        if config.registers and f"not ({batch}, {rows * columns + config.registers}, " in error:
            raise AnswerError(f"{KEPT} ({error})") from None
        if config.registers and f"not ({batch}, {rows * columns - config.registers}, " in error:
            raise AnswerError(f"{TOO_FEW} ({error})") from None
        if config.out_channels and error.startswith(f"{config.channels}x"):
            raise AnswerError(f"{CHANNELS} ({error})") from None

    def _has_labels(self, _layer: torch.nn.Module, inputs: tuple) -> None:
        if inputs[0] is None:
            raise AnswerError(
                "the label does not arrive: `self.condition` takes the time and the class, and hands back one vector"
            )

    def _has_registers_once(self, _block: torch.nn.Module, inputs: tuple) -> None:
        config = self.args[0]
        rows, columns = config.grid
        if config.registers and inputs[0].shape[1] == rows * columns + 2 * config.registers:
            raise AnswerError("the registers are there twice: `self.embed` has put them behind the patches already")


def network_cases(draw: Draw) -> list[NetworkCase]:
    """Networks that are not square, with and without registers and classes, all weights perturbed."""
    cases = []
    for label, config in CONFIGS.items():
        batch = 1 if config.channels == 1 else draw.sizes(1)[0]
        x = draw.normal(batch, config.channels, *config.image_shape)
        t = draw.normal(batch).sigmoid()
        y = () if config.num_classes is None else (torch.arange(5, 5 + batch) % 6,)  # the first has no label
        model = dit.DiT(config).eval()
        cases.append(NetworkCase((config,), f"{batch} {label}", (x, t, *y), model, draw))
    return cases


def refused_inputs(draw: Draw) -> list[ModuleCase]:
    """One time for two pictures."""
    x, t, y = draw.normal(2, SMALL.channels, *SMALL.image_shape), torch.rand(1), torch.zeros(2, dtype=torch.int64)
    return [ModuleCase((SMALL,), "one time for two pictures", (x, t, y), dit.DiT(SMALL).eval(), draw)]


KEPT = "the registers are still there: drop them before the last layer"
TOO_FEW = "patches are missing: registers were dropped that nobody has put there (`self.embed` does), or dropped twice"
CHANNELS = "what comes out may have other channels than what goes in: `out_channels` of them"
FORWARD_ERRORS = {
    "[ModuleList]": "this is a list of blocks, so call one block after the other, in a loop",
    "required positional argument: 'condition'": "the blocks and the last layer take (tokens, condition)",
    "required positional argument: 'width'": "a star spreads a pair: `*pair` hands over height and width",
    "'tuple' and 'int'": "an image_size may be a pair; `image_shape` always is one",
    "converted to an index": "`self.registers` is the table, `self.config.registers` says how many there are",
    "converted to Python scalars": "`self.registers` is the table, `self.config.registers` says how many there are",
    "images take tokens": "is it what the last layer returns that you put together?",
}

DiT = Exercise(
    "DiT",
    reference=dit.DiT,
    refused=refused_inputs,
    lesson="04",
    number=3,
    partly=OTHERWISE,
    cases=network_cases,
    mistakes=[
        "the blocks are not run, or what they return is not kept: `tokens = block(tokens, condition)`",
        forwarded(blocks=lambda blocks: []),
        "only one of the blocks leaves a trace: does each get what the one before it returned?",
        forwarded(blocks=lambda blocks: blocks[-1:]),
        forwarded(blocks=lambda blocks: blocks[:1]),
        "the last block has no part in the answer: is it run, and is what it returns used?",
        forwarded(blocks=lambda blocks: blocks[:-1]),
        "the first block is left out",
        forwarded(blocks=lambda blocks: blocks[1:]),
        "the tokens are added to what a block returns: the residual is inside of the blocks already",
        forwarded(residual=True),
        "the blocks are run twice",
        forwarded(blocks=lambda blocks: [*blocks, *blocks]),
        forwarded(blocks=lambda blocks: [b for block in blocks for b in (block, block)]),
        "the blocks run in the wrong order: from the first to the last",
        forwarded(blocks=lambda blocks: blocks[::-1]),
        "the registers are dropped before the blocks, so no patch has ever seen them",
        forwarded(embed=lambda model, x: model.patch_embed(x) + model.positions, count=0),
        "the tokens know nothing of their positions: `self.embed` adds them, and the registers, too",
        forwarded(embed=lambda model, x: model.patch_embed(x), count=0),
        forwarded(embed=lambda model, x: dit.append_registers(model.patch_embed(x), model.registers)),
        "the class has no influence: `self.condition` takes the time and the class",
        label_hidden,
        forwarded(condition=lambda model, t, y: model.time_embed(t)),
        "all pictures get the time of the first: each has its own",
        forwarded(condition=lambda model, t, y: model.condition(t[:1].expand_as(t), y)),
        "the last layer gets another condition than the blocks: one vector, of time and class, serves all of them",
        forwarded(last=lambda model, told, t: model.time_embed(t)),
        forwarded(last=lambda model, told, t: told - model.time_embed(t)),
        '"no label" is taken for another class: it is a number like the others, `num_classes`',
        lambda model, x, t, y=None: model(x, t, None if y is None else y.clamp(max=model.config.num_classes - 1)),
        lambda model, x, t, y=None: model(x, t, None if y is None else y % model.config.num_classes),
        "height and width are swapped where the patches are put together: `image_shape` is (height, width)",
        forwarded(shape=lambda height, width: (width, height)),
        "your answer is still a list of patches: put them together",
        forwarded(patches_only=True),
        "the input is added to the output: the network predicts the velocity itself",
        lambda model, x, *rest: x + model(x, *rest),
    ],
)
