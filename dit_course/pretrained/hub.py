"""Models to the Hugging Face Hub and back, through huggingface_hub's mixin (an extra of lesson 10).

The files are the course's own, `model.safetensors` and `model.json`, which `load_pretrained` reads from a folder, too.
The mixin adds `config.json`, by which the Hub counts downloads, and `README.md`, the model card.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

try:
    from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
except ImportError as error:
    raise ImportError(f"the Hub needs its package: pip install 'dit-course[hub]' ({error})") from error

from dit_course.checkpoints import load_pretrained, save_pretrained
from dit_course.dit import DiT, DiTConfig
from dit_course.wrappers import unwrap

FILES = ("model.safetensors", "model.json")


class HubDiT(DiT, ModelHubMixin, library_name="dit_course", tags=["diffusion", "DiT", "image-generation"]):
    """A DiT with `push_to_hub`, `save_pretrained` and `from_pretrained`; otherwise the one of lesson 04.

    about: further facts that go into model.json and are found again there, such as how it was trained.
    """

    def __init__(self, config: DiTConfig):
        super().__init__(config)
        self.about: dict[str, Any] = {}

    @classmethod
    def of(cls, model: DiT, **about: Any) -> "HubDiT":
        """A copy of this model, with its weights, class names, mode, device and precision, that knows the Hub.

        model: a DiT, or an `EMA` or wrapper of one.
        """
        model = unwrap(model)
        weight = next(model.parameters())
        copy = cls(model.config).to(weight.device, weight.dtype)
        copy.load_state_dict(model.state_dict())
        for ours, theirs in zip(copy.blocks, model.blocks, strict=True):
            ours.norm_2.eps = theirs.norm_2.eps
        copy.class_names = model.class_names
        copy.about = {**getattr(model, "about", {}), **about}
        return copy.train(model.training)

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> "HubDiT":
        """The model in a folder that the course or `save_pretrained` wrote, or in a repository of the Hub.

        name: the folder, or owner/name. options: `device`, and for the Hub those of huggingface_hub's mixin:
            `revision`, `token`, `cache_dir`, `force_download`, `local_files_only`.
        Returns it in eval mode, in float32. Raises FileNotFoundError or OSError for what is missing or damaged.
        """
        if Path(name).expanduser().is_dir():  # a run's config.json is no configuration of a model
            return cls._in(Path(name).expanduser(), options.get("device", "cpu"))
        return super().from_pretrained(name, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload weights, configuration and model card; returns the address of the commit.

        repo_id: owner/name; the repository is made if need be. options: those of huggingface_hub's mixin, such as
            `private`, `token`, `branch`, `commit_message`; and `model_card_kwargs`, see `generate_model_card`.
        """
        card = {"repo_id": repo_id, **(options.pop("model_card_kwargs", None) or {})}
        return super().push_to_hub(repo_id, model_card_kwargs=card, **options)

    def generate_model_card(self, repo_id: str = "FOLDER", license: str | None = None, text: str = "") -> ModelCard:
        """README.md: what the network is, what it was told, how to draw with it.

        license: as the Hub names it, such as "mit"; of the weights, which depends on the data, too. text: more to say.
        """
        data = self._hub_mixin_info.model_card_data.to_dict() | ({"license": license} if license else {})
        header = "".join(f"{key}: {json.dumps(value)}\n" for key, value in data.items())
        return ModelCard(f"---\n{header}---\n\n{_card(self, repo_id, text)}")

    def _save_pretrained(self, save_directory: Path) -> None:
        save_pretrained(save_directory / "model", self, **self.about)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, device: str | torch.device = "cpu", **options: Any) -> "HubDiT":
        options.pop("config", None)  # model.json has it
        try:
            files = [Path(hf_hub_download(model_id, name, **options)) for name in FILES]
        except LocalEntryNotFoundError:  # no network, and nothing kept of it: the Hub's own words say so
            raise
        except EntryNotFoundError as error:
            raise FileNotFoundError(
                f"{model_id} holds no {' and '.join(FILES)}: name a repository that `push_to_hub` of this course filled"
            ) from error
        return cls._in(files[0].parent, device)

    @classmethod
    def _in(cls, folder: Path, device: str | torch.device) -> "HubDiT":
        model = load_pretrained(folder)
        about = json.loads((folder / FILES[1]).read_text())
        own = {"config", "class_names", "bytes", "mlp_norm_eps"}
        return cls.of(model, **{key: value for key, value in about.items() if key not in own}).to(device)


def push_to_hub(model: DiT, repo_id: str, **options: Any) -> str:
    """Upload a model to the Hugging Face Hub, as `HubDiT.push_to_hub` does; returns the address of the commit."""
    return HubDiT.of(model).push_to_hub(repo_id, **options)


def from_pretrained(name: str | Path, **options: Any) -> HubDiT:
    """A model from a folder or from the Hugging Face Hub, see `HubDiT.from_pretrained`."""
    return HubDiT.from_pretrained(name, **options)


def _card(model: HubDiT, repo_id: str, text: str) -> str:
    config = model.config
    learned = sum(parameter.numel() for parameter in model.parameters())
    noise = (config.out_channels or config.channels) == 2 * config.channels
    predicts = (
        "the noise in x_t and the variance of the next step (t = step / 1000)"
        if noise
        else "the velocity noise - x at x_t = (1 - t) x + t noise (t = 0 is data, t = 1 is noise)"
    )
    rows = "\n".join(f"| {name} | {value} |" for name, value in asdict(config).items())
    classes = f"\nClasses, from 0 on: {', '.join(model.class_names)}.\n" if model.class_names else ""
    facts = "".join(f"\n{name}: `{json.dumps(value)}`\n" for name, value in model.about.items())
    room, sampler = ("pretrained.ddpm", "DiffusionSampler") if noise else ("sampling", "Sampler")
    return f"""# {repo_id.rpartition("/")[2] if repo_id != "FOLDER" else "A Diffusion Transformer"}

A Diffusion Transformer (Peebles & Xie 2023, arXiv 2212.09748) with {learned / 1e6:.2f} M parameters, from the course
`dit_course`. It predicts {predicts}, with data in [-1, 1].

| | |
|---|---|
{rows}
{classes}{facts}{text and f"{chr(10)}{text.strip()}{chr(10)}"}
```python
from dit_course.pretrained.hub import from_pretrained
from dit_course.{room} import {sampler}

model = from_pretrained("{repo_id}")
drawn = {sampler}(model).sample(10)
```

Weights in `model.safetensors`, configuration in `model.json`.
"""
