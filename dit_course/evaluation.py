"""What is a good sample? Class accuracy, Frechet distance, precision and recall, neighbours (lesson 09).

Pictures are bytes or floats in [0, 1]. "Features" are what a judge, a network trained on real pictures only, makes of
them: (n, d), a row for each picture. Numbers of one judge say nothing beside those of another.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dit_course.guards import check_features
from dit_course.wrappers import unwrap

MOST_NEIGHBOURS = 5000  # of each kind in precision and recall: beyond that the tables of distances fill the memory


class Classifier(nn.Module):
    """A small convolutional network that judges pictures; trained on real ones only, it has never seen a sample.

    Takes pictures (batch, channels, height, width) in [0, 1]. `features` are what the Frechet distance compares.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 32):
        super().__init__()
        self.config = {"channels": channels, "num_classes": num_classes, "width": width}
        self.body = nn.Sequential(
            conv(channels, width), nn.MaxPool2d(2),
            conv(width, 2 * width), conv(2 * width, 2 * width), nn.MaxPool2d(2),
            conv(2 * width, 4 * width), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(16 * width, 4 * width), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(4 * width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) in [0, 1] -> (batch, 4 * width)."""
        return self.body(images * 2 - 1)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) in [0, 1] -> class logits (batch, num_classes)."""
        return self.head(self.features(images))


def conv(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution of 3 x 3 pixels, normed; without bias, as the batch norm behind it has one."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def unit(images: Tensor) -> Tensor:
    """Bytes 0..255 as floats in [0, 1]; floats stay what they are."""
    return images.float() / (255 if images.dtype == torch.uint8 else 1)


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 250) -> Tensor:
    """function(images), a batch at a time and without gradients; bytes 0..255 are brought to [0, 1] first."""
    return torch.cat([function(unit(batch)) for batch in images.split(batch_size)])


def class_accuracy(classifier: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images, uint8 or floats in [0, 1], that the classifier puts into the class of their label."""
    classifier.eval()
    return (in_batches(classifier, images).argmax(dim=1) == labels).float().mean().item()


def matrix_root(matrix: Tensor) -> Tensor:
    """The matrix R with R @ R = matrix, for a symmetric one (d, d) without negative eigenvalues, such as a covariance.

    Rounding makes tiny negative eigenvalues of those that are zero; they count as zero.
    """
    values, vectors = torch.linalg.eigh(matrix)  # (d,), (d, d): each column of vectors is one
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


def gaussian_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> Tensor:
    """Frechet distance of two Gaussians, squared as is usual: one number, (), 0 when they are the same.

    |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Dowson & Landau 1982; Heusel et al. 2017, arXiv 1706.08500,
    equation 6). means: (d,). covariances: (d, d).
    """
    root_a = matrix_root(covariance_a)
    shared = matrix_root(root_a @ covariance_b @ root_a)  # symmetric, with the same trace as (C_a C_b)^(1/2)
    return (mean_a - mean_b).square().sum() + (covariance_a + covariance_b - 2 * shared).trace()


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Distance between two Gaussians fitted to features (n, d) and (m, d): 0 when mean and covariance agree.

    It shrinks as n and m grow: compare only distances with the same features and the same numbers of samples.
    Raises ValueError for fewer than two rows, or for features of two sizes.
    """
    check_features(features_a, features_b, least=2)
    # float64: with fewer samples than features most eigenvalues are zero, and rounding must not hide that
    fitted = [(x.mean(dim=0), torch.cov(x.T)) for x in (features_a.double(), features_b.double())]
    return max(gaussian_distance(*fitted[0], *fitted[1]).item(), 0.0)


def extrapolate(counts: Sequence[int], distances: Sequence[float]) -> tuple[float, float]:
    """Fit distance(N) = limit + slope / N, by least squares: (limit, slope).

    The limit is the distance for infinitely many samples (Chong & Forsyth 2020, arXiv 1911.07023).
    counts: at least two different numbers of samples. distances: one for each.
    """
    if len(counts) != len(distances) or len(set(counts)) < 2:
        raise ValueError(f"{len(counts)} counts and {len(distances)} distances: a line needs two different counts")
    inverse = 1 / torch.tensor(list(counts), dtype=torch.float64)
    table = torch.stack([torch.ones_like(inverse), inverse], dim=1)  # (points, 2)
    values = torch.tensor([float(distance) for distance in distances], dtype=torch.float64)
    limit, slope = torch.linalg.lstsq(table, values[:, None]).solution[:, 0].tolist()
    return limit, slope


def precision_recall(real: Tensor, drawn: Tensor, k: int = 3) -> Tensor:
    """The share of drawn samples that lie among the real ones, and of real ones that lie among the drawn: (2,) float64.

    A point lies among others when it is inside of a ball around one of them that reaches as far as that one's k-th
    nearest neighbour among its own kind (Kynkaanniemi et al. 2019, arXiv 1904.06991, section 2).
    real, drawn: features (n, d) and (m, d). Compare only numbers made with the same n, m and k.
    Raises ValueError when there are not more than k of each, or for features of two sizes.
    """
    check_features(real, drawn, least=k + 1)
    real, drawn = real.double(), drawn.double()
    reach_of_real = torch.cdist(real, real).kthvalue(k + 1, dim=1).values  # (n,): each is its own nearest, so + 1
    reach_of_drawn = torch.cdist(drawn, drawn).kthvalue(k + 1, dim=1).values  # (m,)
    between = torch.cdist(drawn, real)  # (m, n)
    precise = (between <= reach_of_real).any(dim=1)  # (m,): is a drawn one in some real one's ball?
    recalled = (between <= reach_of_drawn[:, None]).any(dim=0)  # (n,): is a real one in some drawn one's ball?
    return torch.stack([precise.double().mean(), recalled.double().mean()])


def nearest_neighbours(images: Tensor, training: Tensor, batch_size: int = 100) -> Tensor:
    """For each picture the number of the training picture that is most like it, pixel by pixel: (n,) int64.

    images: (n, c, h, w). training: (m, c, h, w). Bytes or floats in [0, 1], both flattened and compared by their
    Euclidean distance, `batch_size` pictures at a time.
    """
    images, training = unit(images).flatten(1), unit(training).flatten(1)  # (n, c, h, w) -> (n, c * h * w)
    nearest = [torch.cdist(batch, training).argmin(dim=1) for batch in images.split(batch_size)]  # (batch,) each
    return torch.cat(nearest)


def pixel_distance(images: Tensor, others: Tensor) -> Tensor:
    """How far pictures are from others, pair by pair: the root of the mean squared difference of their pixels, (n,).

    images, others: (n, c, h, w), bytes or floats in [0, 1]. 0 for a copy, 1 for black against white.
    """
    return (unit(images) - unit(others)).square().flatten(1).mean(dim=1).sqrt()


def measure(judge: nn.Module, drawn: Tensor, labels: Tensor, real: Tensor) -> Tensor:
    """Class accuracy, Frechet distance, precision and recall of drawn pictures: (4,) float64.

    judge: a `Classifier`, bare or wrapped. drawn: (n, c, h, w) with labels (n,), the classes they were sampled for.
    real: (m, c, h, w), in random order. Bytes or floats in [0, 1]. The Frechet distance is taken to all real pictures,
    precision and recall among as many of each: as many as the smaller set has, from the front, `MOST_NEIGHBOURS` at
    most.
    """
    judge = unwrap(judge).eval()
    features, real_features = in_batches(judge.features, drawn), in_batches(judge.features, real)
    accuracy = class_accuracy(judge.head, features, labels)  # from features to classes: the judge looks only once
    distance = frechet_distance(features, real_features)
    count = min(len(drawn), len(real), MOST_NEIGHBOURS)
    precision, recall = precision_recall(real_features[:count], features[:count]).tolist()
    return torch.tensor([accuracy, distance, precision, recall], dtype=torch.float64)


def pareto_front(scores: Tensor) -> Tensor:
    """The numbers of the rows that no other row beats, in order: (k,) int64.

    scores: (n, m), a row for each choice, a column for each goal, higher is better. A row beats another when it is
    at least as good in every column and better in one.
    """
    others = scores[:, None]  # (n, 1, m): against (n, m) that makes a table of all pairs
    beats = (others >= scores).all(dim=2) & (others > scores).any(dim=2)  # (n, n): does row i beat row j?
    beaten = beats.any(dim=0)  # (n,): by whichever row
    return (~beaten).nonzero().flatten()  # (k, 1) -> (k,)


def kernel_distance(features_a: Tensor, features_b: Tensor) -> Tensor:
    """Squared distance of two sets of features under the kernel (x . y / d + 1)^3: one number, () float64.

    Without bias: its mean over many draws is the same for few samples as for many, and 0 for two sets from one source,
    so that it may fall below 0. With Inception's features it is called KID (Binkowski et al. 2018, arXiv 1801.01401).
    features_a, features_b: (n, d) and (m, d), at least two rows each.
    """
    a, b = features_a.double(), features_b.double()
    within_a, within_b, between = ((x @ y.T / a.shape[1] + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    pairs_a, pairs_b = len(a) * (len(a) - 1), len(b) * (len(b) - 1)  # a sample is not paired with itself
    mean_a = (within_a.sum() - within_a.trace()) / pairs_a
    mean_b = (within_b.sum() - within_b.trace()) / pairs_b
    return mean_a + mean_b - 2 * between.mean()
