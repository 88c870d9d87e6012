"""Exercises of lesson 12: eight probes."""

from collections.abc import Callable

from dit_course.check.lesson_12_bug_hunt.probing import ProbeExercise, cases
from dit_course.studies.bugs import kit


def _probe(number: int, reference: Callable, **caught: str) -> ProbeExercise:
    """An exercise; caught: for each case that the probe must catch, a hint for who lets it pass."""
    return ProbeExercise(
        reference.__name__, reference, lesson="12", number=number, cases=cases(tuple(caught)), caught=caught
    )


probe_solver = _probe(
    1,
    kit.probe_solver,
    A="is the velocity told the time at which the state is? Hand euler a velocity of your own that keeps what it gets",
    C=(
        "there the times run down as they should, and each of them is wrong. Compare *all* the times that the velocity "
        "was told with those at which the steps begin, `ts[:-1]`"
    ),
)
probe_guidance = _probe(
    2,
    kit.probe_guidance,
    D=(
        "for weak guidance the velocity lies between the two predictions, or on the other side. With a model that "
        "predicts 1 with a label and 0 without, which number must come out for a scale of 3?"
    ),
    E=(
        "it is right on gray and on color pictures, and wrong only in a part of what a network may predict. Latents "
        "have more channels than pictures: how many had yours?"
    ),
)
probe_labels = _probe(
    3,
    kit.probe_labels,
    F='in training, how many of a thousand labels should become "no label"? Count them',
    G='labels do change in training, but into what? The number of "no label" is `num_classes`',
    H="in training all is right. What about `.eval()`, the mode in which one samples?",
)
probe_start = _probe(
    4,
    kit.probe_start,
    J="what does a new DiT predict, before any step, if the last layer starts at zero? Make a tiny one and look",
)
probe_loss = _probe(
    5,
    kit.probe_loss,
    K="look at the noise *within* a batch: with data of zeros, the network is shown t times the noise of each picture",
    L=(
        "it happens only where two sizes are equal, and yours were not: as many pictures as each is wide. What does t "
        "multiply then?"
    ),
)
probe_mediocre = _probe(
    6,
    kit.probe_mediocre,
    M="how much do the sinusoids of t change while t goes from 0 to 1? Most of them should move",
    N=(
        "times that are far apart can be told apart there. Fifty sampling steps are 0.02 apart, and the times of a "
        "training lie closer: compare two neighbors between 0.5 and 1, less than 0.001 apart"
    ),
)
probe_too_good = _probe(
    7,
    kit.probe_too_good,
    P="the loss contains the data: darker or flatter pictures make it smaller. In which range should they be?",
    Q=(
        "each step is fine by itself. What should *differ* between two steps of `training_loop`? Give it a flow whose "
        "`loss(model, x, y)` draws random numbers and keeps them"
    ),
)
probe_unseen = _probe(
    8,
    kit.probe_unseen,
    R="every picture of this training is a square. Send one that is not through `patchify` and back",
    S=(
        "a network trained with this fault learns around it, but weights of others break. Set the halves of "
        "`FinalLayer.modulation` by hand: the first half must shift, the second scale"
    ),
)
