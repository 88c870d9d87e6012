"""Lesson 11, second half: a loss to repair, the few-step sampler, and mean flow."""

import torch

from dit_course import few_steps
from dit_course.check import stretch_solutions
from dit_course.check.engine.exercise import OTHERWISE, Case, Draw, Exercise
from dit_course.check.lesson_11_few_steps import mistakes as wrong
from dit_course.check.lesson_11_few_steps.averages import target_cases
from dit_course.check.lesson_11_few_steps.cases import LossCase, SamplerCase, TargetCase, steps, tiny_student
from dit_course.flow import step

# -- consistency_loss --------------------------------------------------------------------------------


def loss_cases(draw: Draw) -> list[LossCase]:
    """Pictures and points, some with a span of 0; in the last the student takes its own half steps."""
    batch, channels, height, width = draw.sizes(4, 3)
    cases = []
    for shape, alone in (((batch, channels, height, width), False), ((7, 2), False), ((6, 2), True)):
        t, t_next = steps(draw, *shape)
        number = torch.arange(shape[0])
        t = torch.where(number % 3 == 1, (number < 3).to(t), t)  # spans of 0 at t = 1, then at t = 0
        t_next = torch.where(number % 3 == 1, t, t_next)
        x_t, velocity = (draw.normal(*shape, dtype=torch.float64) for _ in range(2))
        label = f"{'x'.join(map(str, shape))}{', the student takes its own half steps' if alone else ''}"
        cases.append(LossCase((x_t, t, t_next, velocity), label, alone))
    return cases


consistency_loss = Exercise(
    "consistency_loss",
    reference=stretch_solutions.consistency_loss,
    lesson="11",
    number=4,
    partly=OTHERWISE,
    cases=loss_cases,
    free=("x_t", "t", "t_next", "velocity"),
    mistakes=[
        "nothing ties the student to the data: where the span is 0 its target is the teacher's velocity",
        wrong.loss(target=lambda zero, velocity, halves: halves),
        "the target is the velocity at every span: that is the teacher, not a student of whole steps",
        wrong.loss(target=lambda zero, velocity, halves: velocity + 0 * halves),
        "the two targets have changed places: the velocity belongs to the spans of 0",
        wrong.loss(target=lambda zero, velocity, halves: torch.where(zero, halves, velocity)),
        "the student is told t_next before t: the time at which a step begins comes first",
        wrong.loss(student=lambda t, s: (s, t)),
        "the student is told how long its step is: it takes the time at which the step ends",
        wrong.loss(student=lambda t, s: (t, t - s)),
        "the student is told a span of 0: it never hears where its step ends",
        wrong.loss(student=lambda t, s: (t, t)),
        "the half steps run the wrong way: shortcut_target takes t, then t_next",
        wrong.loss(half_steps=lambda student, average, x, t, s: few_steps.shortcut_target(average, x, s, t)),
        "the half steps are the student's: take those of `average`",
        wrong.loss(half_steps=lambda student, average, x, t, s: few_steps.shortcut_target(student, x, t, s)),
        "`average` is trained in place of the student",
        wrong.loss(swapped=True),
        "the target is a whole step of `average`: it should take two halves",
        wrong.loss(half_steps=lambda student, average, x, t, s: average(x, t, s)),
        "the errors are summed: their mean is meant",
        wrong.loss(reduce=lambda error: error.square().sum()),
        "the errors are not squared",
        wrong.loss(reduce=lambda error: error.abs().mean()),
        wrong.loss(reduce=lambda error: error.mean()),
        "velocity and half steps are added up: where the span is 0 take the one, elsewhere the other",
        wrong.loss(target=lambda zero, velocity, halves: velocity + halves),
        "two losses are added, and each picture is pulled both ways: it has one target, chosen by its span",
        wrong.both_losses,
    ],
    praise="Loss and gradient are the course's",
)


# -- FewStepSampler ----------------------------------------------------------------------------------


def sampler_cases(draw: Draw) -> list[SamplerCase]:
    """One step, several, and another scale of guidance."""
    student, cases = tiny_student(draw), []
    for count, cfg in ((1, 2.5), (3, 4.0), (2, 1.5)):
        labels = torch.randint(3, (4,), generator=draw.generator).tolist()
        seed = int(torch.randint(1000, (), generator=draw.generator))
        label = f"{count} step{'s' * (count > 1)} with cfg {cfg}"
        cases.append(SamplerCase((student, count, cfg), label, (4, labels, seed)))
    return cases


def unknown_scales(draw: Draw) -> list[Case]:
    """Guidance scales that no student has learned."""
    return [Case((tiny_student(draw), 1, cfg), f"cfg = {cfg}") for cfg in (0.5, 6.5)]


FewStepSampler = Exercise(
    "FewStepSampler",
    reference=few_steps.FewStepSampler,
    lesson="11",
    number=5,
    partly="which state, and which times, does each further step get?",
    cases=sampler_cases,
    refused=unknown_scales,
    mistakes=[
        "the student is told a span of 0, and predicts the velocity of one moment: tell it where its step ends",
        wrong.sampled(times=lambda t, t_next: (t, t)),
        "the student is told how long its step is: it takes the time at which the step ends",
        wrong.sampled(times=lambda t, t_next: (t, t - t_next)),
        "the guidance scale of this sampler is not used: it is in `self.cfg`",
        wrong.sampled(cfg=lambda cfg: 1.0),
        wrong.sampled(cfg=lambda cfg: 2.5),
        "your pictures are still in [-1, 1], as inside of the network: outside they lie in [0, 1]",
        wrong.sampled(end=lambda x: x),
        wrong.sampled(end=lambda x: x.clamp(-1, 1)),
        wrong.sampled(end=lambda x: x.clamp(0, 1)),
        "some values lie beyond [0, 1]: a student overshoots a little, and a screen shows nothing there: clamp",
        wrong.sampled(end=lambda x: (x + 1) / 2),
        "halve after adding, not before: -1 must become 0, and 1 must stay 1",
        wrong.sampled(end=lambda x: (x / 2 + 1).clamp(0, 1)),
        "clamp after halving, not before: inside of the network a picture reaches from -1 to 1",
        wrong.sampled(end=lambda x: (x.clamp(0, 1) + 1) / 2),
        "you take one step more than there are: `steps` steps have steps + 1 times, both ends counted",
        wrong.sampled(ts=lambda count: torch.linspace(1, 0, count + 2)),
        "each step goes the wrong way: from t to t_next time runs down, and `step` knows that",
        wrong.sampled(move=lambda x, u, t, t_next: step(x, u, t_next, t)),
        "each step goes as far as the whole path: it takes the time t - t_next only",
        wrong.sampled(move=lambda x, u, t, t_next: x - u),
    ],
    praise="Samples what the course's sampler samples",
    picture=lambda pictures: pictures[0, :1],
)


# -- stretch: mean_flow_target -----------------------------------------------------------------------


def mean_flow_cases(draw: Draw) -> list[TargetCase]:
    """As for two half steps, with a velocity."""
    return target_cases(draw, "velocity")


mean_flow_target = Exercise(
    "mean_flow_target",
    reference=few_steps.mean_flow_target,
    lesson="11",
    number=6,
    partly=OTHERWISE,
    cases=mean_flow_cases,
    free=("average", "x_t", "t", "t_next", "velocity"),
    mistakes=[
        "the sign is wrong: u = v - (t - t_next) u'",
        wrong.mean_flow(join=lambda v, span, change: v + span * change),
        "the change is not multiplied by the span, t - t_next",
        wrong.mean_flow(join=lambda v, span, change: v - change),
        "the change is divided by the span: it is multiplied",
        wrong.mean_flow(join=lambda v, span, change: v - change / (span + (span == 0))),
        "that is the correction alone: it is taken from the velocity",
        wrong.mean_flow(join=lambda v, span, change: span * change),
        "that is the velocity alone: from it (t - t_next) times the change of u along the path is taken",
        wrong.mean_flow(join=lambda v, span, change: v),
        "that is how u changes, not what it must be: u = v - (t - t_next) u'",
        wrong.mean_flow(join=lambda v, span, change: change),
        "x does not move in your derivative: along the path x changes with the velocity",
        wrong.mean_flow(along=lambda v, t, u: (0 * v, torch.ones_like(t))),
        "time stands still in your derivative: along the path t changes, too, by 1",
        wrong.mean_flow(along=lambda v, t, u: (v, torch.zeros_like(t))),
        "time runs backwards in your derivative: it is taken in the direction in which t grows, as the velocity is",
        wrong.mean_flow(along=lambda v, t, u: (v, -torch.ones_like(t))),
        "x moves along `average` in your derivative: along the path it moves with the velocity at x_t",
        wrong.mean_flow(along=lambda v, t, u: (u, torch.ones_like(t))),
        "the direction is (x_t, t): it is how both change along the path, (velocity, 1)",
        wrong.mean_flow(along=lambda v, t, u, x=None: (x, t)),
        "t_next moves in your derivative: where the step ends stays, only x and t move",
        wrong.mean_flow(moving_end=True),
        "you start from `average`: the formula starts from the velocity",
        wrong.mean_flow(join=lambda v, span, change, u=None: u - span * change),
    ],
    praise="What the average velocity must be",
)
