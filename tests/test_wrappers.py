"""Wrapped models: saved, loaded, averaged and resumed as the network inside."""

from copy import deepcopy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from dit_course.checkpoints import load_checkpoint, load_pretrained, load_state, save_checkpoint, save_pretrained
from dit_course.dit import DiT
from dit_course.ema import EMA
from dit_course.wrappers import unwrap, without_prefixes


@pytest.fixture
def one_process():
    """A process group of this process alone, as DDP wants one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def accelerated(model):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    try:
        return Accelerator(cpu=True, mixed_precision="bf16").prepare(model)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState._reset_state()


WRAPPERS = {
    "none": lambda model: model,
    "DataParallel": nn.DataParallel,
    "DDP": DistributedDataParallel,
    "torch.compile": torch.compile,
    "AveragedModel": AveragedModel,
    "accelerate": accelerated,
    "EMA": EMA,
    "compiled DDP": lambda model: torch.compile(DistributedDataParallel(model)),
    "DDP, compiled inside": lambda model: DistributedDataParallel(torch.compile(model)),
    "EMA of DataParallel": lambda model: EMA(nn.DataParallel(model)),
    "EMA of compiled": lambda model: EMA(torch.compile(model)),
    "EMA of accelerate": lambda model: EMA(accelerated(model)),
}
every_wrapper = pytest.mark.parametrize("name", WRAPPERS)


@pytest.fixture
def model(small_dit):
    model = small_dit().float()
    model.class_names = ("ant", "bee", "cat", "dog", "emu")
    return model


def outputs(model):
    generator = torch.Generator().manual_seed(3)
    x, t = torch.randn(3, 3, 8, 12, generator=generator), torch.rand(3, generator=generator)
    with torch.no_grad():
        return model(x, t, torch.tensor([0, 4, 5]))


@every_wrapper
def test_the_network_inside(one_process, model, name):
    wrapped = WRAPPERS[name](model)
    inner = unwrap(wrapped)
    assert type(inner) is DiT
    assert inner is model or isinstance(wrapped, EMA | AveragedModel)  # averages are copies
    assert unwrap(inner) is inner
    torch.testing.assert_close(outputs(inner), outputs(model), atol=0.1, rtol=0.1)  # accelerate rounds to bfloat16


def test_a_compiled_network_may_stay_compiled(one_process, model):
    compiled = torch.compile(model)
    for wrapped in (compiled, DistributedDataParallel(compiled)):
        assert unwrap(wrapped, keep_compiled=True) is compiled
    assert compiled.config is model.config
    for wrapped in (model, torch.compile(DistributedDataParallel(model))):  # what is compiled there knows no config
        assert unwrap(wrapped, keep_compiled=True) is model


@every_wrapper
def test_what_is_saved_can_be_loaded(one_process, model, tmp_path, name):
    expected = outputs(model)
    save_pretrained(tmp_path / "model", WRAPPERS[name](model), note="wrapped")
    loaded = load_pretrained(tmp_path / "model.safetensors")
    assert loaded.class_names == model.class_names
    assert torch.equal(outputs(loaded), expected)


def test_a_network_with_a_compiled_part(model, tmp_path):
    expected = outputs(model)
    model.blocks[0] = torch.compile(model.blocks[0])
    save_pretrained(tmp_path / "model", model, half=True)
    assert torch.allclose(outputs(load_pretrained(tmp_path / "model.safetensors")), expected, atol=0.05)
    load_state(model, {name: 0 * tensor for name, tensor in load_pretrained(tmp_path).state_dict().items()}, "zeros")
    assert not any(parameter.any() for parameter in model.parameters())


@every_wrapper
def test_weights_with_prefixes_and_wrapped_targets(one_process, model, name):
    """From any wrapper's state dict into the plain network, and back into any wrapper."""
    wrapped = WRAPPERS[name](deepcopy(model))
    fresh = DiT(model.config)
    module = wrapped.model if isinstance(wrapped, EMA) else wrapped  # an average's weights are those of its model
    load_state(fresh, module.state_dict(), "a state dict")
    assert torch.equal(outputs(fresh), outputs(model))
    for parameter in unwrap(wrapped).parameters():
        parameter.detach().zero_()
    load_state(wrapped, model.state_dict(), "a state dict")
    assert torch.equal(outputs(DiT.forward.__get__(unwrap(wrapped))), outputs(model))


def test_two_networks_in_one_state_dict_are_refused(model, one_line_error):
    state = model.state_dict()
    with one_line_error(ValueError, "twice", "module.positions"):
        without_prefixes({"positions": state["final.linear.bias"], "module.positions": state["final.linear.bias"]})


def test_a_checkpoint_of_wrapped_networks_resumes_plain_ones_and_back(model, tmp_path):
    wrapped, ema = nn.DataParallel(model), EMA(nn.DataParallel(model), 0.5)
    optimizer = torch.optim.AdamW(wrapped.parameters())
    ema.update(wrapped)
    ema.update(torch.compile(model))
    save_checkpoint(tmp_path, wrapped, optimizer, ema, {"step": 2})
    plain = DiT(model.config)
    average = EMA(plain, 0.5)
    assert load_checkpoint(tmp_path / "checkpoint-00000002", plain, None, average)["step"] == 2
    assert torch.equal(outputs(plain), outputs(model))
    assert torch.equal(outputs(average.model), outputs(model))
    assert average.updates == 2
    compiled = torch.compile(DiT(model.config))
    load_checkpoint(tmp_path / "checkpoint-00000002", compiled, ema=EMA(compiled))
    assert torch.equal(outputs(unwrap(compiled)), outputs(model))


def test_what_is_no_network_is_refused_in_one_line(tmp_path, model, one_line_error):
    for thing in (model.state_dict(), nn.Linear(2, 2), nn.DataParallel(nn.Linear(2, 2)), "fashion-mnist"):
        with one_line_error(TypeError, "takes a DiT", "EMA"):
            save_pretrained(tmp_path / "model", thing)
    assert not list(tmp_path.iterdir())


def test_shards_are_refused_in_one_line(one_process, tmp_path, model, one_line_error):
    from torch.distributed.fsdp import fully_shard

    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
    with one_line_error(ValueError, "split among processes", "gather_model"):
        save_pretrained(tmp_path / "model", fully_shard(model, mesh=mesh))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_loaded_again_leaves_the_old_file_alone(tmp_path, model, one_line_error):
    save_pretrained(tmp_path / "model", model)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    state = torch.get_rng_state()
    save_pretrained(tmp_path / "model", model)
    assert torch.equal(torch.get_rng_state(), state)  # the proof costs no random numbers
    model.extra = nn.Parameter(torch.zeros(3))  # somebody's experiment, which no configuration knows
    with one_line_error(ValueError, "extra has no place in this model"):
        save_pretrained(tmp_path / "model", model)
    del model.extra
    with pytest.raises(TypeError, match="JSON"):
        save_pretrained(tmp_path / "model", model, note=object())
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
