"""The Frechet *Inception* distance (FID), where its network can be had: an extra that the course never needs."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

NAME = "inception-v3-compat, 2048 features (torch-fidelity)"


def inception_features(weights: Path | None = None) -> Callable[[Tensor], Tensor]:
    """The features that a published FID compares: pictures (n, c, h, w) in [0, 1] -> (n, 2048).

    weights: the file `weights-inception-2015-12-05-6726825d.pth`; None lets torch-fidelity look in its cache, then
    download them. Raises ValueError when the package is missing, OSError when the weights are.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise ValueError(
            "an FID needs the package torch-fidelity: pip install torch-fidelity, or leave --inception out"
        ) from None
    if weights is not None and not Path(weights).is_file():
        raise FileNotFoundError(f"{weights} does not exist: give the file of Inception's weights")
    try:
        path = None if weights is None else str(weights)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], path)
    except Exception as error:  # the network, the disk, a damaged file: whatever it was, there is no FID
        raise OSError(
            f"Inception's weights cannot be had ({type(error).__name__}: {error}): connect to a network once, or name "
            "the file with --inception-weights; without them there is no FID, and the judge's distance is none"
        ) from error
    network.eval()

    def features(images: Tensor) -> Tensor:
        color = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        return network((color * 255).round().byte())[0]

    return features
