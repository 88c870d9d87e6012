"""Lesson 04, the rest: what the network is made of and costs, and the same weights on another grid."""

import copy
from dataclasses import dataclass, replace

import torch

from dit_course import dit, scaling
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
from dit_course.check.engine.mistakes import with_hints
from dit_course.check.engine.modules import AnswerError, explain_errors, randomize_parameters
from dit_course.check.lesson_04_registers.dit import SMALL
from dit_course.check.lesson_04_registers.mistakes import PARAMETER_MISTAKES, WORK_MISTAKES
from dit_course.check.stretch_solutions import resized as larger
from dit_course.dit import DiTConfig

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
        usual = DiTConfig(image_size=28, channels=1, width=128, depth=5, heads=4)  # not 6: adaLN makes six vectors
        odd = DiTConfig((9, 15), 3, 3, 24 * a, b, 6, 1.5, 3, None, out_channels=6)
        plain = DiTConfig(16, 2, 4, 32 * b, a, 2, 2.0, 0, 7, qk_norm=False)
        labels = {
            "28x28 pictures in patches of 4, width 128, 5 blocks, 4 heads": usual,
            f"9x15 pictures in patches of 3, width {24 * a}, {b} blocks, 6 heads, mlp_ratio 1.5, 3 registers": odd,
            f"16x16 pictures in patches of 2, width {32 * b}, {a} blocks, no registers, no QK-norm": plain,
        }
        return [CountCase((config,), label, mistakes, count(config)) for label, config in labels.items()]

    return cases


count_parameters = Exercise(
    "count_parameters",
    reference=scaling.count_parameters,
    lesson="04",
    number=4,
    partly=OTHERWISE,
    cases=count_cases(scaling.count_parameters, PARAMETER_MISTAKES),
    praise="Every part agrees with the network itself",
)

count_multiply_adds = Exercise(
    "count_multiply_adds",
    reference=scaling.count_multiply_adds,
    lesson="04",
    number=5,
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
    number=6,
    partly="`image_size` is a number or a pair: does your code take either?",
    cases=resize_cases,
    mistakes=[
        "the new model answers 0, as every new DiT does: the weights are not copied into it",
        lambda model, size: dit.DiT(replace(model.config, image_size=size)).eval(),
    ],
    praise="A network of another size with the same weights",
)
