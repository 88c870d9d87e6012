"""Lesson 04, the rest: the whole network, and what it is made of and costs."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from dit_course import dit, scaling
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise, ModuleCase
from dit_course.check.engine.mistakes import with_hints
from dit_course.check.engine.modules import AnswerError, explain_errors, load_reference_weights, randomize_parameters
from dit_course.check.lesson_04_registers.mistakes import (
    PARAMETER_MISTAKES,
    WORK_MISTAKES,
    forwarded,
    label_hidden,
)
from dit_course.check.stretch_solutions import resized as larger
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


# -- counting --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CountCase(Case):
    """A configuration whose parts are counted. mistakes: for each part hints, each followed by its wrong counts."""

    mistakes: dict = None
    right: dict = None

    gives = dict  # what an answer returns

    def use(self, answer, track: bool = False) -> tuple[object, tuple]:
        """The counts as a tensor, in the order of the course's; a count that is wrong is a complaint."""
        counts = answer(*self.args)
        if not isinstance(counts, dict):
            return counts, self.args
        for part, count in self.right.items():
            self._compare(part, counts.get(part), count)
        extra = [part for part in counts if part not in self.right]
        if extra:
            raise AnswerError(f"your counts have a part that is not asked for: {extra[0]!r}")
        return torch.tensor([counts[part] for part in self.right], dtype=torch.float64), self.args

    def _compare(self, part: str, got: object, count: int) -> None:
        if got is None:
            raise AnswerError(f"your counts lack the part {part!r}: they should have {', '.join(self.right)}")
        if isinstance(got, bool) or not isinstance(got, int | float):
            raise AnswerError(f"{part}: your count is a {type(got).__name__}, it should be a whole number")
        if got != count:
            config = self.args[0]
            known = with_hints(self.mistakes.get(part, ()))
            hints = (mistake.hint for mistake in known if count != mistake.wrong(config) == got)
            much = f"yours is {abs(got - count):,} too {'many' if got > count else 'few'}"
            much = much if 0.7 < got / max(count, 1) < 1.4 else f"yours is {got / max(count, 1):.3g} times as many"
            hint = next(hints, much if count else "there are none at all")
            raise AnswerError(f"{part}: {hint}. You count {got:,}, it has {count:,} ({self.label})")
        if not isinstance(got, int):
            raise AnswerError(
                f"{part}: {got} is the right count, but a float: whole numbers stay whole with // and int()"
            )


def count_cases(count, mistakes):
    """Cases for a counting function: a usual network, and two that differ from it in everything."""

    def cases(draw: Draw) -> list[CountCase]:
        a, b = draw.sizes(2, 2, 7)
        usual = DiTConfig(image_size=28, channels=1, width=128, depth=6, heads=4)
        odd = DiTConfig((9, 15), 3, 3, 24 * a, b, 6, 1.5, 3, None, out_channels=6)
        plain = DiTConfig(16, 2, 4, 32 * b, a, 2, 2.0, 0, 7, qk_norm=False)
        labels = {
            "28x28 pictures in patches of 4, width 128, 6 blocks, 4 heads": usual,
            f"9x15 pictures in patches of 3, width {24 * a}, {b} blocks, 6 heads, mlp_ratio 1.5, 3 registers": odd,
            f"16x16 pictures in patches of 2, width {32 * b}, {a} blocks, no registers, no QK-norm": plain,
        }
        return [CountCase((config,), label, mistakes, count(config)) for label, config in labels.items()]

    return cases


count_parameters = Exercise(
    "count_parameters",
    reference=scaling.count_parameters,
    lesson="04",
    partly=OTHERWISE,
    cases=count_cases(scaling.count_parameters, PARAMETER_MISTAKES),
    praise="Every part agrees with the network itself",
)

count_multiply_adds = Exercise(
    "count_multiply_adds",
    reference=scaling.count_multiply_adds,
    lesson="04",
    partly=OTHERWISE,
    cases=count_cases(scaling.count_multiply_adds, WORK_MISTAKES),
    praise="Every part agrees with what PyTorch counts",
)


# -- stretch: resized ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResizeCase(Case):
    """A model, a new size, and pictures of that size for the model that comes back."""

    given: tuple = ()

    gives = torch.nn.Module  # what an answer returns

    def use(self, answer, track: bool = False) -> tuple[object, tuple]:
        """Resize a copy, look whether that is still what it was, and call what came back."""
        model, size = copy.deepcopy(self.args[0]), self.args[1]
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        with explain_errors({"The size of tensor": POSITIONS}):
            return self._looked_at(answer(model, size), model), (model, size)

    def _looked_at(self, result: object, model: torch.nn.Module) -> object:
        """What comes out of the new model. Raises AnswerError for another configuration, mode or memory."""
        size = self.args[1]
        if result is model:
            raise AnswerError("that is the model itself: make a new one, with a configuration of its own")
        if not isinstance(result, torch.nn.Module):
            return result
        wanted = replace(self.args[0].config, image_size=size)
        if replace(result.config, image_size=size) != wanted or result.config.image_shape != wanted.image_shape:
            wrong = next(name for name, value in vars(result.config).items() if value != getattr(wanted, name))
            have = getattr(result.config, wrong)
            advice = "everything but `image_size` stays as it was, and that is (height, width)"
            raise AnswerError(f"the new model's configuration has {wrong} = {have!r}: {advice}")
        if result.training:
            advice = "bring it into eval mode, or it goes on hiding labels as in training"
            raise AnswerError(f"the new model is in training mode: {advice}")
        there = {value.data_ptr() for value in model.parameters() if value.numel()}
        if any(value.data_ptr() in there for value in result.parameters()):
            raise AnswerError("both models share their weights, so training one would change the other: copy them")
        before = self.args[0].state_dict()
        if model.config != self.args[0].config or not all(
            same(x, before[name]) for name, x in model.state_dict().items()
        ):
            raise AnswerError("the original has another configuration or other weights now: it should stay as it is")
        if not all(p.requires_grad and p.grad is not None for p in model.parameters()):
            raise AnswerError("the original is frozen, or has lost its gradients: it should stay as it is")
        if model.training != self.args[0].training:
            raise AnswerError("the original is in another mode (train or eval) now: it should stay as it is")
        left = [name for name, x in result.named_parameters() if not same(x, before[name])]
        if left and len(left) < len(before) / 2:
            raise AnswerError(f"`{left[0]}` is not copied: the state_dict of a model has all of its weights")
        return result(*self.given)

    def inputs(self) -> tuple:
        """Numbers and a model: nothing that is compared."""
        return self.args

    def imitate(self, wrong) -> object:
        """What a wrong version makes of the case."""
        return wrong(copy.deepcopy(self.args[0]), self.args[1])(*self.given)


def resize_cases(draw: Draw) -> list[ResizeCase]:
    """A model without registers, too, and sizes that are not square."""
    cases = []
    for size, registers in (((8, 4), 2), ((4, 12), 0), (16, 1)):
        config = replace(SMALL, image_size=8, registers=registers)
        model = dit.DiT(config).train(registers == 0)
        randomize_parameters(model, draw.normal)
        shape = replace(config, image_size=size).image_shape
        x, t, y = draw.normal(3, 2, *shape), draw.normal(3).sigmoid(), torch.tensor([0, 4, 5])
        label = f"from 8x8 to {shape[0]}x{shape[1]} pixels" + (", given as a number" if size == 16 else "")
        cases.append(ResizeCase((model, size), label, (x, t, y)))
    return cases


POSITIONS = "the table of positions is made in `__init__`, for the grid of its configuration: so make a new model"

resized = Exercise(
    "resized",
    reference=larger,
    lesson="04",
    partly="`image_size` is a number or a pair: does your code take either?",
    cases=resize_cases,
    mistakes=[
        "the new model answers 0, as every new DiT does: the weights are not copied into it",
        lambda model, size: dit.DiT(replace(model.config, image_size=size)).eval(),
    ],
    praise="A network of another size with the same weights",
)
