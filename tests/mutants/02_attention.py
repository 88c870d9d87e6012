"""Lesson 02: what people write for weights, heads, RMSNorm and self-attention."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from mutants import mutant, right_answer

# -- attention_weights -----------------------------------------------------------------------------


@right_answer(exercise="attention_weights")
def by_einsum(query, key):
    return torch.einsum("...nd,...md->...nm", query / math.sqrt(query.shape[-1]), key).softmax(-1)


@right_answer(exercise="attention_weights")
def by_hand(query, key):
    logits = torch.matmul(query, key.mT) / query.size(-1) ** 0.5
    exponentials = torch.exp(logits - logits.max(dim=-1, keepdim=True).values)
    return exponentials / exponentials.sum(-1, keepdim=True)


@right_answer(exercise="attention_weights")
def by_identity_values(query, key):
    identity = torch.eye(key.shape[-2], dtype=key.dtype).expand(*key.shape[:-1], key.shape[-2])
    return F.scaled_dot_product_attention(query, key, identity)


@right_answer(exercise="attention_weights")
def by_loops(query, key):
    rows = []
    for i in range(query.shape[-2]):
        scores = [(query[..., i, :] * key[..., j, :]).sum(-1) for j in range(key.shape[-2])]
        rows.append(F.softmax(torch.stack(scores, -1) / query.shape[-1] ** 0.5, dim=-1))
    return torch.stack(rows, -2)


@mutant(exercise="attention_weights", hint="your columns sum to 1, not your rows")
def softmax_over_queries(query, key):
    return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), dim=-2)


@mutant(exercise="attention_weights", hint="the softmax comes first and the division after it")
def divided_twice(query, key):
    return by_einsum(query, key) / query.shape[-1] ** 0.5


@mutant(exercise="attention_weights", hint="your table lies on its side")
def turned_at_the_end(query, key):
    return by_einsum(query, key).mT


@mutant(exercise="attention_weights", hint="exp of a large logit is infinite")
def naive_softmax(query, key):
    exponentials = torch.exp(query @ key.mT / query.shape[-1] ** 0.5)
    return exponentials / exponentials.sum(-1, keepdim=True)


@mutant(exercise="attention_weights", hint="values are NaN or infinite (on")
def naive_softmax_counted(query, key):
    return naive_softmax(query, key)


@mutant(exercise="attention_weights", hint="which axes of the keys must swap?")
def transpose_forgotten(query, key):
    return torch.softmax(query @ key / query.shape[-1] ** 0.5, -1)


@mutant(exercise="attention_weights", hint="right for one picture and one head")
def two_axes_only(query, key):
    return torch.softmax(query @ key.transpose(0, 1) / query.shape[-1] ** 0.5, -1)


@mutant(exercise="attention_weights", hint="right for one picture and one head")
def all_axes_turned(query, key):
    return torch.softmax(query @ key.permute(*reversed(range(key.ndim))) / query.shape[-1] ** 0.5, -1)


@mutant(exercise="attention_weights", hint="here are queries without any axes in front")
def axes_from_the_front(query, key):
    return torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, -1)


# -- split_heads -----------------------------------------------------------------------------------


@right_answer(exercise="split_heads")
def by_chunks(x, heads):
    return torch.stack(x.chunk(heads, dim=-1), dim=1)


@right_answer(exercise="split_heads")
def by_view_and_permute(x, heads):
    return x.view(x.size(0), x.size(1), heads, -1).permute(0, 2, 1, 3)


@right_answer(exercise="split_heads")
def by_slices(x, heads):
    size = x.shape[-1] // heads
    return torch.cat([x[:, None, :, head * size : (head + 1) * size] for head in range(heads)], dim=1)


@mutant(exercise="split_heads", hint="the heads take turns at the features")
def in_turns(x, heads):
    return x.reshape(len(x), x.shape[1], -1, heads).permute(0, 3, 1, 2)


@mutant(exercise="split_heads", hint="`//` divides to one")
def divided_with_one_slash(x, heads):
    return x.reshape(len(x), x.shape[1], heads, x.shape[2] / heads).transpose(1, 2)


@mutant(exercise="split_heads", hint="the tokens are shared among the heads")
def tokens_shared(x, heads):
    return torch.stack([part for part in x[:, : x.shape[1] // heads * heads].chunk(heads, dim=1)], dim=1)


@mutant(exercise="split_heads", hint="returns a tuple")
def chunks_as_they_are(x, heads):
    return x.chunk(heads, dim=-1)


# -- merge_heads -----------------------------------------------------------------------------------


@right_answer(exercise="merge_heads")
def by_cat(x):
    return torch.cat(x.unbind(1), dim=-1)


@right_answer(exercise="merge_heads")
def by_vmap(x):
    return torch.func.vmap(lambda heads: torch.cat(list(heads), dim=-1))(x)


@right_answer(exercise="merge_heads")
def by_permute_and_reshape(x):
    batch, heads, tokens, size = x.shape
    return x.permute(0, 2, 1, 3).reshape(batch, tokens, heads * size)


@mutant(exercise="merge_heads", hint="the heads are only reshaped")
def merged_by_reshape(x):
    return x.reshape(len(x), x.shape[2], -1)


@mutant(exercise="merge_heads", hint="the features of the heads take turns")
def merged_in_turns(x):
    return torch.stack(x.unbind(1), dim=-1).flatten(2)


@mutant(exercise="merge_heads", hint="view size is not compatible")
def view_after_transpose(x):
    return x.transpose(1, 2).view(len(x), x.shape[2], -1)


# -- RMSNorm ---------------------------------------------------------------------------------------


class Norm(nn.Module):
    """The frame of most answers."""

    def __init__(self, width, eps=1e-6, scale=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if scale else None

    def scaled(self, x):
        return x if self.weight is None else x * self.weight


@right_answer(exercise="RMSNorm")
class TorchsNorm(Norm):
    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


@right_answer(exercise="RMSNorm")
class AllInFloat32(Norm):
    def forward(self, x):
        wide = x.float()
        return self.scaled(wide / torch.sqrt((wide**2).mean(-1, keepdim=True) + self.eps)).type_as(x)


@right_answer(exercise="RMSNorm")
class ByTheLength(Norm):
    def forward(self, x):
        length = torch.linalg.vector_norm(x.double(), dim=-1, keepdim=True)
        return self.scaled(x / (length**2 / x.shape[-1] + self.eps).sqrt()).to(x.dtype)


@mutant(exercise="RMSNorm", hint="that is LayerNorm")
class LayerNorm(Norm):
    def forward(self, x):
        return self.scaled(F.layer_norm(x, x.shape[-1:], eps=self.eps))


@mutant(exercise="RMSNorm", hint="the root of the *sum* of squares")
class UnitLength(Norm):
    def forward(self, x):
        return self.scaled(x / torch.sqrt(x.square().sum(-1, keepdim=True) + self.eps))


@mutant(exercise="RMSNorm", hint="you divide by the mean square itself")
class NoRoot(Norm):
    def forward(self, x):
        return self.scaled(x / (x.square().mean(-1, keepdim=True) + self.eps))


@mutant(exercise="RMSNorm", hint="eps is missing or in another place")
class NoEps(Norm):
    def forward(self, x):
        return self.scaled(x * x.float().square().mean(-1, keepdim=True).rsqrt().to(x.dtype))


@mutant(exercise="RMSNorm", hint="eps is missing or in another place")
class EpsOutside(Norm):
    def forward(self, x):
        return self.scaled(x / (x.float().square().mean(-1, keepdim=True).sqrt() + self.eps).to(x.dtype))


@mutant(exercise="RMSNorm", hint="the mean goes over another axis")
class OverTokens(Norm):
    def forward(self, x):
        return self.scaled(x / torch.sqrt(x.square().mean(1, keepdim=True) + self.eps))


@mutant(exercise="RMSNorm", hint="the mean goes over another axis")
class OverEverything(Norm):
    def forward(self, x):
        return self.scaled(x / torch.sqrt(x.square().mean() + self.eps))


@mutant(exercise="RMSNorm", hint="the mean goes over another axis")
class OverTheBatch(Norm):
    def forward(self, x):
        return self.scaled(x / torch.sqrt((x**2).mean(0, keepdim=True) + self.eps))


@mutant(exercise="RMSNorm", hint="the learned scale is not used")
class ScaleForgotten(Norm):
    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)


@mutant(exercise="RMSNorm", hint="you divide by the mean size")
class MeanSize(Norm):
    def forward(self, x):
        return self.scaled(x / x.abs().mean(-1, keepdim=True))


@mutant(exercise="RMSNorm", hint="you multiply by the root of the mean square")
class Multiplied(Norm):
    def forward(self, x):
        return self.scaled(x * (x.square().mean(-1, keepdim=True) + self.eps).sqrt())


@mutant(exercise="RMSNorm", hint="not in half precision")
class InItsOwnDtype(Norm):
    def forward(self, x):
        return self.scaled(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))


@mutant(exercise="RMSNorm", hint="float16 goes in and float32 comes out")
class NeverCastBack(Norm):
    def forward(self, x):
        out = x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
        return out if self.weight is None else out * self.weight


@mutant(exercise="RMSNorm", hint="with the weight applied already")
class CastBackBeforeTheScale(Norm):
    def forward(self, x):
        return self.scaled(x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps).to(x.dtype))


@mutant(exercise="RMSNorm", hint="you square the mean")
class MeanThenSquare(Norm):
    def forward(self, x):
        return self.scaled(x * torch.rsqrt(x.float().mean(-1, keepdim=True).square() + self.eps).to(x.dtype))


@mutant(exercise="RMSNorm", hint="which leaves the mean out")
class ByStd(Norm):
    def forward(self, x):
        return self.scaled(x / (x.std(-1, keepdim=True) + self.eps))


@mutant(exercise="RMSNorm", hint="which leaves the mean out")
class ByVariance(Norm):
    def forward(self, x):
        return self.scaled(x / (x.var(-1, keepdim=True, correction=0) + self.eps).sqrt())


@mutant(exercise="RMSNorm", hint="that is LayerNorm")
class CentredByStd(Norm):
    def forward(self, x):
        return self.scaled((x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True))


@mutant(exercise="RMSNorm", hint="the root of the *sum* of squares")
class ByTorchsLength(Norm):
    def forward(self, x):
        return self.scaled(x / x.norm(dim=-1, keepdim=True))


@mutant(exercise="RMSNorm", hint="`self.weight is None` says")
class IfWeight(Norm):
    def forward(self, x):
        out = x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps).to(x.dtype)
        if self.weight:
            out = out * self.weight
        return out


@mutant(exercise="RMSNorm", hint="float16 goes in and float32 comes out")
class StaysInFloat32(Norm):
    def forward(self, x):
        x = x.float()
        out = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return out if self.weight is None else out * self.weight.float()


@mutant(exercise="RMSNorm", hint="does your mean keep its axis")
class KeepdimForgotten(Norm):
    def forward(self, x):
        return self.scaled(x / torch.sqrt(x.square().mean(-1) + self.eps))


@mutant(exercise="RMSNorm", hint="with scale=False `self.weight` is None")
class NoneForgotten(Norm):
    def forward(self, x):
        return x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps).to(x.dtype) * self.weight


@mutant(exercise="RMSNorm", hint="with scale=False there is nothing to learn")
class AlwaysScaled(Norm):
    def __init__(self, width, eps=1e-6, scale=True):
        super().__init__(width, eps, True)

    def forward(self, x):
        return TorchsNorm.forward(self, x)


# -- SelfAttention ---------------------------------------------------------------------------------


class Layers(nn.Module):
    """What is given in the exercise; `split` and so on are what an answer may do otherwise."""

    def __init__(self, width, heads, qk_norm=True):
        super().__init__()
        if width % heads:
            raise ValueError("no multiple")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.norm_q = TorchsNorm(width // heads) if qk_norm else nn.Identity()
        self.norm_k = TorchsNorm(width // heads) if qk_norm else nn.Identity()
        self.output = nn.Linear(width, width)
        for linear in (self.qkv, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def attention_map(self, x):
        query, key, _ = self.project_qkv(x)
        return by_hand(query, key)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def parts(self, x):
        return self.qkv(x).split(x.shape[-1], dim=-1)

    def project_qkv(self, x):
        query, key, value = map(self.split, self.parts(x))
        return self.norm_q(query), self.norm_k(key), value

    def mix(self, query, key, value):
        return F.scaled_dot_product_attention(query, key, value)

    def merge(self, x):
        return by_cat(x)

    def forward(self, x):
        return self.output(self.merge(self.mix(*self.project_qkv(x))))


@right_answer(exercise="SelfAttention")
class AtOnce(Layers):
    def project_qkv(self, x):
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return self.norm_q(query), self.norm_k(key), value


@right_answer(exercise="SelfAttention")
class WithTheTable(Layers):
    def mix(self, query, key, value):
        return by_hand(query, key) @ value


@right_answer(exercise="SelfAttention")
class NormsTheOtherWayRound(Layers):
    """The product of both scales is what counts, so this is no mistake."""

    def project_qkv(self, x):
        query, key, value = map(self.split, self.parts(x))
        return self.norm_k(query), self.norm_q(key), value


@right_answer(exercise="SelfAttention")
class HeadByHead(Layers):
    def forward(self, x):
        heads = [self.mix(*(part[:, head] for part in self.project_qkv(x))) for head in range(self.heads)]
        return self.output(torch.cat(heads, -1))


@mutant(exercise="SelfAttention", hint="`attention_map`, which was given, has changed")
class MapOfTheQueries(Layers):
    def attention_map(self, x):
        return super().attention_map(x).mT


@mutant(exercise="SelfAttention", hint="queries and keys go through the same norm")
class OneNorm(Layers):
    def project_qkv(self, x):
        query, key, value = map(self.split, self.parts(x))
        return self.norm_q(query), self.norm_q(key), value


@mutant(exercise="SelfAttention", hint="queries and keys are not normed")
class NormForgotten(Layers):
    def project_qkv(self, x):
        return tuple(map(self.split, self.parts(x)))


@mutant(exercise="SelfAttention", hint="only one of queries and keys is normed")
class OnlyQueries(Layers):
    def project_qkv(self, x):
        query, key, value = map(self.split, self.parts(x))
        return self.norm_q(query), key, value


@mutant(exercise="SelfAttention", hint="only one of queries and keys is normed")
class OnlyKeys(Layers):
    def project_qkv(self, x):
        query, key, value = map(self.split, self.parts(x))
        return query, self.norm_k(key), value


@mutant(exercise="SelfAttention", hint="the values are normed, too")
class ValuesNormed(Layers):
    def project_qkv(self, x):
        query, key, value = super().project_qkv(x)
        return query, key, self.norm_k(value)


@mutant(exercise="SelfAttention", hint="are taken in another order")
class KeysFirst(Layers):
    def parts(self, x):
        key, query, value = super().parts(x)
        return query, key, value


@mutant(exercise="SelfAttention", hint="are taken in another order")
class ValuesFirst(Layers):
    def parts(self, x):
        value, query, key = super().parts(x)
        return query, key, value


@mutant(exercise="SelfAttention", hint="the output's linear map is missing")
class OutputForgotten(Layers):
    def forward(self, x):
        return self.merge(self.mix(*self.project_qkv(x)))


@mutant(exercise="SelfAttention", hint="put together without moving their axis back")
class MergedByReshape(Layers):
    def merge(self, x):
        return merged_by_reshape(x)


@mutant(exercise="SelfAttention", hint="the heads are split before queries, keys and values are told apart")
class HeadsBeforeParts(Layers):
    def project_qkv(self, x):
        batch, tokens, width = x.shape
        both = self.qkv(x).reshape(batch, tokens, self.heads, 3 * width // self.heads).transpose(1, 2)
        query, key, value = both.chunk(3, dim=-1)
        return self.norm_q(query), self.norm_k(key), value


@mutant(exercise="SelfAttention", hint="the heads are split before queries, keys and values are told apart")
class ReshapedAtOnce(Layers):
    def project_qkv(self, x):
        batch, tokens, width = x.shape
        query, key, value = self.qkv(x).reshape(3, batch, self.heads, tokens, width // self.heads)
        return self.norm_q(query), self.norm_k(key), value


@mutant(exercise="SelfAttention", hint="divided by the root of d twice")
class ScaledTwice(Layers):
    def mix(self, query, key, value):
        return F.scaled_dot_product_attention(query / math.sqrt(query.shape[-1]), key, value)


@mutant(exercise="SelfAttention", hint="the logits are not divided by the root of d")
class Unscaled(Layers):
    def mix(self, query, key, value):
        return (query @ key.mT).softmax(-1) @ value


@mutant(exercise="SelfAttention", hint="the softmax goes over the queries")
class OverTheQueries(Layers):
    def mix(self, query, key, value):
        return softmax_over_queries(query, key) @ value


@mutant(exercise="SelfAttention", hint="tokens do not look ahead")
class Causal(Layers):
    def mix(self, query, key, value):
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)


@mutant(exercise="SelfAttention", hint="x is added to the result")
class WithResidual(Layers):
    def forward(self, x):
        return x + super().forward(x)


@mutant(exercise="SelfAttention", hint="there is one head only")
class OneHead(Layers):
    def forward(self, x):
        return self.output(self.mix(*self.parts(x)))


@mutant(exercise="SelfAttention", hint="the heads take turns at the features")
class Interleaved(Layers):
    def split(self, x):
        return in_turns(x, self.heads)


@mutant(exercise="SelfAttention", hint="the heads take turns at the features")
class InterleavedBothWays(Interleaved):
    def merge(self, x):
        return merged_in_turns(x)


@mutant(exercise="SelfAttention", hint="the values come through as they are")
class NothingMixed(Layers):
    def mix(self, query, key, value):
        return value


@mutant(exercise="SelfAttention", hint="only the first picture of the batch comes back")
class FirstOfTheBatch(Layers):
    def forward(self, x):
        return super().forward(x[:1])


@mutant(exercise="SelfAttention", hint="the norms come too early")
class NormedBeforeTheSplit(Layers):
    def project_qkv(self, x):
        query, key, value = self.parts(x)
        return self.split(self.norm_q(query)), self.split(self.norm_k(key)), self.split(value)


@mutant(exercise="SelfAttention", hint="`project_qkv` is right. now `forward`")
class ForwardToDo(Layers):
    def forward(self, x):
        raise NotImplementedError


@mutant(exercise="SelfAttention", hint="`forward` calls `project_qkv`, which still raises")
class HeadsToDo(Layers):
    def project_qkv(self, x):
        raise NotImplementedError


@mutant(exercise="SelfAttention", hint="`project_qkv` returns the right shapes, but not the right values")
class NoNormAndForwardToDo(ForwardToDo):
    def project_qkv(self, x):
        return tuple(map(self.split, self.parts(x)))


@mutant(exercise="SelfAttention", hint="of `project_qkv` the query has shape")
class NoSplitAndForwardToDo(ForwardToDo):
    def project_qkv(self, x):
        return self.parts(x)


@mutant(exercise="SelfAttention", hint="`project_qkv` should return three tensors")
class OneTensorAndForwardToDo(ForwardToDo):
    def project_qkv(self, x):
        return self.qkv(x)


@mutant(exercise="SelfAttention", hint="along another axis")
class CutAlongTheBatch(Layers):
    def parts(self, x):
        return self.qkv(x).chunk(3)


@mutant(exercise="SelfAttention", hint="are the values mixed and the heads merged before?")
class NotMerged(Layers):
    def merge(self, x):
        return x


@mutant(exercise="SelfAttention", hint="not tried yet")
class NothingDone(Layers):
    def project_qkv(self, x):
        raise NotImplementedError

    def forward(self, x):
        raise NotImplementedError


@mutant(exercise="SelfAttention", hint="but `project_qkv` does not return")
class HeadsForgotten(Layers):
    def forward(self, x):
        return self.output(self.merge(self.mix(*Layers.project_qkv(self, x))))

    def project_qkv(self, x):
        return self.parts(x)


# -- attention_in_chunks ---------------------------------------------------------------------------


@right_answer(exercise="attention_in_chunks")
def in_two_passes(query, key, value, size):
    chunks = list(zip(key.split(size, -2), value.split(size, -2), strict=True))
    scale = query.shape[-1] ** -0.5
    highest = torch.cat([(query @ k.mT * scale).amax(-1, keepdim=True) for k, _ in chunks], -1).amax(-1, keepdim=True)
    weights = [(query @ k.mT * scale - highest).exp() for k, _ in chunks]
    total = sum(weight.sum(-1, keepdim=True) for weight in weights)
    return sum(weight @ v for weight, (_, v) in zip(weights, chunks, strict=True)) / total


@right_answer(exercise="attention_in_chunks")
def by_logarithms(query, key, value, size):
    mixed, known = None, None
    for start in range(0, key.shape[-2], size):
        logits = query @ key[..., start : start + size, :].mT / query.shape[-1] ** 0.5
        here = logits.logsumexp(-1, keepdim=True)
        new = logits.softmax(-1) @ value[..., start : start + size, :]
        if mixed is None:
            mixed, known = new, here
        else:
            both = torch.logaddexp(known, here)
            mixed, known = mixed * (known - both).exp() + new * (here - both).exp(), both
    return mixed


@mutant(exercise="attention_in_chunks", hint="each chunk has a softmax of its own")
def softmaxes_averaged(query, key, value, size):
    pairs = list(zip(key.split(size, -2), value.split(size, -2), strict=True))
    return sum(F.scaled_dot_product_attention(query, k, v) for k, v in pairs) / len(pairs)


@mutant(exercise="attention_in_chunks", hint="each chunk has a softmax of its own")
def softmaxes_added(query, key, value, size):
    pairs = zip(key.split(size, -2), value.split(size, -2), strict=True)
    return sum(F.scaled_dot_product_attention(query, k, v) for k, v in pairs)


def with_the_loop(query, key, value, size, step):
    highest, total, mixed = torch.full_like(query[..., :1], -torch.inf), 0, 0
    for k, v in zip(key.split(size, -2), value.split(size, -2), strict=True):
        logits = query @ k.mT / query.shape[-1] ** 0.5
        new = torch.maximum(highest, logits.amax(-1, keepdim=True))
        highest, total, mixed = step(highest, new, total, mixed, (logits - new).exp(), v)
    return mixed / total


@mutant(exercise="attention_in_chunks", hint="the pictures of the batch are split")
def split_along_the_batch(query, key, value, size):
    def step(old, new, total, mixed, weights, v):
        factor = (old - new).exp()
        return new, total * factor + weights.sum(-1, keepdim=True), mixed * factor + weights @ v

    batches = key.split(size), value.split(size)
    for k, v in zip(*batches, strict=True):
        mixed = with_the_loop(query, k, v, size, step)
    return mixed


@mutant(exercise="attention_in_chunks", hint="keep its axis with size 1")
def keepdim_of_the_sum_forgotten(*args):
    def step(old, new, total, mixed, weights, v):
        factor = (old - new).exp()
        return new, total * factor + weights.sum(-1), mixed * factor + weights @ v

    return with_the_loop(*args, step)


@mutant(exercise="attention_in_chunks", hint="`.amax(dim)` the values alone")
def max_of_torch(query, key, value, size):
    highest = torch.full_like(query[..., :1], -torch.inf)
    return torch.maximum(highest, (query @ key.mT).max(dim=-1, keepdim=True))


@mutant(exercise="attention_in_chunks", hint="the other way round it is infinite")
def factor_upside_down(*args):
    def step(old, new, total, mixed, weights, v):
        factor = (new - old).exp()
        return new, total * factor + weights.sum(-1, keepdim=True), mixed * factor + weights @ v

    return with_the_loop(*args, step)


@mutant(exercise="attention_in_chunks", hint="exp of a large logit is infinite")
def nothing_subtracted(query, key, value, size):
    weights = torch.exp(query @ key.mT / query.shape[-1] ** 0.5)
    return weights @ value / weights.sum(-1, keepdim=True)


@mutant(exercise="attention_in_chunks", hint="keys are looked at together")
def at_once(query, key, value, size):
    return F.scaled_dot_product_attention(query, key, value)


@mutant(exercise="attention_in_chunks", hint="keys are looked at together")
def as_a_table(query, key, value, size):
    return by_hand(query, key) @ value


# -- register_share ----------------------------------------------------------------------------------


@right_answer(exercise="register_share")
def what_is_left(weights, registers):
    return 1 - weights[..., :-registers, :-registers].sum(-1).mean(-1)


@right_answer(exercise="register_share")
def register_by_register(weights, registers):
    of_patches = weights[..., :-registers, :]
    return sum(of_patches[..., -number].mean(-1) for number in range(1, registers + 1))


@mutant(exercise="register_share", hint="what the registers give to the patches")
def a_table_on_its_side(weights, registers):
    return register_by_register(weights.mT, registers) * (weights.shape[-1] - registers) / registers


@mutant(exercise="register_share", hint="what *one* register gets")
def mean_of_means(weights, registers):
    return weights[..., :-registers, -registers:].mean(-1).mean(-1)
