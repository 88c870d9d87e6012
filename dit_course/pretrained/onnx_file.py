"""A DiT as an ONNX file, which other programs run: `onnxruntime`, a browser, a phone (`export --onnx`).

The file computes what `model(x, t, y)` does, `model(x, t, y, t_next, cfg)` of a few-step student, for any number of
images. Weights are stored in half precision and cast to float32 where they are used: of a shipped model, which is
stored in half precision too, nothing is lost.
"""

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from dit_course.data import atomic_write
from dit_course.dit import DiT
from dit_course.few_steps import FewStepDiT
from dit_course.wrappers import unwrap

OPSET = 23  # the first that knows RMSNormalization and Attention (onnxruntime 1.23)
FEW = 64  # fewer weights stay as they are: a cast would take more room than it saves


def export_onnx(model: DiT, file: str | Path) -> None:
    """Write the network as an ONNX file, whole or not at all.

    Its inputs have the names of `forward`'s arguments, (images, ...) each; its output is `velocity`.
    Raises ValueError where a package is missing or the file's name does not end in .onnx, OSError where it cannot be
    written.
    """
    file = Path(file)
    if file.suffix != ".onnx":
        raise ValueError(f"{file} is no name for an ONNX file: let it end in .onnx")
    try:
        import onnx
        import onnxscript  # noqa: F401 (PyTorch translates with it)
    except ImportError as error:
        raise ValueError(f"an ONNX file needs more packages: pip install 'dit-course[onnx]' ({error})") from error
    model = deepcopy(unwrap(model)).cpu().float().eval()
    for weight in model.parameters():
        weight.data = weight.data.half().float()
    inputs = _inputs(model)
    some = torch.export.Dim("images", min=1)
    shapes = ({0: some},) * len(inputs)
    with torch.no_grad():  # strict: Dynamo follows len(x), so that it may differ from call to call
        program = torch.export.export(model, tuple(inputs.values()), dynamic_shapes=shapes, strict=True)
        names = {"input_names": list(inputs), "output_names": ["velocity"]}
        network = torch.onnx.export(program, **names, dynamo=True, verbose=False, opset_version=OPSET).model_proto
    _forget_origins(network.graph)
    _halve(network.graph, onnx)
    atomic_write(file, network.SerializeToString(deterministic=True))


def _inputs(model: DiT) -> dict[str, torch.Tensor]:
    """Two images and what else the network takes, by the names of `forward`'s arguments."""
    config = model.config
    inputs = {"x": torch.randn(2, config.channels, *config.image_shape), "t": torch.ones(2)}
    if config.num_classes is not None:
        inputs["y"] = torch.arange(2) % config.num_classes
    if isinstance(model, FewStepDiT):
        inputs |= {"t_next": torch.zeros(2), "cfg": torch.full((2,), 2.5)}
    return inputs


def _forget_origins(graph) -> None:
    """Take out what the exporter notes about each node: the lines of code that it comes from, and their paths."""
    del graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for node in graph.node:
        node.ClearField("name")
    for part in (*graph.input, *graph.output):
        part.type.tensor_type.shape.dim[0].dim_param = "images"


def _halve(graph, onnx) -> None:
    """Store what half precision holds exactly in half precision, each with a cast to float32 behind it."""
    casts = []
    for weight in graph.initializer:
        values, name = onnx.numpy_helper.to_array(weight), weight.name
        if values.dtype != np.float32 or values.size < FEW or (values.astype(np.float16) != values).any():
            continue
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
