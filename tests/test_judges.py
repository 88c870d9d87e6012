"""The larger judge: its interface is that of the small one, and a JSON says which it is."""

import pytest
import torch

from dit_course.checkpoints import load_classifier, save_tensors
from dit_course.evaluation import Classifier
from dit_course.studies.judges import ResidualClassifier, make_classifier


def test_bytes_and_floats_are_judged_alike():
    judge = ResidualClassifier(3, 5, width=4).eval()
    images = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8)
    assert judge(images).shape == (6, 5)
    assert judge.features(images).shape == (6, 16)
    torch.testing.assert_close(judge(images), judge(images.float() / 255))


def test_a_saved_judge_comes_back_as_what_it_was(tmp_path):
    torch.manual_seed(0)
    for judge in (ResidualClassifier(1, 3, width=4), Classifier(1, 3, width=4)):
        name = tmp_path / type(judge).__name__
        save_tensors(f"{name}-classifier", judge.state_dict(), {"config": judge.config})
        loaded = load_classifier(name)
        assert type(loaded) is type(judge)
        images = torch.rand(2, 1, 32, 32)
        torch.testing.assert_close(loaded(images), judge.eval()(images))


def test_an_unknown_architecture_is_named():
    with pytest.raises(ValueError, match="plain, residual"):
        make_classifier({"architecture": "other", "channels": 1, "num_classes": 2})


def test_it_fits_into_four_megabytes_in_half_precision():
    assert 2 * sum(p.numel() for p in ResidualClassifier(3, 10).parameters()) < 4e6
