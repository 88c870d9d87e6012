"""The course's code with habits of a public repository built in: what would the kit have said of it? (Lesson 12.)"""

from types import SimpleNamespace

from dit_course.studies.bugs.code import patched_code
from dit_course.studies.bugs.planted import find_bug

# ArchiMickey/Just-a-DiT: t goes into the sinusoids as it is (its pull request 9) ...
UNSCALED = find_bug("unscaled_time").patches
# ... the sampler takes `steps` times from 1 to 0, and makes `steps` steps of 1 / steps ...
SLIPPED = (
    (
        "sampling", "x = step(x, velocity(x, expand_time(t, x)), t, t_next)",
        "x = step(x, velocity(x, expand_time(1 - (1 - t) * (len(ts) - 1) / max(len(ts) - 2, 1), x)), t, t_next)",
    ),
)  # fmt: skip
# ... guidance pays for two passes at every scale ...
PAID_TWICE = (
    (
        "sampling", "        if (scale == 1).all():\n            return model(x, t, y)\n        if (scale == 0).all():",
        "        if (scale == 0).all():",
    ),
)  # fmt: skip
# ... and until its pull request 6 the loss had data at t = 1, while the sampler looked for it at t = 0 (its issue 4)
TURNED = (
    ("flow", "return (1 - t) * x + t * noise", "return t * x + (1 - t) * noise"),
    ("flow", "return noise - x", "return x - noise"),
)


def public_layout(repaired: bool = True) -> SimpleNamespace:
    """The course's code with the habits of Just-a-DiT, after or before its repair of the time convention."""
    patches = (*UNSCALED, *SLIPPED, *PAID_TWICE, *(() if repaired else TURNED))
    return patched_code("repaired" if repaired else "before_the_repair", patches)
