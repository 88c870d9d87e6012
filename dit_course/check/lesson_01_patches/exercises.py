"""Lesson 01: images to tokens and back, their embedding and their positions."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dit_course import patches
from dit_course.check.engine.compare import same
from dit_course.check.engine.exercise import Case, Draw, Exercise, ModuleCase
from dit_course.check.engine.mistakes import MatchesRule
from dit_course.check.lesson_01_patches import mistakes as wrong
from dit_course.check.lesson_01_patches.cases import image_inputs, label
from dit_course.check.stretch_solutions import overlapping_patches as overlapping

# -- patchify --------------------------------------------------------------------------------------

IN_PATCH = "the pixels inside each patch are transposed: which of its two axes is the row?"
GRID = "rows and columns of patches are swapped: the tokens run down the columns, but reading order is along the rows"
BOTH = "rows and columns are swapped, of the patches and of the pixels in them: height comes before width"
CHANNELS_LAST = "the channels come last in each token: a token is channels, then rows, then columns"
CHANNELS_BETWEEN = (
    "the channels of each token come between its rows and columns: channels come first, then rows, columns"
)
CHANNELS_OUTSIDE = (
    "one token holds pieces of several patches, as the channels come before the grid: which axes make a token?"
)
TOKENS_LAST = "tokens come last, as F.unfold leaves them: (batch, tokens, features) is wanted"
STILL_GRID = "the grid of patches still has two axes: tokens are one sequence"
MERGED_BATCH = "batch and tokens have become one axis: each picture keeps its own tokens"
FIRST_ONLY = "only the first picture of the batch comes back: is there a 0 where all of them are meant?"

TOKEN_MISTAKES = [
    IN_PATCH,
    wrong.reordered(0, 2, 4, 1, 5, 3),
    GRID,
    wrong.reordered(0, 4, 2, 1, 3, 5),
    BOTH,
    wrong.reordered(0, 4, 2, 1, 5, 3),
    CHANNELS_LAST,
    wrong.reordered(0, 2, 4, 3, 5, 1),
    CHANNELS_BETWEEN,
    wrong.reordered(0, 2, 4, 3, 1, 5),
    CHANNELS_OUTSIDE,
    wrong.reordered(0, 1, 2, 4, 3, 5),
    "the picture is only reshaped, so a token is a piece of pixel rows: bring the axes of one patch together first",
    wrong.reordered(0, 1, 2, 3, 4, 5),
    wrong.reordered(0, 2, 1, 3, 4, 5),
    wrong.reordered(0, 2, 3, 4, 1, 5),
    "the tokens are right but run backwards: start at the top left",
    lambda images, p: patches.patchify(images, p).flip(1),
]


def token_layout(tokens: Tensor) -> Tensor:
    """The first image's tokens, each as the patch that it holds, with gaps: (1, 34, 34)."""
    squares = tokens[0].reshape(7, 7, 4, 4)
    return F.pad(squares, (0, 1, 0, 1), value=0.6).permute(0, 2, 1, 3).reshape(1, 35, 35)[:, :34, :34]


patchify = Exercise(
    "patchify",
    reference=patches.patchify,
    lesson="01",
    number=1,
    cases=lambda draw: [Case((images, p), label(images, p)) for images, p in image_inputs(draw)],
    mistakes=[
        *TOKEN_MISTAKES,
        "the patches are cut, but not yet flattened into tokens",
        wrong.reordered(0, 2, 4, 1, 3, 5, flat=False),
        wrong.cut,
        STILL_GRID,
        lambda images, p: wrong.reordered(0, 2, 4, 1, 3, 5, flat=False)(images, p).flatten(3),
        TOKENS_LAST,
        lambda images, p: patches.patchify(images, p).transpose(1, 2),
        "tokens come before the batch: (batch, tokens, features) is wanted",
        lambda images, p: patches.patchify(images, p).transpose(0, 1),
        MERGED_BATCH,
        lambda images, p: patches.patchify(images, p).flatten(0, 1),
        FIRST_ONLY,
        lambda images, p: patches.patchify(images, p)[:1],
        lambda images, p: patches.patchify(images, p)[0],
    ],
    picture=token_layout,
)


# -- unpatchify ------------------------------------------------------------------------------------


def token_cases(draw: Draw) -> list[Case]:
    """Tokens of the pictures above, and the sizes of these."""
    cases = []
    for images, p in image_inputs(draw):
        tokens = patches.patchify(images, p)
        cases.append(Case((tokens, p, *images.shape[1:]), f"the tokens of {label(images, p)}"))
    return cases


unpatchify = Exercise(
    "unpatchify",
    reference=patches.unpatchify,
    refused=lambda draw: [Case((draw.normal(2, 5, 12), 2, 3, 4, 4), "5 tokens for 4 patches")],
    lesson="01",
    number=2,
    cases=token_cases,
    mistakes=[
        "rows and columns of patches are swapped: the first tokens belong side by side, in the first row",
        wrong.joined(0, 3, 2, 4, 1, 5, down=True),
        wrong.joined(0, 3, 2, 4, 1, 5),
        "every patch comes back transposed: rows of pixels belong beside rows of patches, columns beside columns",
        wrong.joined(0, 3, 1, 5, 2, 4),
        "your picture comes back transposed: height comes before width",
        wrong.joined(0, 3, 2, 5, 1, 4, down=True),
        wrong.joined(0, 3, 2, 5, 1, 4),
        lambda *args: patches.unpatchify(*args).transpose(2, 3),
        "the channels of a token are taken from its end: a token is channels, then rows, then columns",
        wrong.joined(0, 5, 1, 3, 2, 4, token="hwc"),
        "the channels come back in reverse order: the first numbers of a token are channel 0",
        lambda *args: patches.unpatchify(*args).flip(1),
        "the tokens are only reshaped, so each becomes a piece of pixel rows: the axes must be permuted first",
        wrong.joined(0, 1, 2, 3, 4, 5),
        "rows of patches and rows of pixels are not beside each other: which two axes make up the height?",
        wrong.joined(0, 3, 1, 2, 4, 5),
        wrong.joined(0, 3, 4, 1, 5, 2),
        "that is the order in which `patchify` permutes: the way back starts from other axes, so it needs another one",
        wrong.joined(0, 2, 4, 1, 3, 5),
        "the channels come last in your picture: (batch, channels, height, width) is wanted",
        lambda *args: patches.unpatchify(*args).permute(0, 2, 3, 1),
        FIRST_ONLY,
        lambda *args: patches.unpatchify(*args)[:1],
        lambda *args: patches.unpatchify(*args)[0],
        "the patches stand in the right order, but they are not joined into a picture yet",
        lambda t, p, c, h, w: t.reshape(-1, h // p, w // p, c, p, p).permute(0, 3, 1, 4, 2, 5),
    ],
    praise="The pictures come back whole",
    picture=lambda images: images[0],
)


# -- PatchEmbed ------------------------------------------------------------------------------------


def embedded(cut):
    """A wrong `PatchEmbed` that cuts the images by a wrong `patchify`; a hint stays as it is."""
    return cut if isinstance(cut, str) else lambda model, images: model.projection(cut(images, model.patch_size))


def embed_cases(draw: Draw) -> list[ModuleCase]:
    """Modules of other widths, and pictures for them."""
    cases = []
    for images, p in image_inputs(draw):
        channels, width = images.shape[1], 10 + len(cases)
        args = (p, channels, width)
        model = patches.PatchEmbed(*args).to(images.dtype)
        cases.append(ModuleCase(args, f"{label(images, p)}, width {width}", (images,), model, draw))
    return cases


PatchEmbed = Exercise(
    "PatchEmbed",
    reference=patches.PatchEmbed,
    exact=True,
    lesson="01",
    number=3,
    cases=embed_cases,
    mistakes=[
        *[embedded(mistake) for mistake in TOKEN_MISTAKES],
        "the width comes before the tokens, as a convolution leaves it: (batch, tokens, width) is wanted",
        lambda model, images: model(images).transpose(1, 2),
        (
            "your result still has the grid's two axes, as a convolution leaves it: flatten them, with the width at "
            "the end"
        ),
        lambda model, images: wrong.convolved(model, images),
        lambda model, images: wrong.convolved(model, images).movedim(1, 3),
        "there is a token at every pixel: a patch starts where the last one ended, so what must the stride be?",
        lambda model, images: wrong.convolved(model, images, 1).flatten(2).transpose(1, 2),
        "the bias is not added",
        lambda model, images: model(images) - model.projection.bias,
        "the tokens come back as they were cut: the linear map is not applied",
        lambda model, images: patches.patchify(images, model.patch_size),
        "an activation bends the result: the embedding is one linear map, nothing more",
        *[lambda model, images, bend=bend: bend(model(images)) for bend in (F.relu, F.gelu, F.silu, torch.tanh)],
        "the tokens are normalized: the embedding is one linear map, nothing more",
        lambda model, images: F.layer_norm(model(images), model(images).shape[-1:]),
        FIRST_ONLY,
        lambda model, images: model(images)[:1],
        lambda model, images: model(images)[0],
        MERGED_BATCH,
        lambda model, images: model(images).flatten(0, 1),
    ],
)


# -- sincos_position_embedding ---------------------------------------------------------------------


def position_cases(draw: Draw) -> list[Case]:
    """A square grid, and two that are not; the last is long and wide, where steps of 1 / n and float16 go wrong."""
    rows, columns, quarter = draw.sizes(3, 3, 9)
    sizes = [(7, 7, 64), (rows, columns, 4 * quarter), (rows, 90 + columns, 196)]
    return [Case(size, f"a {size[0]}x{size[1]} grid, width {size[2]}") for size in sizes]


def from_the_second_on(got: Tensor, expected: Tensor) -> bool:
    """Whether the first place is right and the second is not."""
    return got.shape == expected.shape and same(got[0], expected[0]) and not same(got[1], expected[1], 0.02)


def exact(*args: int) -> Tensor:
    """The right positions."""
    return patches.sincos_position_embedding(*args)


sincos_position_embedding = Exercise(
    "sincos_position_embedding",
    reference=patches.sincos_position_embedding,
    refused=lambda draw: [Case((2, 3, 6), "a width of 6")],
    lesson="01",
    number=5,
    partly="is one size taken for another, or written as a number? Does a step like 1 / n reach once too far?",
    cases=position_cases,
    mistakes=[
        "the halves are swapped: the first encodes the column, the second the row",
        wrong.altered(first="row"),
        "the positions run down the columns: reading order runs along the rows, as the tokens do",
        wrong.downwards,
        "sines and cosines take turns: here all sines come first, then all cosines",
        wrong.interleaved,
        "sines and cosines are swapped: the sines come first",
        wrong.altered(order="cs"),
        "the tokens are numbered as in a text: a place has a row and a column, and each gets half of the features",
        wrong.one_dimensional,
        "the last of your frequencies is 1/10000, so the exponent is divided by one too few: it is k / (width / 4)",
        wrong.altered(frequency=lambda k, n: 10000 ** (-k / (n - 1))),
        "the frequencies fall too slowly: each axis has width / 4 of them, and they reach down to about 1/10000",
        wrong.altered(frequency=lambda k, n: 10000 ** (-k / (2 * n))),
        wrong.altered(frequency=lambda k, n: 10000 ** (-k / (4 * n))),
        "the frequencies grow instead of falling: the sign of the exponent is wrong",
        wrong.altered(frequency=lambda k, n: 10000 ** (k / n)),
        "your grid starts at 1: counting starts at 0",
        wrong.altered(start=1),
        "the places are divided by the size of the grid: they are whole numbers of patches",
        lambda rows, columns, width: wrong.scaled_to_one(rows, columns, width, 0),
        lambda rows, columns, width: wrong.scaled_to_one(rows, columns, width, 1),
        "your waves turn 2 pi times too fast: the shortest is 2 pi patches long",
        wrong.altered(scale=2 * math.pi),
        "there are only sines: each wave comes as a sine and as a cosine",
        wrong.altered(order="ss"),
        "the grid still has two axes: a row for each token is wanted",
        lambda rows, columns, width: exact(rows, columns, width).reshape(rows, columns, width),
        "your table lies on its side: a row for each token, a column for each feature",
        lambda *args: exact(*args).T,
        "the four parts are in another order: sines and cosines of the column, then sines and cosines of the row",
        lambda *args: torch.cat([exact(*args).chunk(4, dim=1)[i] for i in (0, 2, 1, 3)], dim=1),
        MatchesRule(
            "only place (0, 0) is right, where every angle is 0. Look at the frequencies (they start "
            "at 1 and fall: k from 0, n = width / 4), and at whether rows and columns are both used",
            from_the_second_on,
        ),
    ],
    picture=lambda positions: positions.T[None].repeat_interleave(2, dim=2),  # (49, 64) -> (1, 64, 98): a row a feature
    tolerance=1e-3,  # angles in float32 are fine
)


# -- stretch: overlapping_patches ------------------------------------------------------------------


def overlapping_cases(draw: Draw) -> list[Case]:
    """Strides below, at and above the patch size, and sizes that leave something over."""
    cases = []
    for (images, p), stride in zip(image_inputs(draw), (2, None, 1), strict=True):
        stride = stride or p + 1
        cases.append(Case((images, p, stride), f"{label(images, p)}, stride {stride}"))
    images, p = image_inputs(draw)[1]
    cases.append(Case((images, p, p), f"{label(images, p)}, stride {p}"))
    return cases


overlapping_patches = Exercise(
    "overlapping_patches",
    reference=overlapping,
    lesson="01",
    number=6,
    cases=overlapping_cases,
    mistakes=[
        IN_PATCH,
        wrong.rearranged(0, 2, 3, 1, 5, 4),
        GRID,
        wrong.rearranged(0, 3, 2, 1, 4, 5),
        BOTH,
        wrong.rearranged(0, 3, 2, 1, 5, 4),
        CHANNELS_LAST,
        wrong.rearranged(0, 2, 3, 4, 5, 1),
        CHANNELS_OUTSIDE,
        wrong.rearranged(0, 1, 2, 3, 4, 5),
        "the stride is not used: patches start every `stride` pixels, wherever the last one ended",
        lambda images, p, stride: overlapping(images, p, p),
        "the last row and the last column of patches are missing: a patch may end right at the edge",
        wrong.too_few,
        "patches reach over the edge of the picture: here all of them lie within it, nothing is padded",
        lambda images, p, stride: F.unfold(images, p, stride=stride, padding=1).mT,
        "stride and patch size are swapped",
        lambda images, p, stride: overlapping(images, stride, p),
        TOKENS_LAST,
        lambda *args: overlapping(*args).transpose(1, 2),
        STILL_GRID,
        lambda *args: wrong.windows(*args).permute(0, 2, 3, 1, 4, 5).flatten(3),
        FIRST_ONLY,
        lambda *args: overlapping(*args)[:1],
        lambda *args: overlapping(*args)[0],
    ],
)
