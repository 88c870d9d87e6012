"""Weights on disk: safetensors for the tensors, JSON beside it for everything else, both written whole or
not at all.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dit_course.data import atomic_write, data_root
from dit_course.dit import DiT, DiTConfig
from dit_course.few_steps import FewStepDiT
from dit_course.studies.judges import make_classifier
from dit_course.wrappers import unwrap, without_prefixes


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], proof: Callable | None = None
) -> None:
    """Write PATH.safetensors, then PATH.json: who finds the JSON may trust the tensors.

    path: without ending. about: what JSON can hold. proof: called with the tensors as they are read back, before they
    take the place of an older file; if it raises, that one stays.
    Raises OSError, one line, and leaves nothing half-written.
    """
    weights, description = _pair(path)
    json.dumps(about)  # what JSON cannot hold should not cost the old weights
    # save_file wants each tensor in memory of its own
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def write(file: Path) -> None:
        try:
            save_file(contiguous, file)
        except SafetensorError as error:  # its word for a full disk
            raise OSError(str(error)) from error
        if proof is not None:
            proof(load_file(file))

    atomic_write(weights, write)
    about = {**about, "bytes": weights.stat().st_size}
    atomic_write(description, (json.dumps(about, indent=2) + "\n").encode())


def load_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote. Raises FileNotFoundError, or OSError when a file is damaged."""
    weights, description = _pair(path)
    for file in (weights, description):
        if not file.exists():
            raise FileNotFoundError(f"{file} does not exist{_known(file)}")
    try:
        about = json.loads(description.read_text())
    except ValueError as error:
        raise OSError(f"{description} is damaged (no JSON: {error}): restore it, or train the model again") from error
    size = weights.stat().st_size
    if size != about.get("bytes", size):
        raise OSError(
            f"{weights} is damaged ({size} bytes, expected {about['bytes']}): restore it (git checkout), "
            "or train the model again"
        )
    try:
        return load_file(weights, device=device), about
    except SafetensorError as error:
        raise OSError(f"{weights} is damaged ({error}): restore it (git checkout), or train the model again") from error


def save_pretrained(path: Path, model: DiT, half: bool = False, **about: Any) -> None:
    """Write a DiT to PATH.safetensors and PATH.json, for `load_pretrained`.

    model: a DiT, or an `EMA`, DataParallel, DDP or torch.compile around one: the network inside is saved.
    half: weights as float16, half the size. about: further facts for the JSON (how it was trained, class
        names, ...).
    An older file is replaced only once the new one was read back into a model.
    Raises TypeError for what is no DiT, ValueError for one that is split among processes.
    """
    model = unwrap(model)
    if not isinstance(model, DiT):
        raise TypeError(f"save_pretrained takes a DiT, or an EMA or wrapper of one, not {type(model).__name__}")
    state = model.state_dict()
    if any(hasattr(tensor, "full_tensor") for tensor in state.values()):
        raise ValueError("this model is split among processes (FSDP): save what `gather_model` of the group gathers")
    state = without_prefixes(state)  # parts may be wrapped, too
    learned = without_prefixes(dict(model.named_parameters()))  # buffers hold frequencies: rounding would detune them
    state = {name: x.half() if half and name in learned else x for name, x in state.items()}
    names = {"class_names": model.class_names} if model.class_names else {}
    names |= {"kind": "few-steps"} if isinstance(model, FewStepDiT) else {}
    eps = model.blocks[0].norm_2.eps  # weights that came from diffusers have another
    names |= {"mlp_norm_eps": eps} if eps != 1e-6 else {}
    about = {"config": asdict(model.config), **names, **about}

    def proof(saved: Mapping[str, Tensor]) -> None:
        with torch.random.fork_rng(devices=[]):  # a new model draws its first weights
            _restored(saved, about, path)

    save_tensors(path, state, about, proof)


def load_pretrained(name: str | Path, device: str = "cpu") -> DiT:
    """A trained DiT: "fashion-mnist", "fashion-mnist-few-steps" and "cifar10" ship with the course; or the path of a
    run's folder or a .safetensors file.

    Returns the model, a `FewStepDiT` where a student was saved, in eval mode with its EMA weights in float32, and
    `class_names` where they are known.
    Raises FileNotFoundError, OSError when a file is damaged, ValueError when weights and configuration do
    not fit.
    """
    path = _resolve(name)
    return _restored(*load_tensors(path), path).to(device).eval()


def _restored(state: Mapping[str, Tensor], about: Mapping[str, Any], path: Path) -> DiT:
    """The model that a pair of files describes."""
    try:
        kind = FewStepDiT if about.get("kind") == "few-steps" else DiT
        model = kind(DiTConfig(**about["config"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}.json describes no DiT of this course ({error}): take another file") from error
    load_state(model, state, f"{path}.safetensors")
    model.class_names = tuple(about["class_names"]) if "class_names" in about else None
    for block in model.blocks if "mlp_norm_eps" in about else ():
        block.norm_2.eps = about["mlp_norm_eps"]
    return model


def load_classifier(name: str | Path) -> nn.Module:
    """The shipped judge of a data set, "fashion-mnist" or "cifar10", in eval mode."""
    path = _resolve(f"{name}-classifier")
    if not _pair(path)[0].exists():
        raise FileNotFoundError(
            f"{path}.safetensors does not exist: no judge was shipped for {name}; there is one for fashion-mnist and "
            "one for cifar10, and `python -m dit_course classifier` trains others"
        )
    state, about = load_tensors(path)
    classifier = make_classifier(about["config"])
    load_state(classifier, state, f"{path}.safetensors")
    return classifier.eval()


def weights_file(name: str | Path) -> Path:
    """Where the weights of a model lie: the file that `load_pretrained(name)` reads."""
    return _pair(_resolve(name))[0]


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load weights; a misfit becomes one line that names the first difference instead of all of them.

    Wrappers are seen through on both sides: the model may be one, and names may begin with `module.` or `_orig_mod.`.
    """
    inner, state = unwrap(model), without_prefixes(state)
    places = inner.state_dict()
    own = without_prefixes(places)
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} has no place in this model" for name in state if name not in own]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, the model {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more differences)" if len(problems) > 1 else ""
        raise ValueError(f"{source} does not fit the model's configuration: {problems[0]}{more}; use the matching one")
    inner.load_state_dict({place: state[name] for place, name in zip(places, own, strict=True)})


def checkpoints_in(folder: Path) -> list[Path]:
    """The complete training checkpoints of a run, the newest first, as paths without ending."""
    complete = []
    for description in sorted(Path(folder).glob("checkpoint-*.json"), reverse=True):
        weights = description.with_suffix(".safetensors")
        try:
            if weights.stat().st_size == json.loads(description.read_text())["bytes"]:
                complete.append(description.with_suffix(""))
        except (OSError, ValueError, KeyError):
            continue  # cut short or damaged: an older one is still good
    return complete


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Any,
    about: Mapping[str, Any],
    keep: int = 2,
    gather: Callable[[dict[str, Tensor]], dict[str, Tensor] | None] | None = None,
) -> None:
    """Write all that is needed to go on, as folder/checkpoint-STEP; older ones beyond `keep` are removed.

    gather: makes whole tensors of those that are split among processes; None in return: another process writes.
    """
    tensors = {f"model.{name}": tensor for name, tensor in unwrap(model).state_dict().items()}
    if ema is not None:
        tensors |= {f"ema.{name}": tensor for name, tensor in unwrap(ema).state_dict().items()}
        about = {**about, "ema_updates": ema.updates}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    if gather is not None:
        tensors = gather(tensors)
        if tensors is None:
            return
    save_tensors(Path(folder) / f"checkpoint-{about['step']:08d}", tensors, about)
    for old in checkpoints_in(folder)[keep:]:
        for file in reversed(_pair(old)):  # the JSON first: what is left is then no checkpoint
            file.unlink(missing_ok=True)


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, ema: Any = None
) -> dict[str, Any]:
    """Put model, optimizer and EMA (those that are given) back to where a checkpoint left them; returns its JSON."""
    tensors, about = load_tensors(path)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    load_state(model, parts["model"], f"{path}.safetensors")
    if ema is not None:
        if not parts["ema"]:
            raise ValueError(f"{path} holds no EMA weights: it was trained without; give ema=None, or another folder")
        load_state(ema.model, parts["ema"], f"{path}.safetensors")
        ema.updates = about["ema_updates"]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    if optimizer is not None:
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return about


def _pair(path: Path) -> tuple[Path, Path]:
    return Path(f"{path}.safetensors"), Path(f"{path}.json")


def _resolve(name: str | Path) -> Path:
    """A shipped name, a run's folder, or a file, as a path without ending."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path / "model"
    if path.suffix in (".safetensors", ".json"):
        return path.with_suffix("")
    if len(path.parts) > 1:
        return path
    return data_root() / "checkpoints" / path


def _known(file: Path) -> str:
    shipped = sorted(f.stem for f in (data_root() / "checkpoints").glob("*.safetensors"))
    names = ", ".join(name for name in shipped if not name.endswith("-classifier"))
    return f": take a shipped model ({names or 'none here'}), a run's folder, or the path of a .safetensors file"
