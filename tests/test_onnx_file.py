"""A DiT as an ONNX file: what another program computes from it, how large it is, and one line for every mistake."""

import sys

import numpy as np
import pytest
import torch

from dit_course.__main__ import main
from dit_course.checkpoints import load_pretrained, save_pretrained, weights_file
from dit_course.dit import DiT, DiTConfig
from dit_course.pretrained.onnx_file import export_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.slow
NAME = "fashion-mnist-few-steps"


@pytest.fixture(scope="module")
def student():
    return load_pretrained(NAME)


@pytest.fixture(scope="module")
def file(student, tmp_path_factory):
    """The shipped student's file, as the command line writes it."""
    file = tmp_path_factory.mktemp("onnx") / "student.onnx"
    assert main(["export", "--run-folder", str(weights_file(NAME)), "--onnx", str(file)]) == 0
    return file


def run(file, **inputs):
    """What ONNX's own evaluator makes of the file: (images, channels, height, width)."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(str(file)).run(["velocity"], {name: x.numpy() for name, x in inputs.items()})[0]


@pytest.mark.parametrize("n", [1, 3])
def test_the_student_is_the_same_for_any_number_of_images(student, file, n):
    generator = torch.Generator().manual_seed(n)
    t = torch.rand(n, generator=generator)
    x, t_next = torch.randn(n, 1, 28, 28, generator=generator), t * torch.rand(n, generator=generator)
    y, cfg = torch.tensor([9, 0, 6])[:n], torch.tensor([1.0, 2.5, 6.0])[:n]
    with torch.no_grad():
        expected = student(x, t, y, t_next, cfg).numpy()
    assert np.abs(expected).max() > 1
    assert np.abs(run(file, x=x, t=t, y=y, t_next=t_next, cfg=cfg) - expected).max() < 1e-4


def test_it_fits_into_four_megabytes_and_names_no_place_of_this_machine(file):
    content = file.read_bytes()
    assert len(content) <= 4_000_000
    assert b".py" not in content
    onnx.checker.check_model(str(file))
    graph = onnx.load(str(file)).graph
    stored = {onnx.TensorProto.FLOAT16: 0, onnx.TensorProto.FLOAT: 0}
    for weight in graph.initializer:
        if weight.data_type in stored:
            stored[weight.data_type] += np.prod(weight.dims)
    assert stored[onnx.TensorProto.FLOAT16] > 0.99 * sum(stored.values())
    assert {one.name: one.type.tensor_type.shape.dim[0].dim_param for one in graph.input} == dict.fromkeys(
        ("x", "t", "y", "t_next", "cfg"), "images"
    )


def test_other_networks_are_exported_too_and_rounded_to_half_precision(tmp_path):
    """No classes, LayerNorm, no registers, a wide image; weights that half precision does not hold."""
    config = DiTConfig(
        image_size=(8, 12),
        channels=3,
        width=16,
        depth=1,
        heads=2,
        registers=0,
        num_classes=None,
        norm="layer",
        qk_norm=False,
    )
    torch.manual_seed(0)
    model = DiT(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    before = [weight.clone() for weight in model.parameters()]
    export_onnx(model, tmp_path / "dit.onnx")
    assert model.training
    assert all(map(torch.equal, before, model.parameters()))  # a copy was rounded
    x, t = torch.randn(3, 3, 8, 12), torch.tensor([0.0, 0.5, 1.0])
    with torch.no_grad():
        exact, rounded = model.eval()(x, t).numpy(), model.half().float()
        for buffer, kept in zip(rounded.buffers(), DiT(config).buffers(), strict=True):
            buffer.copy_(kept)  # positions and frequencies are not rounded
        expected = rounded(x, t).numpy()
    found = run(tmp_path / "dit.onnx", x=x, t=t)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert 1e-5 < np.abs(found - exact).max() / np.abs(exact).max() < 1e-2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small model's file."""
    place = tmp_path_factory.mktemp("tiny") / "dit"
    save_pretrained(place, DiT(DiTConfig(image_size=8, channels=1, width=8, depth=1, heads=2)))
    return place.with_suffix(".safetensors")


def refused(capsys, tiny, file) -> str:
    assert main(["export", "--run-folder", str(tiny), "--onnx", str(file)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_a_name_that_is_none_is_one_line(capsys, tiny, tmp_path):
    line = refused(capsys, tiny, tmp_path / "dit.pt")
    assert line.endswith("dit.pt is no name for an ONNX file: let it end in .onnx")


def test_a_missing_package_is_one_line(capsys, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert "pip install 'dit-course[onnx]'" in refused(capsys, tiny, tmp_path / "dit.onnx")


def test_a_file_that_cannot_be_written_is_one_line(capsys, tiny, tmp_path):
    (tmp_path / "taken").touch()
    assert "choose a folder you may write to" in refused(capsys, tiny, tmp_path / "taken" / "dit.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]
