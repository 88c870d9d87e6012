"""Lesson 04: what people write for registers, the whole network and its costs."""

import copy
import functools
import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from dit_course import dit, scaling
from dit_course.patches import sincos_position_embedding, unpatchify
from mutants import mutant, right_answer

# -- append_registers ------------------------------------------------------------------------------


@right_answer(exercise="append_registers")
def by_repeat(tokens, registers):
    return torch.cat((tokens, registers.type_as(tokens).unsqueeze(0).repeat(tokens.shape[0], 1, 1)), 1)


@right_answer(exercise="append_registers")
def picture_by_picture(tokens, registers):
    return torch.stack([torch.vstack([picture, registers.to(tokens.dtype)]) for picture in tokens])


@right_answer(exercise="append_registers")
def by_filling(tokens, registers):
    batch, patches, width = tokens.shape
    longer = tokens.new_zeros(batch, patches + len(registers), width)
    longer[:, :patches] = tokens
    longer[:, patches:] = registers
    return longer


def behind(tokens, registers):
    return torch.cat([tokens, registers.to(tokens.dtype).expand(len(tokens), -1, -1)], dim=1)


@mutant(exercise="append_registers", hint="your answer has shape")
def mean_added(tokens, registers):
    return tokens + registers.to(tokens.dtype).mean(0, keepdim=True)


@mutant(exercise="append_registers", hint="the registers come out as other numbers")
def new_random_ones(tokens, registers):
    return behind(tokens, 0.02 * torch.randn(registers.shape))


@mutant(exercise="append_registers", hint="the registers lack the axis of the batch")
def no_batch(tokens, registers):
    return torch.cat([tokens, registers], dim=1)


@mutant(exercise="append_registers", hint="along which axis do they join?")
def along_the_batch(tokens, registers):
    return torch.cat([tokens, registers.expand(len(tokens), -1, -1)], dim=0)


@mutant(exercise="append_registers", hint="along which axis do they join?")
def along_the_features(tokens, registers):
    return torch.cat([tokens, registers.expand(len(tokens), -1, -1)], dim=2)


@mutant(exercise="append_registers", hint="your answer has shape")
def one_register(tokens, registers):
    return behind(tokens, registers[:1])


@mutant(exercise="append_registers", hint="give the registers the dtype of the tokens")
def in_single_precision(tokens, registers):
    return behind(tokens, registers).float()


@mutant(exercise="append_registers", hint="give the registers the dtype of the tokens")
def dtype_forgotten(tokens, registers):
    return torch.cat([tokens, registers.expand(len(tokens), -1, -1)], dim=1)


@mutant(exercise="append_registers", hint="no gradient gets through to the registers")
def registers_detached(tokens, registers):
    return behind(tokens, registers.detach())


@mutant(exercise="append_registers", hint="no gradient gets through to the tokens")
def tokens_detached(tokens, registers):
    return behind(tokens.data, registers)


@mutant(exercise="append_registers", hint="no gradient gets through")
def frozen(tokens, registers):
    return torch.tensor(behind(tokens, registers).tolist(), dtype=tokens.dtype)


# -- drop_registers --------------------------------------------------------------------------------


@right_answer(exercise="drop_registers")
def by_narrow(tokens, count):
    return tokens.narrow(1, 0, tokens.size(1) - count)


@right_answer(exercise="drop_registers")
def with_an_if(tokens, count):
    return tokens[:, :-count] if count else tokens


@right_answer(exercise="drop_registers")
def by_split(tokens, count):
    patches, _ = tokens.split([tokens.shape[1] - count, count], dim=1)
    return patches


# -- DiT -------------------------------------------------------------------------------------------


@right_answer(exercise="DiT")
class InSmallSteps(dit.DiT):
    def forward(self, x, t, y=None):
        self._check(x, t, y)
        told = self.time_embed(t)
        if y is not None:
            told = told + self.label_embed(y)
        h = self.patch_embed(x) + self.positions
        n = h.shape[1]
        h = torch.cat([h, self.registers.repeat(len(x), 1, 1)], 1)
        for i in range(len(self.blocks)):
            h = self.blocks[i](h, told)
        channels = self.config.channels if self.config.out_channels is None else self.config.out_channels
        return unpatchify(self.final(h[:, :n], told), self.config.patch_size, channels, x.shape[2], x.shape[3])


@right_answer(exercise="DiT")
class ByReduce(dit.DiT):
    def forward(self, x, t, y=None):
        self._check(x, t, y)
        condition, p = self.condition(t, y), self.config.patch_size
        tokens = functools.reduce(lambda tokens, block: block(tokens, condition), self.blocks, self.embed(x))
        patches = self.final(tokens[:, : len(self.positions)], condition)
        return F.fold(patches.mT, self.config.image_shape, p, stride=p)


@right_answer(exercise="DiT")
class DropsAfterTheLastLayer(dit.DiT):
    """The last layer treats each token by itself, so the registers may go after it as well."""

    def forward(self, x, t, y=None):
        self._check(x, t, y)
        condition, tokens = self.condition(t, y), self.embed(x)
        for block in self.blocks:
            tokens = block(tokens, condition)
        patches = dit.drop_registers(self.final(tokens, condition), self.config.registers)
        out = self.config.out_channels or self.config.channels
        return unpatchify(patches, self.config.patch_size, out, *self.config.image_shape)


@mutant(exercise="DiT", hint="the condition is made 3 times")
class AnotherConditionForEach(dit.DiT):
    def forward(self, x, t, y=None):
        self._check(x, t, y)
        tokens = self.embed(x)
        for block in self.blocks:
            tokens = block(tokens, self.condition(t, y))
        tokens = dit.drop_registers(tokens, self.config.registers)
        out = self.config.out_channels or self.config.channels
        return unpatchify(
            self.final(tokens, self.condition(t, y)), self.config.patch_size, out, *self.config.image_shape
        )


class Network(dit.DiT):
    """The frame of many wrong answers."""

    def told(self, t, y):
        return self.condition(t, y)

    def begin(self, x):
        return self.embed(x)

    def order(self):
        return self.blocks

    def drop(self, tokens):
        rows, columns = self.config.grid
        return tokens[:, : rows * columns]

    def finish(self, patches):
        out = self.config.out_channels or self.config.channels
        return unpatchify(patches, self.config.patch_size, out, *self.config.image_shape)

    def forward(self, x, t, y=None):
        self._check(x, t, y)
        told, tokens = self.told(t, y), self.begin(x)
        for block in self.order():
            tokens = block(tokens, told)
        return self.finish(self.final(self.drop(tokens), told))


@mutant(exercise="DiT", hint="the blocks are not run")
class NotKept(Network):
    def forward(self, x, t, y=None):
        condition, tokens = self.condition(t, y), self.embed(x)
        for block in self.blocks:
            block(tokens, condition)
        return self.finish(self.final(self.drop(tokens), condition))


@mutant(exercise="DiT", hint="only one of the blocks leaves a trace")
class AlwaysFromTheStart(Network):
    def forward(self, x, t, y=None):
        condition, tokens = self.condition(t, y), self.embed(x)
        for block in self.blocks:
            out = block(tokens, condition)
        return self.finish(self.final(self.drop(out), condition))


@mutant(exercise="DiT", hint="only one of the blocks leaves a trace")
class ReturnInTheLoop(Network):
    def order(self):
        return self.blocks[:1]


@mutant(exercise="DiT", hint="the blocks are run twice")
class RunTwice(Network):
    def order(self):
        return [*self.blocks, *self.blocks]


@mutant(exercise="DiT", hint="the blocks are run twice")
class EachTwice(Network):
    def order(self):
        return [block for block in self.blocks for _ in range(2)]


@mutant(exercise="DiT", hint="wrong order")
class Backwards(Network):
    def order(self):
        return reversed(self.blocks)


@mutant(exercise="DiT", hint="no patch has ever seen them")
class DroppedTooEarly(Network):
    def begin(self, x):
        return self.drop(self.embed(x))


@mutant(exercise="DiT", hint="know nothing of their positions")
class OnlyPatches(Network):
    def begin(self, x):
        return self.patch_embed(x)


@mutant(exercise="DiT", hint="know nothing of their positions")
class NoPositions(Network):
    def begin(self, x):
        return dit.append_registers(self.patch_embed(x), self.registers)


@mutant(exercise="DiT", hint="the class has no influence")
class NoClass(Network):
    def told(self, t, y):
        return self.time_embed(t)


@mutant(exercise="DiT", hint="the class has no influence")
class NoLabel(Network):
    def told(self, t, y):
        return self.condition(t, None if y is None else 0 * y + self.config.num_classes)


@mutant(exercise="DiT", hint="height and width are swapped")
class WidthFirst(Network):
    def finish(self, patches):
        height, width = self.config.image_shape
        return unpatchify(
            patches, self.config.patch_size, self.config.out_channels or self.config.channels, width, height
        )


@mutant(exercise="DiT", hint="still a list of patches")
class StillTokens(Network):
    def finish(self, patches):
        return patches


@mutant(exercise="DiT", hint="the input is added to the output")
class Residual(Network):
    def forward(self, x, t, y=None):
        return x + super().forward(x, t, y)


@mutant(exercise="DiT", hint="the registers are still there")
class RegistersKept(Network):
    def drop(self, tokens):
        return tokens


@mutant(exercise="DiT", hint="the label does not arrive")
class LabelNotPassed(Network):
    def told(self, t, y):
        return self.condition(t)


@mutant(exercise="DiT", hint="the registers are there twice")
class RegistersTwice(Network):
    def begin(self, x):
        return dit.append_registers(self.embed(x), self.registers)


@mutant(exercise="DiT", hint="the last block has no part in the answer")
class LastBlockSkipped(Network):
    def order(self):
        return self.blocks[:-1]


@mutant(exercise="DiT", hint="the first block is left out")
class FirstBlockSkipped(Network):
    def order(self):
        return self.blocks[1:]


@mutant(exercise="DiT", hint="the residual is inside of the blocks already")
class ResidualInTheLoop(Network):
    def forward(self, x, t, y=None):
        told, tokens = self.told(t, y), self.begin(x)
        for block in self.order():
            tokens = tokens + block(tokens, told)
        return self.finish(self.final(self.drop(tokens), told))


@mutant(exercise="DiT", hint="`image_shape` always is one")
class ImageSizeTwice(Network):
    def finish(self, patches):
        config = self.config
        out = config.out_channels or config.channels
        return unpatchify(patches, config.patch_size, out, config.image_size, config.image_size)


@mutant(exercise="DiT", hint="a star spreads a pair")
class StarForgotten(Network):
    def finish(self, patches):
        out = self.config.out_channels or self.config.channels
        return unpatchify(patches, self.config.patch_size, out, self.config.image_shape)


@mutant(exercise="DiT", hint="call one block after the other, in a loop")
class BlocksCalled(Network):
    def forward(self, x, t, y=None):
        told = self.told(t, y)
        return self.finish(self.final(self.drop(self.blocks(self.begin(x), told)), told))


@mutant(exercise="DiT", hint="`self.registers` is the table")
class TableForCount(Network):
    def drop(self, tokens):
        return dit.drop_registers(tokens, self.registers)


@mutant(exercise="DiT", hint="registers were dropped that nobody has put there")
class DroppedAndNeverPut(Network):
    def begin(self, x):
        return self.patch_embed(x) + self.positions

    def drop(self, tokens):
        return dit.drop_registers(tokens, self.config.registers)


@mutant(exercise="DiT", hint="is it what the last layer returns")
class LastLayerForgotten(Network):
    def forward(self, x, t, y=None):
        told, tokens = self.told(t, y), self.begin(x)
        for block in self.order():
            tokens = block(tokens, told)
        return self.finish(self.drop(tokens))


@mutant(exercise="DiT", hint="the blocks and the last layer take (tokens, condition)")
class NoCondition(Network):
    def forward(self, x, t, y=None):
        tokens = self.embed(x)
        for block in self.blocks:
            tokens = block(tokens)
        return self.finish(self.final(self.drop(tokens), self.condition(t, y)))


@mutant(exercise="DiT", hint="out_channels")
class NoOutChannels(Network):
    def finish(self, patches):
        return unpatchify(patches, self.config.patch_size, self.config.out_channels, *self.config.image_shape)


@mutant(exercise="DiT", hint="`out_channels` of them")
class InputChannels(Network):
    def finish(self, patches):
        return unpatchify(patches, self.config.patch_size, self.config.channels, *self.config.image_shape)


@mutant(exercise="DiT", hint="no gradient gets through")
class WithoutGradient(Network):
    @torch.no_grad()
    def forward(self, x, t, y=None):
        return super().forward(x, t, y)


@mutant(exercise="DiT", hint="your module has parameters that it does not need")
class MoreParameters(Network):
    def __init__(self, config):
        super().__init__(config)
        self.more = nn.Linear(3, 3)


# -- count_parameters ------------------------------------------------------------------------------


def ends(config, work=False):
    """What the cell gives for the ends of the network, of parameters or of multiply-adds, and 0 for each other part."""
    w, c = config.width, config.channels
    pixels, outputs = (n * config.patch_size**2 for n in (c, config.out_channels or c))
    if work:
        parts = {"patches in and out": math.prod(config.grid) * (pixels + outputs) * w}
        parts |= {"last modulation": 2 * w * w, "time and class": 256 * w + w * w}
        return dict.fromkeys(("attention", "pairs of tokens", "MLP", "adaLN"), 0) | parts
    classes = 0 if config.num_classes is None else config.num_classes + 1
    parts = {"patches in and out": (pixels + 1) * w + (w + 1) * outputs, "last modulation": (w + 1) * 2 * w}
    parts |= {"time and class": 257 * w + (w + 1) * w + classes * w, "registers": config.registers * w}
    return dict.fromkeys(("attention", "MLP", "adaLN"), 0) | parts


@right_answer(exercise="count_parameters")
def from_the_network(config):
    counts = dict.fromkeys(ends(config), 0)
    for name, parameter in dit.DiT(config).named_parameters():
        part = (
            "attention"
            if "attention" in name
            else "MLP"
            if "mlp" in name
            else "adaLN"
            if "modulation" in name and "blocks" in name
            else "last modulation"
            if "modulation" in name
            else "patches in and out"
            if "patch" in name or "final.linear" in name
            else "registers"
            if name == "registers"
            else "time and class"
        )
        counts[part] += parameter.numel()
    return counts


def counted(config, attention=None, mlp=None, adaln=None):
    """The right counts, some of them replaced: numbers for one block."""
    w, hidden = config.width, int(config.width * config.mlp_ratio)
    counts = ends(config)
    scales = 2 * (w // config.heads) if config.qk_norm else 0
    attention = 4 * (w * w + w) + scales if attention is None else attention(w, w // config.heads, scales)
    mlp = 2 * w * hidden + w + hidden if mlp is None else mlp(w, hidden)
    adaln = 6 * w * w + 6 * w if adaln is None else adaln(w)
    counts["attention"], counts["MLP"] = config.depth * attention, config.depth * mlp
    counts["adaLN"] = config.depth * adaln
    return counts


def layers(config):
    """(from, to) of the linear layers of a block, by its parts."""
    w, hidden = config.width, int(config.width * config.mlp_ratio)
    return {"attention": [(w, 3 * w), (w, w)], "MLP": [(w, hidden), (hidden, w)], "adaLN": [(w, 6 * w)]}


@right_answer(exercise="count_parameters")
def layer_after_layer(config):
    counts = ends(config)
    for part, pairs in layers(config).items():
        counts[part] = sum(a * b + b for _ in range(config.depth) for a, b in pairs)
    counts["attention"] += config.depth * config.qk_norm * 2 * config.width // config.heads
    return counts


@right_answer(exercise="count_parameters")
def multiplied_out(config):
    return counted(config)


@mutant(exercise="count_parameters", hint="your count is a Tensor")
def tensors(config):
    return {part: torch.tensor(count) for part, count in scaling.count_parameters(config).items()}


@mutant(exercise="count_parameters", hint="is the right count, but a float")
def floats(config):
    return {part: count / 1 for part, count in scaling.count_parameters(config).items()}


@mutant(exercise="count_parameters", hint="attention: that is one block")
def one_block_of_parameters(config):
    return {part: scaling.count_parameters(replace(config, depth=1))[part] for part in scaling.count_parameters(config)}


@mutant(exercise="count_parameters", hint="lack the part 'patches in and out'")
def only_blocks(config):
    return {part: scaling.count_parameters(config)[part] for part in ("attention", "MLP", "adaLN")}


@mutant(exercise="count_parameters", hint="times as many")
def for_two_blocks(config):
    return counted(config, lambda w, head, s: 2 * (4 * w * (w + 1) + s))


@mutant(exercise="count_parameters", hint="lack the part 'attention'")
def other_words(config):
    return {part.upper(): count for part, count in scaling.count_parameters(config).items()}


@mutant(exercise="count_parameters", hint="a part that is not asked for")
def one_part_more(config):
    return {**scaling.count_parameters(config), "positions": 0}


@mutant(exercise="count_parameters", hint="plain number")
def the_sum(config):
    return sum(scaling.count_parameters(config).values())


# -- count_multiply_adds ---------------------------------------------------------------------------


def worked(config, tokens=None, linear=None, pairs=None, mlp=None, adaln=None):
    """The right counts, some of them replaced: numbers for one block."""
    w, hidden = config.width, int(config.width * config.mlp_ratio)
    height, width = config.image_shape
    n = height * width // config.patch_size**2 + config.registers
    n = n if tokens is None else tokens(config)
    counts = ends(config, work=True)
    counts["attention"] = config.depth * (4 * n * w * w if linear is None else linear(n, w))
    counts["pairs of tokens"] = config.depth * (2 * n * n * w if pairs is None else pairs(n, w))
    counts["MLP"] = config.depth * (2 * n * w * hidden if mlp is None else mlp(n, w, hidden))
    counts["adaLN"] = config.depth * (6 * w * w if adaln is None else adaln(n, w))
    return counts


@right_answer(exercise="count_multiply_adds")
def layer_by_layer(config):
    return worked(config)


@right_answer(exercise="count_multiply_adds")
def token_by_token(config):
    n, counts = math.prod(config.grid) + config.registers, ends(config, work=True)
    for part, pairs in layers(config).items():
        counts[part] = config.depth * sum(a * b for a, b in pairs) * (1 if part == "adaLN" else n)
    counts["pairs of tokens"] = config.depth * sum(2 * n * config.width for _ in range(n))
    return counts


@right_answer(exercise="count_multiply_adds")
def from_the_layers(config):
    model, counts = dit.DiT(config), worked(config)
    tokens = len(model.positions) + config.registers
    block = model.blocks[0]
    counts["attention"] = config.depth * tokens * (block.attention.qkv.weight.numel() + config.width**2)
    counts["MLP"] = config.depth * tokens * 2 * block.mlp.up.weight.numel()
    return counts


@mutant(exercise="count_multiply_adds", hint="attention: you count twice")
def flops(config):
    return {part: 2 * count for part, count in worked(config).items()}


@mutant(exercise="count_multiply_adds", hint="returns a list")
def a_list(config):
    return list(worked(config).values())


# -- resized ---------------------------------------------------------------------------------------


@right_answer(exercise="resized")
def by_deepcopy(model, image_size):
    other = copy.deepcopy(model)
    other.config = replace(model.config, image_size=image_size)
    other.positions = sincos_position_embedding(*other.config.grid, other.config.width)
    return other.eval()


@right_answer(exercise="resized")
def by_one_long_vector(model, image_size):
    other = dit.DiT(replace(model.config, image_size=image_size)).train(False)
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(model.parameters()), other.parameters())
    return other


def and_the_original(change):
    """A right copy, after which something happens to the original."""

    def wrong(model, image_size):
        other = by_deepcopy(model, image_size)
        change(model)
        return other

    return wrong


for hint, change in (
    ("in another mode (train or eval) now", lambda model: model.train(not model.training)),
    ("has another configuration or other weights now", lambda model: nn.init.zeros_(model.registers)),
    ("has another configuration or other weights now", lambda model: nn.init.ones_(model.final.linear.bias)),
    ("is frozen, or has lost its gradients", lambda model: model.requires_grad_(False)),
    ("is frozen, or has lost its gradients", lambda model: model.zero_grad()),
):
    mutant("resized", hint)(and_the_original(change))


@mutant(exercise="resized", hint="`registers` is not copied")
def without_registers(model, image_size):
    other = by_deepcopy(model, image_size)
    nn.init.normal_(other.registers)
    return other


@mutant(exercise="resized", hint="is made in `__init__`, for the grid of its configuration")
def with_the_old_positions(model, image_size):
    other = copy.deepcopy(model).eval()
    other.config = replace(model.config, image_size=image_size)
    return other


@mutant(exercise="resized", hint="`image_size` is a number or a pair")
def pairs_only(model, image_size):
    height, width = image_size
    return by_deepcopy(model, (height, width))


@right_answer(exercise="resized")
def weight_by_weight(model, image_size):
    other = dit.DiT(dit.DiTConfig(**{**vars(model.config), "image_size": image_size}))
    with torch.no_grad():
        for own, given in zip(other.parameters(), model.parameters(), strict=True):
            own.copy_(given)
    other.eval()
    return other


@mutant(exercise="resized", hint="that is the model itself")
def the_same_model(model, image_size):
    model.config = replace(model.config, image_size=image_size)
    model.positions = sincos_position_embedding(*model.config.grid, model.config.width)
    return model


@mutant(exercise="resized", hint="cannot assign to field 'image_size'")
def frozen_config(model, image_size):
    model.config.image_size = image_size
    return model


@mutant(exercise="resized", hint="in training mode")
def no_eval(model, image_size):
    other = dit.DiT(replace(model.config, image_size=image_size))
    other.load_state_dict(model.state_dict())
    return other


@mutant(exercise="resized", hint="has image_size = (4, 8)")
def turned(model, image_size):
    return by_deepcopy(model, image_size[::-1])


@mutant(exercise="resized", hint="has channels = 3")
def other_config(model, image_size):
    return dit.DiT(dit.DiTConfig(image_size=image_size)).eval()


@mutant(exercise="resized", hint="your answer returns a")
def what_loading_returns(model, image_size):
    return dit.DiT(replace(model.config, image_size=image_size)).load_state_dict(model.state_dict())


@mutant(exercise="resized", hint="returns nothing")
def what_eval_is_for(model, image_size):
    other = by_deepcopy(model, image_size)
    other.eval()


@mutant(exercise="resized", hint="both models share their weights")
def shared(model, image_size):
    other = copy.copy(by_deepcopy(model, image_size))
    other._modules = dict(model._modules)
    other._parameters = dict(model._parameters)
    return other


@mutant(exercise="resized", hint="an error stopped your code")
def old_positions(model, image_size):
    other = copy.deepcopy(model)
    other.config = replace(model.config, image_size=image_size)
    return other
