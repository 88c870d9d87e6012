"""Code that is right and written in another way, which no probe should complain about; and code that is nonsense."""

from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace

from dit_course.studies.bugs.code import patched_code
from dit_course.studies.bugs.public import SLIPPED, TURNED

Patch = tuple[str, str, str]

# what is different, why it is right all the same, and the patches
ANOTHER_HAND: tuple[tuple[str, str, tuple[Patch, ...]], ...] = (
    (
        "the sines stand before the cosines", "the layer behind them learns either order",
        (("conditioning", "[angles.cos(), angles.sin()]", "[angles.sin(), angles.cos()]"),),
    ),
    (
        "the label table starts at another scale", "nothing in the lesson fixes it",
        (("conditioning", "nn.init.normal_(self.table.weight, std=0.02)", "nn.init.normal_(self.table.weight)"),),
    ),
    (
        "another random draw decides which labels are dropped", "the share counts, not which ones",
        (
            (
                "conditioning", "dropped = torch.rand(labels.shape, device=labels.device) < self.dropout",
                "dropped = torch.rand(labels.shape, device=labels.device) >= 1 - self.dropout",
            ),
        ),
    ),
    (
        "guidance calls the model twice", "two passes give what one batch of double size does",
        (
            (
                "sampling",
                "both = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, no_label]))  # (2 * batch, ...)\n"
                "        with_label, without = both.chunk(2)",
                "without, with_label = model(x, t, no_label), model(x, t, y)",
            ),
        ),
    ),
    (
        "the EMA has another warm-up", "any that lets go of the start is right",
        (("ema", "return min(self.decay, (1 + self.updates) / (10 + self.updates))",
          "return min(self.decay, (1 + self.updates) / (5 + self.updates))"),),
    ),
    (
        "[0, 255] becomes [-1, 1] in other operations", "they differ by rounding",
        (("data", "return images.float() / 127.5 - 1", "return (images.float() - 127.5) / 127.5"),),
    ),
    (
        "gradients are cleared before the backward pass", "before or after, each step starts from none",
        (
            ("training", "    loss = flow.loss(model, x, y)\n    loss.backward()\n    norm",
             "    optimizer.zero_grad()\n    loss = flow.loss(model, x, y)\n    loss.backward()\n    norm"),
            ("training", "    optimizer.step()\n    optimizer.zero_grad()\n    return loss.detach()",
             "    optimizer.step()\n    return loss.detach()"),
        ),
    ),
    (
        "training draws other random numbers", "no particular ones are right",
        (("training", "torch.manual_seed(_seed_of(seed, step))", "torch.manual_seed(_seed_of(seed, step, 2))"),),
    ),
    (
        "the noise is drawn before the times", "the order of the draws is free",
        (
            ("flow", "        t = self.timesteps(len(x), generator).to(x.device, x.dtype)\n", ""),
            (
                "flow", "        x_t = interpolate(x, noise, t)",
                "        t = self.timesteps(len(x), generator).to(x.device, x.dtype)\n"
                "        x_t = interpolate(x, noise, t)",
            ),
        ),
    ),
    (
        "x_t is computed as x + t (noise - x)", "it is the same, up to rounding",
        (("flow", "return (1 - t) * x + t * noise", "return x + t * (noise - x)"),),
    ),
    (
        "a token holds pixels first, then channels", "patchify and unpatchify agree, which is all they must",
        (
            ("patches", "x = x.permute(0, 2, 4, 1, 3, 5)  #", "x = x.permute(0, 2, 4, 3, 5, 1)  #"),
            ("patches", "x = tokens.reshape(-1, rows, columns, channels, patch_size, patch_size)",
             "x = tokens.reshape(-1, rows, columns, patch_size, patch_size, channels)"),
            ("patches", "x = x.permute(0, 3, 1, 4, 2, 5)  #", "x = x.permute(0, 5, 1, 3, 2, 4)  #"),
        ),
    ),
    (
        "the final layer's norm is a LayerNorm", "as in the paper",
        (("blocks", 'def __init__(self, width: int, outputs: int, norm: str = "rms"):',
          'def __init__(self, width: int, outputs: int, norm: str = "layer"):'),),
    ),
    (
        "a DiT is smaller unless told otherwise", "give the sizes that your probe counts on",
        (("dit", "width: int = 192", "width: int = 96"), ("dit", "registers: int = 4", "registers: int = 1"),
         ("dit", "image_size: int | tuple[int, int] = 32", "image_size: int | tuple[int, int] = 16")),
    ),
)  # fmt: skip


@lru_cache
def another_hand(number: int | None = None) -> SimpleNamespace:
    """Right code in which one thing, or all of them, is written in another way."""
    chosen = ANOTHER_HAND if number is None else ANOTHER_HAND[number : number + 1]
    name = "another_hand" if number is None else f"another_hand_{number}"
    return patched_code(name, [patch for _, _, patches in chosen for patch in patches])


def first_difference(complains: Callable[[SimpleNamespace], bool]) -> str:
    """Which of the differences a probe complains about, and why that is right all the same; "" where only all do."""
    for number, (what, why, _) in enumerate(ANOTHER_HAND):
        if complains(another_hand(number)):
            return f"{what} ({why})"
    return ""


# for each exercise code whose values, and code whose shapes, are nonsense: it tells what a probe looks at at all
EULER = "x = step(x, velocity(x, expand_time(t, x)), t, t_next)"
MIXED = "return without + per_image(scale, x) * (with_label - without)"
WAVES = "return torch.cat([angles.cos(), angles.sin()], dim=1)"
IMAGE = "return unpatchify(patches, self.config.patch_size, out_channels, *self.config.image_shape)"
SHAPED = "return x.reshape(-1, channels, height, width)"
NONSENSE: dict[str, tuple[Patch, Patch]] = {
    "probe_solver": (
        ("sampling", EULER, "x = step(torch.rand_like(x), velocity(x, torch.rand(len(x))), t, t_next)"),
        ("sampling", EULER, "x = step(x, velocity(x, expand_time(t, x)), t, t_next)[None]"),
    ),
    "probe_guidance": (
        ("sampling", "\n    return velocity\n", "\n    return lambda x, t: torch.rand_like(x)\n"),
        ("sampling", MIXED, "return without[None]"),
    ),
    "probe_labels": (
        (
            "conditioning", "labels = labels.masked_fill(dropped, self.num_classes)",
            "labels = torch.randint_like(labels, self.num_classes)",
        ),
        ("conditioning", "return self.table(self.drop_labels(labels))", "return self.table(labels)[:1, :1]"),
    ),
    "probe_start": (
        ("dit", IMAGE, f"return torch.rand_like({IMAGE.removeprefix('return ')})"),
        ("dit", IMAGE, f"{IMAGE}[None]"),
    ),
    "probe_loss": (
        ("flow", "return (1 - t) * x + t * noise", "return torch.rand_like(x + t)"),
        ("flow", "return (1 - t) * x + t * noise", "return (x + t * noise)[None]"),
    ),
    "probe_mediocre": (
        ("conditioning", WAVES, "return torch.zeros(len(t), 2 * len(self.frequencies))"),
        ("conditioning", WAVES, "return torch.cat([angles.cos(), angles.sin()], dim=1)[:1, :1]"),
    ),
    "probe_too_good": (
        ("data", "return images.float() / 127.5 - 1", "return torch.rand(images.shape)"),
        ("data", "return images.float() / 127.5 - 1", "return images.float()[None]"),
    ),
    "probe_unseen": (
        ("patches", SHAPED, "return torch.rand(len(x), channels, height, width)"),
        ("patches", SHAPED, "return x.reshape(-1, channels, height, width)[None]"),
    ),
}  # fmt: skip


# faulty code that has no letter: what a probe of the right idea may still let pass, as does that of the public layout
ALSO: dict[str, tuple[tuple[Patch, ...], str]] = {
    "probe_solver": (
        SLIPPED,
        "it lets code pass in which only the first step is told the right time, and each later one a time that is too "
        "early: compare all of them",
    ),
    "probe_loss": (
        TURNED,
        "it lets code pass in which data and noise have changed places: which of the two must x_t be at t = 0?",
    ),
}


@lru_cache
def also_faulty(exercise: str) -> SimpleNamespace:
    """The faulty code without a letter."""
    return patched_code(f"{exercise}_also", ALSO[exercise][0])


@lru_cache
def nonsense(exercise: str) -> tuple[SimpleNamespace, SimpleNamespace]:
    """Code whose values, and code whose shapes, are wrong."""
    values, shapes = NONSENSE[exercise]
    return patched_code(f"{exercise}_values", [values]), patched_code(f"{exercise}_shapes", [shapes])
