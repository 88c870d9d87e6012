"""To the Hugging Face Hub and back, without a network: local folders, and an upload that is kept instead of sent."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from dit_course import Sampler, load_pretrained, save_pretrained
from dit_course.dit import DiT, DiTConfig
from dit_course.pretrained.hub import HubDiT, from_pretrained, push_to_hub

CONFIG = DiTConfig(image_size=(8, 12), patch_size=4, channels=1, width=16, depth=1, heads=2, num_classes=3)
WRITTEN = {"model.safetensors", "model.json", "config.json", "README.md"}


@pytest.fixture
def model(perturbed):
    model = perturbed(DiT(CONFIG)).eval()
    model.class_names = ("cat", "dog", "fish")
    return model


class NotThere(HfHubHTTPError, EntryNotFoundError):
    """A 404, as huggingface_hub reports it, without the answer of a server."""

    def __init__(self):
        Exception.__init__(self, "404")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that is a folder: what is uploaded lies there, what is downloaded comes from there."""
    place = tmp_path / "hub"

    class Api:
        calls: list = []  # noqa: RUF012

        def __init__(self, token=None):
            self.calls.append(("token", token))

        def create_repo(self, repo_id, private=None, exist_ok=False):
            self.calls.append(("create", repo_id, private))
            return type("Url", (), {"repo_id": repo_id})()

        def upload_folder(self, repo_id, folder_path, commit_message, revision, **_):
            shutil.copytree(folder_path, place / repo_id)
            self.calls.append(("upload", commit_message, revision))
            return f"https://hub.example/{repo_id}/commit/1"

    def download(repo_id, filename, **options):
        assert set(options) <= {"revision", "cache_dir", "force_download", "token", "local_files_only"}
        file = place / repo_id / filename
        if not file.exists():
            raise NotThere
        return str(file)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    monkeypatch.setattr("dit_course.pretrained.hub.hf_hub_download", download)
    monkeypatch.chdir(tmp_path)
    Api.calls.clear()
    return place, Api.calls


def same(ours, model):
    assert ours.config == model.config
    assert ours.class_names == model.class_names
    x, t, y = torch.randn(2, 1, 8, 12), torch.rand(2), torch.tensor([0, 3])
    with torch.no_grad():
        assert torch.equal(ours.eval()(x, t, y), model.eval()(x, t, y))


def test_up_and_down_again(model, hub):
    place, calls = hub
    address = push_to_hub(model, "someone/clothes", private=True, token="secret", commit_message="first")
    assert address == "https://hub.example/someone/clothes/commit/1"
    assert calls == [("token", "secret"), ("create", "someone/clothes", True), ("upload", "first", None)]
    assert {file.name for file in (place / "someone/clothes").iterdir()} == WRITTEN
    again = from_pretrained("someone/clothes", revision="main")
    assert isinstance(again, DiT)
    assert not again.training
    same(again, model)
    assert Sampler(again, steps=2).sample(2, "fish").shape == (2, 1, 8, 12)


def test_the_files_are_those_of_the_course(model, tmp_path):
    HubDiT.of(model, training={"steps": 5}).save_pretrained(tmp_path / "a")
    same(load_pretrained(tmp_path / "a"), model)
    save_pretrained(tmp_path / "b" / "model", model, training={"steps": 5})
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert DiTConfig(**config) == CONFIG
    loaded = HubDiT.from_pretrained(tmp_path / "b", device="cpu")
    same(loaded, model)
    assert loaded.about == {"training": {"steps": 5}}
    assert "secret" not in (tmp_path / "a" / "README.md").read_text()


def test_a_run_of_the_course_is_a_folder_too(model, tmp_path):
    save_pretrained(tmp_path / "model", model)
    (tmp_path / "config.json").write_text(
        json.dumps({"config": {"width": -1}, "data": "fashion-mnist"})
    )  # a run's facts
    same(from_pretrained(str(tmp_path)), model)


def test_a_copy_keeps_all_that_is_no_weight(model):
    for block in model.blocks:
        block.norm_2.eps = 1e-3
    copy = HubDiT.of(model.to(torch.bfloat16).train())
    assert copy.training
    assert (next(copy.parameters()).dtype, copy.blocks[0].norm_2.eps) == (torch.bfloat16, 1e-3)
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(copy.parameters(), model.parameters(), strict=True))


def test_the_eps_of_weights_from_diffusers_survives(model, tmp_path):
    save_pretrained(tmp_path / "plain", model)
    assert "mlp_norm_eps" not in json.loads((tmp_path / "plain.json").read_text())
    for block in model.blocks:
        block.norm_2.eps = 0.1
    HubDiT.of(model).save_pretrained(tmp_path / "a")
    loaded = from_pretrained(tmp_path / "a")
    assert loaded.blocks[0].norm_2.eps == 0.1
    same(loaded, model)


def test_the_model_card(model, hub):
    place, _ = hub
    HubDiT.of(model, training={"steps": 5, "data": "clothes"}).push_to_hub(
        "someone/clothes", model_card_kwargs={"license": "mit", "text": "Drawn on two cores."}
    )
    card = (place / "someone/clothes/README.md").read_text()
    header, _, body = card.removeprefix("---\n").partition("---\n")
    import yaml

    facts = yaml.safe_load(header)
    assert (facts["license"], facts["library_name"]) == ("mit", "dit_course")
    assert {"DiT", "model_hub_mixin"} <= set(facts["tags"])
    learned = sum(parameter.numel() for parameter in model.parameters())
    for said in (
        "# clothes\n",
        f"{learned / 1e6:.2f} M parameters",
        "the velocity noise - x",
        "| width | 16 |",
        "Classes, from 0 on: cat, dog, fish.",
        'training: `{"steps": 5, "data": "clothes"}`',
        "\nDrawn on two cores.\n",
        "from dit_course.sampling import Sampler\n",
        'from_pretrained("someone/clothes")',
    ):
        assert said in body
    code = body.partition("```python\n")[2].partition("```")[0]
    names = {}
    exec(code, names)  # what the card says works
    assert names["drawn"].shape == (10, 1, 8, 12)


def test_the_card_of_a_model_that_predicts_noise(tmp_path):
    config = DiTConfig(8, 2, 4, 16, 1, 2, num_classes=None, out_channels=8)
    HubDiT(config).save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "# A Diffusion Transformer\n" in card
    assert "the noise in x_t and the variance" in card
    assert "from dit_course.pretrained.ddpm import DiffusionSampler" in card
    assert "license" not in card


def test_repositories_and_folders_that_hold_something_else(hub, tmp_path):
    place, _ = hub
    (place / "someone/else").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"someone/else holds no model\.safetensors and model\.json"):
        from_pretrained("someone/else")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        from_pretrained(tmp_path / "empty")


def test_without_the_package_the_error_says_what_to_install():
    code = "import sys; sys.modules['huggingface_hub'] = None; import dit_course.pretrained.hub"
    run = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert run.returncode == 1
    assert "pip install 'dit-course[hub]'" in run.stderr
