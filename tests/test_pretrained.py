"""Released weights of DiT: from a file or a folder, through latents, to pictures on the command line."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from test_layouts import CLASSES, CONFIGS, LABELS, SMALL, STEPS, diffusers_model, official_output, official_weights

from dit_course.__main__ import main
from dit_course.dit import DiT, DiTConfig
from dit_course.pretrained.ddpm import DiffusionSampler
from dit_course.pretrained.layouts import config_of_official
from dit_course.pretrained.load import (
    imagenet_names,
    load_diffusers_folder,
    load_official_checkpoint,
    load_released,
    read_weights,
)
from dit_course.pretrained.vae import SCALE, decode, decoder, encode, load_vae

LATENT = CONFIGS["4 latent channels"]
XL = {"width": 1152, "depth": 28, "heads": 16, "patch": 2, "channels": 4, "out": 8, "hidden": 4608, "image": (32, 32)}


def answers(model):
    x = torch.randn(len(STEPS), 4, 8, 8, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        return x, model(x, STEPS / 1000, LABELS)


@pytest.fixture(scope="module")
def official_file(tmp_path_factory) -> Path:
    """A small random model, saved as the official repository saves its models."""
    path = tmp_path_factory.mktemp("official") / "DiT-tiny.pt"
    torch.save(official_weights(LATENT), path)
    return path


@pytest.fixture(scope="module")
def vae_folder(tmp_path_factory) -> Path:
    """A small random VAE that halves its pictures' sides three times, as that of Stable Diffusion does."""
    diffusers = pytest.importorskip("diffusers")
    path = tmp_path_factory.mktemp("pipeline") / "vae"
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        layers_per_block=1,
    )
    vae.save_pretrained(path)
    return path


# -- files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["weights", "old zip", "checkpoint", "only the model", "safetensors"])
def test_an_official_file_in_all_its_forms(tmp_path, kind):
    weights, path = official_weights(LATENT), tmp_path / "DiT-tiny.pt"
    others = {name: torch.zeros_like(value) for name, value in weights.items()}
    options = argparse.Namespace(model="DiT-XL/2", results_dir="results", lr=1e-4)
    if kind == "safetensors":
        path = tmp_path / "DiT-tiny.safetensors"
        save_file(weights, path)
    elif kind == "old zip":
        torch.save(weights, path, _use_new_zipfile_serialization=False)
    elif kind == "checkpoint":  # of the official train.py
        torch.save({"model": others, "ema": weights, "opt": {"state": {}}, "args": options}, path)
    else:
        torch.save({"model": weights} if kind == "only the model" else weights, path)
    model = load_official_checkpoint(path, heads=2)
    x, ours = answers(model)
    assert not model.training
    assert model.class_names is None  # 5 classes are not ImageNet's
    torch.testing.assert_close(ours, official_output(weights, LATENT, x, STEPS, LABELS), atol=1e-5, rtol=0)


def test_files_that_are_none(tmp_path):
    def refused(error, message, name, content=None):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(error, match=message):
            load_released(path, heads=2)

    weights = official_weights(LATENT)
    refused(FileNotFoundError, "does not exist", "nowhere.pt")
    refused(ValueError, "more than weights", "code.pt", {"model": Path("/")})  # it would run code to be unpacked
    refused(OSError, "is damaged, or no file of weights", "text.pt", b"hello, this is no file of torch")
    refused(OSError, "is damaged", "cut.safetensors", b"1234")
    refused(ValueError, "holds a list, expected a state dict", "list.pt", [weights["pos_embed"]])
    refused(ValueError, "missing", "empty.pt", {})
    refused(ValueError, "names of diffusers: give its folder", "other.pt", dict(diffusers_model(SMALL).state_dict()))
    torch.save(weights, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    refused((OSError, ValueError), "damaged", "half.pt", content[: len(content) // 2])
    with pytest.raises(ValueError, match="width 32 is none of the paper's sizes: say how many heads"):
        load_official_checkpoint(tmp_path / "whole.pt")


def test_the_paper_sizes_know_their_heads(tmp_path):
    size = SMALL | {"width": 384, "depth": 1, "heads": 6, "hidden": 384}
    torch.save(official_weights(size), tmp_path / "small.pt")
    assert load_official_checkpoint(tmp_path / "small.pt").config.heads == 6


@pytest.mark.parametrize("whole_pipeline", [False, True])
def test_a_folder_of_diffusers(tmp_path, whole_pipeline):
    theirs = diffusers_model(LATENT, norm_eps=1e-3)
    theirs.save_pretrained(tmp_path / "transformer" if whole_pipeline else tmp_path)
    model = load_released(tmp_path)
    x, ours = answers(model)
    with torch.no_grad():
        expected = theirs(x, timestep=STEPS, class_labels=LABELS).sample
    assert model.config.heads == LATENT["heads"]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_released(tmp_path)
    diffusers_model(SMALL).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="knows heads and image size: omit both"):
        load_released(tmp_path, heads=2)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"activation_fn": "geglu"}))
    with pytest.raises(ValueError, match="uses geglu"):
        load_diffusers_folder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OSError, match="describes no DiT of diffusers"):
        load_diffusers_folder(tmp_path)


def test_imagenet_names_come_in_the_order_of_its_folders(tmp_path):
    names = imagenet_names()
    assert len(set(names)) == 1000
    # sample.py of the official repository draws 207 for a golden retriever
    assert (names[0], names[207], names[360], names[979]) == ("tench", "golden retriever", "otter", "valley")
    weights = official_weights(SMALL)
    weights["y_embedder.embedding_table.weight"] = torch.randn(1001, SMALL["width"])
    torch.save(weights, tmp_path / "x.pt")
    model = load_official_checkpoint(tmp_path / "x.pt", heads=2)
    assert model.class_names == names


def test_the_geometry_of_xl_2():
    """Names, shapes and size of the released model, without its gigabytes."""
    with torch.device("meta"):
        model = DiT.from_name(
            "DiT-XL/2", image_size=32, channels=4, out_channels=8, num_classes=1000,
            registers=0, qk_norm=False, norm="layer",
        )  # fmt: skip
        weights = official_weights(SMALL | XL | {"depth": 1})
    weights["pos_embed"] = weights["pos_embed"].to("meta")
    weights["y_embedder.embedding_table.weight"] = torch.empty(1001, 1152, device="meta")
    for name in [name for name in weights if name.startswith("blocks.0.")]:
        weights |= {name.replace("0", str(n), 1): weights[name] for n in range(1, 28)}
    assert config_of_official(weights, heads=16) == model.config
    learned = sum(value.numel() for name, value in weights.items() if name != "pos_embed")
    assert learned == sum(parameter.numel() for parameter in model.parameters()) == 674_834_720
    # the paper's table 1: 675 M; the official train.py prints its positions with them
    assert learned + weights["pos_embed"].numel() == 675_129_632


# -- latents --------------------------------------------------------------------------------------------------


def test_encode_and_decode_are_the_vae_and_the_scale(vae_folder):
    vae = load_vae(vae_folder)
    assert SCALE == 0.18215 == vae.config.scaling_factor
    pictures = torch.rand(3, 3, 32, 48)
    with torch.no_grad():
        found = vae.encode(2 * pictures - 1).latent_dist
        latents = encode(vae, pictures, mean=True, batch_size=2)
        assert latents.shape == (3, 4, 4, 6)
        torch.testing.assert_close(latents, 0.18215 * found.mean)
        first, again = (encode(vae, pictures, torch.Generator().manual_seed(4)) for _ in range(2))
        assert torch.equal(first, again)
        expected = 0.18215 * (found.mean + found.std * torch.randn(latents.shape, generator=torch.manual_seed(4)))
        torch.testing.assert_close(first, expected)
        back = decode(vae, latents, batch_size=2)
        assert back.shape == pictures.shape
        torch.testing.assert_close(back, (vae.decode(found.mean).sample / 2 + 0.5).clamp(0, 1))
        torch.testing.assert_close(decoder(vae)(latents), back)
    assert not vae.training
    assert not back.requires_grad


def test_bytes_and_half_precision(vae_folder):
    vae = load_vae(vae_folder)
    pixels = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(encode(vae, pixels, mean=True), encode(vae, pixels / 255, mean=True))
    latents = encode(vae.to(torch.bfloat16), pixels, mean=True)
    assert latents.dtype == decode(vae, latents).dtype == torch.float32


def test_what_the_vae_cannot_take(vae_folder, tmp_path, monkeypatch):
    vae = load_vae(vae_folder.parent)  # the pipeline's folder will do
    with pytest.raises(ValueError, match=r"expected \(n, 3, height, width\)"):
        encode(vae, torch.rand(2, 1, 16, 16))
    with pytest.raises(ValueError, match=r"beyond \[0, 1\]"):
        encode(vae, 2 * torch.rand(2, 3, 16, 16) - 1)
    with pytest.raises(ValueError, match=r"this VAE decodes \(n, 4, height, width\)"):
        decode(vae, torch.randn(1, 8, 4, 4))
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_vae(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(OSError, match="cannot be loaded"):
        load_vae(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"pip install 'dit-course\[latents\]'"):
        load_vae(vae_folder)


# -- from a file to pictures ------------------------------------------------------------------------------------


def sample(*arguments) -> int:
    return main(["sample", *map(str, arguments)])


def test_from_an_official_file_to_pictures(official_file, vae_folder, tmp_path, capsys):
    out, gif = tmp_path / "grid.png", tmp_path / "gif.gif"
    settings = ["--official", official_file, "--heads", 2, "--vae", vae_folder, "--seed", 1, "--steps", 3]
    settings += ["--classes", 3, 0, "--per-class", 2]
    assert sample(*settings, "--out", out) == 0
    assert "4 pictures, cfg 4.0, 3 ddpm steps" in capsys.readouterr().out
    with Image.open(out) as grid:
        assert grid.width > 2 * 64
        drawn = grid.tobytes()
    assert sample(*settings, "--out", out, "--gif", gif) == 0
    with Image.open(out) as grid, Image.open(gif) as moments:
        assert grid.tobytes() == drawn
        assert moments.n_frames >= 2  # a random VAE draws alike frames, which a GIF joins

    from dit_course.show import save_image

    model = load_official_checkpoint(official_file, heads=2)
    sampler = DiffusionSampler(model, steps=3, decode=decoder(load_vae(vae_folder)))
    save_image(sampler.sample(4, [3, 0, 3, 0], seed=1), tmp_path / "again.png", columns=2)
    with Image.open(tmp_path / "again.png") as grid:
        assert grid.tobytes() == drawn


def test_the_bar_counts_passes_and_leaves_the_answers_alone(official_file, monkeypatch):
    from dit_course.commands import _official as official

    moves = []
    monkeypatch.setattr(official.tqdm, "update", lambda bar, n=1: moves.append(bar.total) or True)
    sampler = DiffusionSampler(load_official_checkpoint(official_file, heads=2), steps=3)
    plain = sampler.sample(10, seed=0, batch_size=official.BATCH)
    with official.passes(sampler, 10, together=False):
        assert torch.equal(sampler.sample(10, seed=0, batch_size=official.BATCH), plain)
    assert moves == [6] * 6
    with official.passes(sampler, 10, together=True):
        sampler.sample(10, seed=0, callback=lambda *_: None)
    assert moves[6:] == [3] * 3


def test_from_a_folder_of_diffusers_to_pictures(vae_folder, tmp_path):
    diffusers_model(LATENT).save_pretrained(vae_folder.parent / "transformer")
    out = tmp_path / "x.png"
    settings = ["--official", vae_folder.parent, "--steps", 2, "--per-class", 1, "--method", "ddim", "--out", out]
    assert sample(*settings) == 0
    assert out.exists()


def test_weights_that_draw_pixels_need_no_vae(tmp_path):
    torch.save(official_weights(SMALL), tmp_path / "pixels.pt")
    out = tmp_path / "x.png"
    assert sample("--official", tmp_path / "pixels.pt", "--heads", 2, "--steps", 2, "--classes", 1, "--out", out) == 0
    assert out.exists()


def test_what_is_missing_is_said_before_anything_is_drawn(official_file, vae_folder, tmp_path, capsys):
    def error(*arguments) -> str:
        assert sample(*arguments, "--out", tmp_path / "x.png") == 1
        assert list(tmp_path.iterdir()) == []
        text = capsys.readouterr().err.strip().splitlines()
        return text[-1]

    official = ["--official", official_file, "--heads", 2]
    assert "say with --vae" in error(*official)
    assert "say how many heads" in error("--official", official_file, "--vae", vae_folder)
    assert "does not exist" in error("--official", tmp_path / "nowhere.pt")
    assert "unknown class 'otter'; this model knows none by name: use numbers" in error(
        *official, "--vae", vae_folder, "--classes", "otter", "--steps", 2
    )
    assert "labels reach from 7 to 7" in error(*official, "--vae", vae_folder, "--classes", "7", "--steps", 2)
    assert "from 2 to 1000" in error(*official, "--vae", vae_folder, "--steps", 1)
    assert "go with --official" in error("--vae", vae_folder)
    assert "device 'cuda:99' cannot be used here" in error("--device", "cuda:99")


def test_a_thousand_classes_are_asked_for_by_name(vae_folder, tmp_path, capsys):
    weights = official_weights(LATENT)
    weights["y_embedder.embedding_table.weight"] = torch.randn(1001, LATENT["width"])
    path, out = tmp_path / "x.pt", tmp_path / "x.png"
    torch.save(weights, path)
    settings = ["--official", path, "--heads", 2, "--vae", vae_folder, "--steps", 2, "--per-class", 1, "--out", out]
    assert sample(*settings) == 1
    assert "1000 classes: say with --classes which to draw, numbers or names" in capsys.readouterr().err
    assert sample(*settings, "--seed", 0, "--classes", "golden retriever", "otter") == 0
    by_name = out.read_bytes()
    assert sample(*settings, "--seed", 0, "--classes", 207, 360) == 0
    assert out.read_bytes() == by_name


def test_a_vae_of_other_latents(vae_folder, tmp_path, capsys):
    torch.save(official_weights(SMALL), tmp_path / "pixels.pt")
    assert sample("--official", tmp_path / "pixels.pt", "--heads", 2, "--vae", vae_folder, "--out", "x.png") == 1
    assert "has 4 latent channels, the model 3" in capsys.readouterr().err


def test_a_trained_model_is_encoded_decoded_and_drawn_in_one_line(vae_folder):
    """The flow works in latents, too: `Sampler` knows nothing of diffusion, and a VAE goes behind it."""
    vae = load_vae(vae_folder)
    model = DiT(DiTConfig(8, 2, 4, 24, 1, 2, num_classes=CLASSES))
    assert model(encode(vae, torch.rand(2, 3, 64, 64)), torch.rand(2), LABELS[:2]).shape == (2, 4, 8, 8)


def test_read_weights_maps_large_files(official_file):
    assert set(read_weights(official_file)) == set(official_weights(LATENT))
