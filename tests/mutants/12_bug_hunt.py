"""Lesson 12: probes that people write: right ones in another way, wrong ones that miss a bug or cry wolf."""

import time
from types import SimpleNamespace

import torch
from torch import nn

from dit_course.sampling import euler
from dit_course.training import randomness
from mutants import mutant, right_answer


def two_classes():
    """A model that predicts 1 with a label and 0 without."""

    def model(x, t, y):
        return (y != 2).float()[:, None, None, None].expand_as(x)

    model.config = SimpleNamespace(num_classes=2)
    return model


def mixed(code, cfg, channels=5):
    """What guidance makes of it."""
    velocity = code.guided(two_classes(), torch.tensor([0, 1]), cfg=cfg)
    return velocity(torch.zeros(2, channels, 4, 6), torch.full((2,), 0.5))


def labels_of(code, training, labels, dropout=0.5, classes=5):
    """Which labels an embedder really takes."""
    embed = code.LabelEmbedder(classes, 4, dropout=dropout).train(training)
    with torch.no_grad():
        embed.table.weight.copy_(torch.arange(classes + 1.0)[:, None].expand(classes + 1, 4))
        return embed(labels)[:, 0].long()


# -- probe_solver --------------------------------------------------------------------------------------


@right_answer(exercise="probe_solver")
def one_point_data(code):
    """The exact velocity of data at a single point leads there."""
    point, noise = torch.full((4, 1, 3, 2), 0.25), torch.randn(4, 1, 3, 2)
    end = code.euler(lambda x, t: (x - point) / t[:, None, None, None], noise, torch.linspace(1, 0, 8))
    assert torch.allclose(end, point, atol=1e-4), f"the end is {(end - point).abs().max():.2f} away from the data"


@right_answer(exercise="probe_solver")
def by_a_sum(code):
    """With the velocity t the steps add up to a sum that is known."""
    ts = torch.tensor([1, 0.7, 0.4, 0.0])
    end = code.euler(lambda x, t: t[:, None].expand_as(x), torch.zeros(2, 3), ts)
    expected = (ts.diff() * ts[:-1]).sum()
    if not torch.allclose(end, expected):
        raise AssertionError(f"{end.flatten()[0]} in place of {expected}")


@mutant(exercise="probe_solver", hint="only the first step is told the right time")
def only_the_first_time(code):
    told = []

    def velocity(x, t):
        told.append(t.clone())
        return torch.zeros_like(x)

    code.euler(velocity, torch.zeros(2, 1, 2, 2), torch.linspace(1, 0, 6))
    assert told[0].mean() == 1, f"the first time is {told[0]}"


@mutant(exercise="probe_loss", hint="data and noise have changed places")
def never_says_which_end_is_data(code):
    t = torch.linspace(0, 1, 6)
    between = code.interpolate(torch.zeros(6, 1, 6, 6), torch.ones(6, 1, 6, 6), t).flatten(1)
    assert (between.std(dim=1) < 1e-5).all(), "a picture has several times"
    seen = []
    code.RectifiedFlow().loss(lambda x, t: seen.append(x) or x, torch.zeros(2, 1, 32, 32))
    assert torch.corrcoef(seen[0].flatten(1))[0, 1] < 0.9, "two pictures have one noise"


@mutant(exercise="probe_guidance", hint="it passes right code, and case D as well: for weak guidance")
def with_a_scale_of_one(code):
    assert torch.allclose(mixed(code, cfg=1.0), torch.tensor(1.0)), "a scale of 1 is the prediction with the label"


@mutant(exercise="probe_solver", hint="it passes right code, and case A as well: is the velocity told the time")
def a_constant_velocity(code):
    end = code.euler(lambda x, t: torch.full_like(x, 3.0), torch.ones(2, 3), torch.linspace(1, 0, 7))
    assert torch.allclose(end, torch.tensor(-2.0), atol=1e-5)


@mutant(
    exercise="probe_solver", hint="it catches case A, but lets case C pass: there the times run down as they should"
)
def only_that_they_run_down(code):
    told = []
    code.euler(lambda x, t: told.append(t[0].item()) or x, torch.zeros(2, 3), torch.linspace(1, 0, 5))
    assert told == sorted(told, reverse=True), "time runs up"


@mutant(exercise="probe_solver", hint="it notices wrong shapes, and not wrong values")
def shape_of_the_time(code):
    def velocity(x, t):
        assert t.shape == (3,), t.shape
        return x

    assert code.euler(velocity, torch.zeros(3, 2), torch.linspace(1, 0, 5)).shape == (3, 2)


@mutant(exercise="probe_solver", hint="it never looks at `code`")
def the_notebooks_own(code):
    told = []
    euler(lambda x, t: told.append(t[0].item()) or x, torch.zeros(2, 3), torch.linspace(1, 0, 5))
    assert told == [1, 0.75, 0.5, 0.25]


@mutant(exercise="probe_solver", hint="it compares with the course's own `euler`")
def beside_the_course(code):
    noise, ts = torch.randn(3, 2), torch.linspace(1, 0, 5)
    ends = [solver(lambda x, t: x * t[:, None], noise, ts) for solver in (code.euler, euler)]
    assert torch.allclose(*ends)


@mutant(exercise="probe_solver", hint="it returns False and raises nothing")
def an_answer_in_place_of_an_assertion(code):
    told = []
    code.euler(lambda x, t: told.append(t[0].item()) or x, torch.zeros(2, 3), torch.linspace(1, 0, 5))
    return told != [1, 0.75, 0.5, 0.25]


@mutant(exercise="probe_solver", hint='it always complains, about right code as about faulty code, saying "wrong"')
def always(code):
    assert code.euler is None, "wrong"


@mutant(exercise="probe_solver", hint="it is the wrong way round")
def turned_around(code):
    told, ts = [], torch.linspace(1, 0, 5)
    code.euler(lambda x, t: told.append(t[0].item()) or x, torch.zeros(2, 3), ts)
    assert told != ts[:-1].tolist()


@mutant(exercise="probe_solver", hint="a probe is for every day", seconds=25)
def training_first(code):
    assert code.euler  # else it would also train where there is no code
    begin = time.process_time()
    while time.process_time() < begin + 3.1:
        pass
    one_point_data(code)


@mutant(exercise="probe_solver", hint="`code` has no 'Euler': is 'euler' meant?")
def another_name(code):
    code.Euler(lambda x, t: x, torch.zeros(2, 3), torch.linspace(1, 0, 5))


# -- probe_guidance ------------------------------------------------------------------------------------


@right_answer(exercise="probe_guidance")
def every_scale(code):
    for cfg in (0.0, 1.0, 2.0, 7.5):
        v = mixed(code, cfg)
        assert (v - cfg).abs().max() < 1e-4, f"cfg {cfg}: {v.mean()}"


@right_answer(exercise="probe_guidance")
def random_predictions(code):
    table = torch.randn(3, 6, 2, 4)
    model = lambda x, t, y: table[y]  # noqa: E731
    model.config = SimpleNamespace(num_classes=2)
    y = torch.tensor([1, 0, 1])
    v = code.guided(model, y, cfg=4.0)(torch.randn(3, 6, 2, 4), torch.rand(3))
    expected = table[2] + 4 * (table[y] - table[2])
    assert torch.allclose(v, expected, atol=1e-4)


@mutant(
    exercise="probe_guidance", hint="it catches case D, but lets case E pass: it is right on gray and on color pictures"
)
def color_pictures(code):
    assert torch.allclose(mixed(code, 3.0, channels=3), torch.tensor(3.0))


@mutant(exercise="probe_guidance", hint="for weak guidance the velocity lies between")
def scale_one(code):
    assert torch.allclose(mixed(code, 1.0, channels=3), torch.tensor(1.0))


@mutant(exercise="probe_guidance", hint="it notices wrong shapes, and not wrong values")
def shape_of_the_velocity(code):
    assert mixed(code, 3.0).shape == (2, 5, 4, 6)


@mutant(
    exercise="probe_guidance",
    hint="it cries wolf: it complains about right code in which guidance calls the model twice",
)
def one_call(code):
    calls = []
    model = two_classes()
    counted = lambda x, t, y: calls.append(len(x)) or model(x, t, y)  # noqa: E731
    counted.config = model.config
    v = code.guided(counted, torch.tensor([0, 1]), cfg=3.0)(torch.zeros(2, 5, 4, 4), torch.ones(2))
    assert torch.allclose(v, torch.tensor(3.0))
    assert calls == [4], "one batch of double size"


@mutant(exercise="probe_guidance", hint="it complains about right code, saying")
def the_papers_weight(code):
    v = mixed(code, 3.0)
    assert torch.allclose(v, torch.tensor(4.0)), f"1 + 3 (1 - 0), not {v[0, 0, 0, 0]} and {v[0, 4, 0, 0]}"


# -- probe_labels --------------------------------------------------------------------------------------


@right_answer(exercise="probe_labels")
def by_the_labels_themselves(code):
    embed = code.LabelEmbedder(7, 8, dropout=0.3)
    labels = torch.randint(1, 7, (2000,))
    dropped = embed.train().drop_labels(labels)
    changed = dropped != labels
    assert (dropped[changed] == 7).all()
    assert abs(changed.float().mean() - 0.3) < 0.1
    assert torch.equal(embed.eval().drop_labels(labels), labels)


@right_answer(exercise="probe_labels")
def always_or_never_dropped(code):
    """With a dropout of 1 there is no chance."""
    labels = torch.tensor([1, 2, 4])
    assert labels_of(code, True, labels, dropout=1.0).tolist() == [5, 5, 5]
    assert labels_of(code, False, labels, dropout=1.0).tolist() == [1, 2, 4]


@mutant(exercise="probe_labels", hint="it catches cases F and G, but lets case H pass: in training all is right")
def training_alone(code):
    labels = torch.ones(400, dtype=torch.int64)
    assert (labels_of(code, True, labels) == 5).float().mean() > 0.3


@mutant(
    exercise="probe_labels",
    hint="it catches cases F and H, but lets case G pass: labels do change in training, but into what?",
)
def only_whether_they_change(code):
    labels = torch.ones(400, dtype=torch.int64)
    assert (labels_of(code, True, labels) != 1).any()
    assert (labels_of(code, False, labels) == 1).all()


@mutant(exercise="probe_labels", hint="it catches case H, but lets case F pass: in training, how many")
def sampling_alone(code):
    labels = torch.ones(400, dtype=torch.int64)
    assert (labels_of(code, False, labels) == 1).all()


@mutant(exercise="probe_labels", hint="it depends on the seed: it complains about right code in")
def ten_labels(code):
    labels = torch.ones(10, dtype=torch.int64)
    assert 4 <= (labels_of(code, True, labels) == 5).sum() <= 6


@mutant(exercise="probe_labels", hint="the label table starts at another scale")
def the_size_of_the_table(code):
    assert 0.01 < code.LabelEmbedder(5, 64).table.weight.std() < 0.03


@mutant(exercise="probe_labels", hint="it notices wrong shapes, and not wrong values")
def shape_of_the_vectors(code):
    assert code.LabelEmbedder(5, 8).train()(torch.ones(6, dtype=torch.int64)).shape == (6, 8)


# -- probe_start ---------------------------------------------------------------------------------------


def tiny(code, **more):
    """The smallest DiT."""
    return code.DiT(code.DiTConfig(image_size=8, channels=1, width=8, depth=1, heads=2, **more))


@right_answer(exercise="probe_start")
def by_the_loss(code):
    x = torch.ones(64, 1, 8, 8)
    loss = code.RectifiedFlow().loss(tiny(code), x, torch.zeros(64, dtype=torch.int64))
    assert abs(loss - 2) < 0.2, f"the first loss is {loss:.2f}, and not 1 + E[x^2] = 2"


@right_answer(exercise="probe_start")
def by_the_weights(code):
    model = tiny(code)
    assert not model.final.linear.weight.any()
    assert not any(block.modulation.weight.any() for block in model.blocks)


@mutant(exercise="probe_start", hint="it passes right code, and case J as well: what does a new DiT predict")
def biases_alone(code):
    v = tiny(code)(torch.randn(2, 1, 8, 8), torch.rand(2), torch.tensor([0, 1]))
    assert v.abs().max() < 100
    assert tiny(code).final.linear.bias.abs().max() == 0
    assert v.mean() < 0.5 or v.min() < 0


@mutant(exercise="probe_start", hint="it notices wrong shapes, and not wrong values")
def shape_of_the_prediction(code):
    assert tiny(code)(torch.randn(2, 1, 8, 8), torch.rand(2), torch.tensor([0, 1])).shape == (2, 1, 8, 8)


@mutant(
    exercise="probe_start",
    hint="it cries wolf: it complains about right code in which a DiT is smaller unless told otherwise",
)
def the_usual_size(code):
    model = code.DiT(code.DiTConfig(depth=1))
    assert model(torch.randn(1, 3, 32, 32), torch.rand(1), torch.tensor([0])).abs().max() == 0


@mutant(exercise="probe_start", hint="an error stopped your code")
def without_labels(code):
    assert not tiny(code)(torch.randn(2, 1, 8, 8), torch.rand(2)).any()


@mutant(exercise="probe_start", hint="it complains about right code, saying")
def nothing_at_zero(code):
    model = tiny(code)
    assert all(p.any() for name, p in model.named_parameters() if name.endswith("weight")), "a layer is all zeros"


# -- probe_loss ----------------------------------------------------------------------------------------


def shown(code, x, timesteps="uniform"):
    """What a network gets: x_t and t."""
    seen = []
    code.RectifiedFlow(timesteps).loss(lambda x_t, t: seen.append((x_t, t)) or x_t, x)
    return seen[0]


@right_answer(exercise="probe_loss")
def by_a_known_time(code):
    """With data of zeros each picture has the spread t, also where the batch is as large as a picture is wide."""
    x_t, t = shown(code, torch.zeros(8, 4, 64, 8))
    assert (x_t.flatten(1).std(dim=1) - t).abs().max() < 0.1, "the spread of a picture is not its t"
    assert (x_t[0] / t[0] - x_t[1] / t[1]).std() > 0.5, "the same noise"


@right_answer(exercise="probe_loss")
def picture_by_picture(code):
    x, noise, t = torch.randn(5, 2, 3, 5), torch.randn(5, 2, 3, 5), torch.rand(5)
    together = code.interpolate(x, noise, t)
    for i in range(5):
        assert torch.allclose(together[i], (1 - t[i]) * x[i] + t[i] * noise[i], atol=1e-5), i
    x_t, t = shown(code, torch.zeros(40, 1, 8, 9))
    noises = x_t / t[:, None, None, None]
    assert noises.mean(dim=0).abs().max() < 1.5, "the mean of forty noises is as large as one"
    assert noises.std(dim=0).min() > 0.2


@mutant(
    exercise="probe_loss", hint="it catches case K, but lets case L pass: it happens only where two sizes are equal"
)
def noises_alone(code):
    x_t, t = shown(code, torch.zeros(3, 1, 32, 32))
    assert (x_t[0] / t[0] - x_t[1] / t[1]).std() > 0.5


@mutant(exercise="probe_loss", hint="it catches case L, but lets case K pass: look at the noise *within* a batch")
def interpolation_alone(code):
    t = torch.linspace(0, 1, 6)
    x_t = code.interpolate(torch.zeros(6, 1, 6, 6), torch.ones(6, 1, 6, 6), t)
    assert torch.equal(x_t, t[:, None, None, None].expand_as(x_t))


@mutant(exercise="probe_loss", hint="it passes right code, and case K as well: look at the noise *within* a batch")
def no_equal_sizes(code):
    t = torch.linspace(0, 1, 3)
    x_t = code.interpolate(torch.zeros(3, 1, 6, 6), torch.ones(3, 1, 6, 6), t)
    assert torch.allclose(x_t, t[:, None, None, None].expand_as(x_t))


@mutant(exercise="probe_loss", hint="it notices wrong shapes, and not wrong values")
def shape_of_the_states(code):
    assert code.interpolate(torch.zeros(3, 2, 4, 5), torch.ones(3, 2, 4, 5), torch.rand(3)).shape == (3, 2, 4, 5)


@mutant(exercise="probe_loss", hint="x_t is computed as x + t (noise - x)")
def to_the_last_bit(code):
    x, noise, t = torch.randn(50, 1, 8, 50), torch.randn(50, 1, 8, 50), torch.rand(50)
    expected = (1 - t[:, None, None, None]) * x + t[:, None, None, None] * noise
    assert torch.equal(code.interpolate(x, noise, t), expected), "not the same bits"


@mutant(exercise="probe_loss", hint="it depends on the seed: it complains about right code in")
def tiny_pictures(code):
    x_t, _ = shown(code, torch.zeros(3, 1, 1, 3))
    assert torch.corrcoef(x_t.flatten(1))[0, 1] < 0, "alike"


# -- probe_mediocre ------------------------------------------------------------------------------------


@right_answer(exercise="probe_mediocre")
def distances_of_times(code):
    waves = code.TimestepEmbedder(8).sinusoids(torch.tensor([0.6, 0.6004, 0.65]))
    assert (waves[1] - waves[0]).norm() > 0.1
    assert (waves[2] - waves[0]).norm() > 3


@right_answer(exercise="probe_mediocre")
def through_the_layers(code):
    embed = code.TimestepEmbedder(8)
    with torch.no_grad():
        embed.input.weight.copy_(torch.eye(256)[:8] * 0)
        embed.input.weight.fill_(0)
        embed.input.weight[:, :20] = 1.0
    waves = embed.sinusoids(torch.linspace(0.5, 1, 2001))
    assert (waves.diff(dim=0).abs().amax(dim=1) > 0).all(), "two neighbors are the same"
    assert waves.std(dim=0).median() > 0.02, "most stand still"
    assert (waves.std(dim=0) > 0.1).sum() > 60


@mutant(exercise="probe_mediocre", hint="it catches case M, but lets case N pass: times that are far apart")
def movement_alone(code):
    assert code.TimestepEmbedder(8).sinusoids(torch.linspace(0, 1, 50)).std(dim=0).mean() > 0.2


@mutant(
    exercise="probe_mediocre", hint="it catches case N, but lets case M pass: how much do the sinusoids of t change"
)
def neighbors_alone(code):
    a, b = code.TimestepEmbedder(8).sinusoids(torch.tensor([0.7, 0.7005]))
    assert not torch.equal(a, b)


@mutant(exercise="probe_mediocre", hint="it passes right code, and case M as well")
def zero_and_one(code):
    a, b = code.TimestepEmbedder(8).sinusoids(torch.tensor([0.0, 1.0]))
    assert not torch.equal(a, b)


@mutant(exercise="probe_mediocre", hint="the sines stand before the cosines")
def cosines_first(code):
    first = code.TimestepEmbedder(8).sinusoids(torch.tensor([0.7, 0.7005]))
    assert torch.allclose(first[:, 0], torch.cos(torch.tensor([700.0, 700.5])), atol=1e-3)


@mutant(exercise="probe_mediocre", hint="it notices wrong shapes, and not wrong values")
def shape_of_the_features(code):
    assert code.TimestepEmbedder(8, frequencies=32).sinusoids(torch.rand(5)).shape == (5, 32)


# -- probe_too_good ------------------------------------------------------------------------------------


def watched(code, pixels, steps=2, **more):
    """The pictures and draws of each step of a training on bytes of one value."""
    seen, model = [], nn.Linear(1, 1)

    def loss(model, x, y):
        seen.append((x, torch.rand(8)))
        return model(torch.ones(1, 1)).mean()

    images = torch.full((6, 1, 2, 4), pixels, dtype=torch.uint8)
    list(code.training_loop(model, SimpleNamespace(loss=loss), images, torch.zeros(6).long(), steps, batch_size=3))
    return seen


@right_answer(exercise="probe_too_good")
def from_inside_the_loop(code):
    (dark, first), (_, second), (_, third) = watched(code, 0, steps=3)
    assert (dark == -1).all(), f"black is {dark.mean()}"
    assert first.tolist() != second.tolist() != third.tolist()


@right_answer(exercise="probe_too_good")
def all_bytes(code):
    floats = code.to_float(torch.arange(256, dtype=torch.uint8))
    assert floats.min() == -1
    assert floats.max() == 1
    assert abs(floats.mean()) < 1e-5
    noises = torch.stack([drawn for _, drawn in watched(code, 7, steps=4)])
    assert (noises.std(dim=0) > 0).all()


@mutant(exercise="probe_too_good", hint="it catches case P, but lets case Q pass: each step is fine by itself")
def range_alone(code):
    assert code.to_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]


@mutant(exercise="probe_too_good", hint="it catches case Q, but lets case P pass: the loss contains the data")
def noise_alone(code):
    (_, first), (_, second) = watched(code, 0)
    assert not torch.equal(first, second)


@mutant(exercise="probe_too_good", hint="it passes right code, and case P as well: the loss contains the data")
def white_alone(code):
    assert code.to_float(torch.tensor([255], dtype=torch.uint8)).item() == 1


@mutant(exercise="probe_too_good", hint="it notices wrong shapes, and not wrong values")
def shape_of_the_floats(code):
    floats = code.to_float(torch.zeros(3, 1, 4, 4, dtype=torch.uint8))
    assert floats.shape == (3, 1, 4, 4)
    assert floats.dtype == torch.float32


@mutant(exercise="probe_too_good", hint="[0, 255] becomes [-1, 1] in other operations")
def every_byte_to_the_last_bit(code):
    images = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(code.to_float(images), images.float() / 127.5 - 1), "not the same bits"


@mutant(exercise="probe_too_good", hint="training draws other random numbers")
def these_very_numbers(code):
    (_, first), _ = watched(code, 0)
    with randomness(seed=0, step=0, device=torch.device("cpu")):
        assert torch.equal(first, torch.rand(8)), "these are other numbers"


# -- probe_unseen --------------------------------------------------------------------------------------


def modulated(code, half):
    """Zero tokens through a final layer whose shift or scale is one."""
    layer = code.FinalLayer(8, 8)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.eye(8))
        layer.modulation.bias[half] = 1.0
        return layer(torch.zeros(2, 3, 8), torch.zeros(2, 8))


@right_answer(exercise="probe_unseen")
def both_halves(code):
    x = torch.arange(2.0 * 1 * 6 * 10).reshape(2, 1, 6, 10)
    assert (code.unpatchify(code.patchify(x, 2), 2, 1, 6, 10) == x).all()
    assert (modulated(code, slice(None, 8)) == 1).all()
    assert (modulated(code, slice(8, None)) == 0).all()


@right_answer(exercise="probe_unseen")
def one_row_of_patches(code):
    x = torch.rand(1, 2, 12, 4).round(decimals=2)
    tokens = code.patchify(x, 2)
    back = code.unpatchify(tokens, 2, 2, 12, 4)
    assert torch.allclose(back, x), "scrambled"
    assert modulated(code, slice(8, None)).abs().max() < 1e-6, "the second half shifts"


@mutant(exercise="probe_unseen", hint="it catches case R, but lets case S pass: a network trained with this fault")
def patches_alone(code):
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(code.unpatchify(code.patchify(x, 4), 4, 3, 8, 12), x)


@mutant(
    exercise="probe_unseen", hint="it catches case S, but lets case R pass: every picture of this training is a square"
)
def modulation_and_one_patch(code):
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(code.unpatchify(code.patchify(x, 4), 4, 3, 4, 4), x)
    assert modulated(code, slice(None, 8)).mean() == 1


@mutant(
    exercise="probe_unseen", hint="it passes right code, and case R as well: every picture of this training is a square"
)
def one_patch(code):
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(code.unpatchify(code.patchify(x, 4), 4, 3, 4, 4), x)


@mutant(exercise="probe_unseen", hint="it notices wrong shapes, and not wrong values")
def shape_of_the_pictures(code):
    assert code.unpatchify(code.patchify(torch.zeros(2, 3, 8, 12), 4), 4, 3, 8, 12).shape == (2, 3, 8, 12)


@mutant(exercise="probe_unseen", hint="a token holds pixels first, then channels")
def the_first_token(code):
    x = torch.randn(2, 3, 8, 12)
    tokens = code.patchify(x, 4)
    assert torch.equal(tokens[:, 0], x[:, :, :4, :4].flatten(1)), "channels come first"
    both_halves(code)
