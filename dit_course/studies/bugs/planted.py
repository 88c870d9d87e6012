"""The bugs of lesson 12: what changes in the code, and where the like of it was discussed in public."""

from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace

from dit_course.studies.bugs.code import patched_code


@dataclass(frozen=True)
class Bug:
    """One planted bug."""

    name: str
    what: str
    """What is wrong, in one sentence: the solution of the hunt."""
    lesson: str
    """Where the idea was taught."""
    level: int
    """1: the symptoms name the culprit; 2: they name the part; 3: they mislead; 4: there are none in this training."""
    patches: tuple[tuple[str, str, str], ...]
    """(room, old lines, new lines)."""
    seen: tuple[str, ...]
    """Public discussions of its like, owner/repository#number."""


def _bug(name: str, what: str, lesson: str, level: int, seen: str, *patches: tuple[str, str, str]) -> Bug:
    return Bug(name, what, lesson, level, patches, tuple(seen.split()))


BUGS = (
    _bug(
        "reversed_time", "The sampler tells the network 1 - t.", "08", 1, "primepake/splitmeanflow#2",
        ("sampling", "return t.to(x.device, x.dtype).expand", "return 1 - t.to(x.device, x.dtype).expand"),
    ),
    _bug(
        "wrong_half", "Guidance takes the unconditional half of the batch for the conditional one.", "08", 1,
        "QiaoyuHu89/DiffGui#5",
        ("sampling", "with_label, without = both.chunk(2)", "without, with_label = both.chunk(2)"),
    ),
    _bug(
        "late_time", "Each step evaluates the velocity at the time where the step ends.", "08", 4,
        "huggingface/diffusers#14013",
        (
            "sampling", "x = step(x, velocity(x, expand_time(t, x)), t, t_next)",
            "x = step(x, velocity(x, expand_time(t_next, x)), t, t_next)",
        ),
    ),
    _bug(
        "guided_three_channels", "Guidance acts on the first three channels only.", "08", 4,
        "facebookresearch/DiT#41 hustvl/LightningDiT#21",
        (
            "sampling", "return without + per_image(scale, x) * (with_label - without)",
            "rest = with_label[:, 3:]\n"
            "        with_label, without = with_label[:, :3], without[:, :3]\n"
            "        return torch.cat([without + per_image(scale, x) * (with_label - without), rest], dim=1)",
        ),
    ),
    _bug(
        "unscaled_time", "t in [0, 1] goes into the sinusoids without the factor 1000.", "03", 3,
        "ArchiMickey/Just-a-DiT#9 facebookresearch/flow_matching#17",
        ("conditioning", "angles = 1000 * t.float()", "angles = t.float()"),
    ),
    _bug(
        "never_dropped", "Labels are never dropped: guidance extrapolates from an untrained vector.", "03", 4,
        "lucidrains/DALLE2-pytorch#235 NVlabs/Sana#188",
        ("conditioning", "labels = labels.masked_fill(dropped", "labels.masked_fill(dropped"),
    ),
    _bug(
        "dropped_to_zero", "Dropped labels become class 0 in place of \"no label\".", "03", 4, "Nerogar/OneTrainer#957",
        ("conditioning", "masked_fill(dropped, self.num_classes)", "masked_fill(dropped, 0)"),
    ),
    _bug(
        "drops_while_sampling", "Label dropout also acts while the model samples.", "03", 4,
        "Nerogar/OneTrainer#957 facebookresearch/DME#3",
        ("conditioning", "if self.training and self.dropout > 0:", "if self.dropout > 0:"),
    ),
    _bug(
        "zeros_undone", "A later initialization of all linear layers undoes the zeros of adaLN-Zero.", "03", 3,
        "SWivid/F5-TTS#793",
        (
            "dit", "self.final = FinalLayer(config.width, out_channels * config.patch_size**2, config.norm)",
            "self.final = FinalLayer(config.width, out_channels * config.patch_size**2, config.norm)\n"
            "        for module in self.modules():\n"
            "            if isinstance(module, nn.Linear):\n"
            "                nn.init.xavier_uniform_(module.weight)",
        ),
    ),
    _bug(
        "swapped_modulation", "Scale and shift are swapped in the final layer.", "03", 4,
        "leejet/stable-diffusion.cpp#1707",
        ("blocks", "shift, scale = self.modulation", "scale, shift = self.modulation"),
    ),
    _bug(
        "swapped_grid", "unpatchify takes rows for columns, which squares never show.", "01", 4,
        "cloneofsimo/minRF#6 facebookresearch/DiT#91",
        (
            "patches", "tokens.reshape(-1, rows, columns, channels, patch_size, patch_size)",
            "tokens.reshape(-1, columns, rows, channels, patch_size, patch_size)",
        ),
        ("patches", "# (b, r, q, c, p, p) -> (b, c, r, p, q, p)", "# (b, q, r, c, p, p) -> (b, c, q, p, r, p)"),
    ),
    _bug(
        "half_range", "Pictures go in as [0, 1] and come out as if they had been [-1, 1].", "05", 3,
        "mlcommons/training#721 lucidrains/denoising-diffusion-pytorch#20",
        ("data", "return images.float() / 127.5 - 1", "return images.float() / 255"),
    ),
    _bug(
        "one_noise", "All pictures of a batch get the same noise.", "05", 3, "",
        (
            "flow", "noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)",
            "noise = torch.randn(x.shape[1:], generator=generator, device=x.device, dtype=x.dtype).expand(x.shape)",
        ),
    ),
    _bug(
        "repeated_noise", "Every step draws the same noise and times as the first.", "06", 3, "pytorch/pytorch#5059",
        ("training", "torch.manual_seed(_seed_of(seed, step))", "torch.manual_seed(_seed_of(seed, 0))"),
    ),
    _bug(
        "time_along_width", "Where batch and width are equal, t is multiplied along the width.", "05", 3,
        "ByteDance-Seed/VeOmni#1000 atong01/conditional-flow-matching#71",
        (
            "flow", "return t.to(x.device).reshape(t.shape + (1,) * (x.ndim - 1)) if t.ndim else t",
            "if t.ndim and len(t) == x.shape[-1]:\n"
            "        return t.to(x.device)\n"
            "    return t.to(x.device).reshape(t.shape + (1,) * (x.ndim - 1)) if t.ndim else t",
        ),
    ),
    _bug(
        "coarse_time", "Timesteps pass through bfloat16, which knows 128 values between 0.5 and 1.", "10", 4,
        "huggingface/diffusers#9405 modelscope/DiffSynth-Studio#562",
        (
            "conditioning", "angles = 1000 * t.float()[:, None]", "angles = (1000 * t).bfloat16().float()[:, None]",
        ),
    ),
    _bug(
        "gradients_kept", "Gradients are never set to zero, so each step adds to all before it.", "06", 2,
        "facebookresearch/nwm#16",
        ("training", "    optimizer.zero_grad()\n    return loss.detach()", "    return loss.detach()"),
    ),
    _bug(
        "cold_ema", "The EMA has no warm-up: for thousands of steps it holds the random start.", "07", 1,
        "openai/improved-diffusion#59 konpatp/diffae#16",
        (
            "ema", "return min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay",
            "return self.decay",
        ),
    ),
    _bug(
        "ema_of_itself", "The EMA averages its own weights.", "07", 2, "ostris/ai-toolkit#524",
        ("ema", "[p.detach() for p in model.parameters()]", "[p.detach() for p in self.model.parameters()]"),
    ),
    _bug(
        "coarse_ema", "The EMA keeps its weights in bfloat16, where small updates round to nothing.", "10", 2,
        "d8ahazard/sd_dreambooth_extension#1417",
        (
            "ema", "torch._foreach_lerp_(average, weights, 1 - self.current_decay())",
            "torch._foreach_lerp_(average, weights, 1 - self.current_decay())\n"
            "        for weight in average:\n"
            "            weight.copy_(weight.bfloat16())",
        ),
    ),
)  # fmt: skip


def find_bug(name: str) -> Bug:
    """The bug of this name; ValueError lists those there are."""
    for bug in BUGS:
        if bug.name == name:
            return bug
    raise ValueError(f"there is no bug {name!r}: there is {', '.join(bug.name for bug in BUGS)}")


@lru_cache
def plant(name: str) -> SimpleNamespace:
    """The package with one bug: a namespace with the names of `right_code()`."""
    bug = find_bug(name)
    return patched_code(bug.name, bug.patches)
