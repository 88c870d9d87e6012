"""The model that ships: small enough, honestly described, and it draws what it is asked for."""

import hashlib
import json
from itertools import product
from pathlib import Path

import pytest
import torch

from dit_course import FewStepSampler, Sampler, class_accuracy, load_classifier, load_dataset, load_pretrained
from dit_course.commands.evaluate import STEPS, Evaluate, count_evaluations
from dit_course.data import CIFAR10_CLASSES, data_root

CHECKPOINTS = data_root() / "checkpoints"


def size_of(*patterns: str) -> int:
    return sum(f.stat().st_size for pattern in patterns for f in Path(CHECKPOINTS).glob(pattern) if f.is_file())


def test_sizes():
    assert size_of("fashion-mnist.*", "fashion-mnist/*") <= 8_000_000
    assert size_of("fashion-mnist-few-steps.*") <= 5_000_000
    assert size_of("fashion-mnist-classifier.*") <= 2_000_000
    assert size_of("cifar10.*", "cifar10/*") <= 12_000_000
    assert size_of("cifar10-small.*") <= 6_000_000
    assert size_of("cifar10-classifier.*") <= 4_000_000


def test_it_was_trained_by_the_command_with_a_known_seed():
    about = json.loads((CHECKPOINTS / "fashion-mnist.json").read_text())
    training = about["training"]
    assert training["data"] == "fashion-mnist"
    assert training["steps"] > 1000
    assert isinstance(training["train"]["seed"], int)
    card = (CHECKPOINTS / "fashion-mnist" / "README.md").read_text()
    assert f"{training['steps']:,} steps" in card
    for scale in ("1.0", "2.5", "5.0"):
        assert f"samples-cfg-{scale}.png" in card
        assert (CHECKPOINTS / "fashion-mnist" / f"samples-cfg-{scale}.png").exists()


def test_the_cards_numbers_are_those_of_the_stored_result():
    result = json.loads((CHECKPOINTS / "fashion-mnist" / "evaluation.json").read_text())
    card = (CHECKPOINTS / "fashion-mnist" / "README.md").read_text()
    assert result["protocol"]["samples"] == 1000
    assert result["protocol"]["evaluations_per_sample"] <= 30
    assert result["class_accuracy"] >= 0.92
    assert f"{result['class_accuracy']:.1%}" in card
    assert f"{result['frechet_distance']:.2f}" in card


def test_fresh_samples_are_in_the_class_asked_for():
    """With another seed than the card's: 150 samples, a margin of three standard errors below 92 %."""
    sampler = Sampler(load_pretrained("fashion-mnist"), steps=STEPS, solver=Evaluate.solver, cfg=Evaluate.cfg)
    assert count_evaluations(sampler) <= 30
    labels = torch.arange(150) % 10
    pictures = sampler.sample(150, labels, seed=123)
    assert class_accuracy(load_classifier("fashion-mnist"), pictures, labels) >= 0.92 - 3 * (0.92 * 0.08 / 150) ** 0.5


COLOR = {"cifar10": ("one NVIDIA H200", ("",), 20), "cifar10-small": ("2 CPU cores", ("", "raw-"), 100)}


@pytest.mark.parametrize("name", COLOR)
def test_a_color_models_card_says_what_was_measured(name):
    machine, kinds, _ = COLOR[name]
    training = json.loads((CHECKPOINTS / f"{name}.json").read_text())["training"]
    result = json.loads((CHECKPOINTS / name / "evaluation.json").read_text())
    card = (CHECKPOINTS / name / "README.md").read_text()
    assert training["data"] == "cifar10"
    assert (result["protocol"]["samples"], result["protocol"]["features"]) == (1000, "cifar10-classifier")
    judge = CHECKPOINTS / "cifar10-classifier.safetensors"
    assert result["protocol"]["judge_sha256"] == hashlib.sha256(judge.read_bytes()).hexdigest()
    assert f"{training['steps']:,} steps" in card
    assert f"{training['seconds'] / 60:.0f} minutes on {machine}" in card
    assert f"{result['class_accuracy']:.1%}" in card
    for kind, scale, ending in product(kinds, ("1.0", "2.5", "5.0"), ("png", "gif")):
        assert f"samples-{kind}cfg-{scale}.{ending}" in card
        assert (CHECKPOINTS / name / f"samples-{kind}cfg-{scale}.{ending}").exists()


@pytest.mark.parametrize("name", COLOR)
def test_fresh_color_samples_are_as_good_as_the_card_says(name):
    """With another seed than the card's, within four standard errors."""
    count = COLOR[name][2]
    result = json.loads((CHECKPOINTS / name / "evaluation.json").read_text())
    protocol, stated = result["protocol"], result["class_accuracy"]
    model = load_pretrained(name)
    assert model.class_names == CIFAR10_CLASSES
    sampler = Sampler(model, protocol["steps"], protocol["solver"], protocol["cfg"])
    labels = torch.arange(count) % 10
    accuracy = class_accuracy(load_classifier("cifar10"), sampler.sample(count, labels, seed=123), labels)
    assert abs(accuracy - stated) <= 4 * (stated * (1 - stated) / count) ** 0.5


def test_samples_are_not_all_alike_and_not_copies():
    pictures = Sampler(load_pretrained("fashion-mnist"), steps=8, solver="ab2").sample(20, labels="sneaker", seed=1)
    distances = torch.cdist(pictures.flatten(1), pictures.flatten(1)) + 1e3 * torch.eye(20)
    assert distances.min() > 1
    images, labels = load_dataset("fashion-mnist")
    shoes = images[labels == 7].flatten(1).float() / 255
    assert torch.cdist(pictures.flatten(1), shoes).min() > 1


def test_the_students_card_says_what_was_measured():
    place = CHECKPOINTS / "fashion-mnist-few-steps"
    result, card = json.loads((place / "evaluation.json").read_text()), (place / "README.md").read_text()
    assert (result["samples"], result["seeds"], result["teacher"]) == (1000, 3, "fashion-mnist")
    assert result["evaluations"] == {"student, 1": 1, "student, 2": 2, "student, 4": 4, "teacher": 30}
    reference = result["means"]["teacher"]["frechet_distance"]
    for name, mean in result["means"].items():
        scores = [row["frechet_distance"] for row in result["rows"] if row["sampler"] == name]
        assert abs(sum(scores) / 3 - mean["frechet_distance"]) < 1e-9
        assert f"| {mean['class_accuracy']:.1%} | {mean['frechet_distance']:.2f} |" in card
        assert f"| {mean['frechet_distance'] / reference:.2f}x |" in card
    one, two, four = (result["means"][f"student, {evaluations}"] for evaluations in (1, 2, 4))
    assert one["class_accuracy"] >= 0.94
    assert one["frechet_distance"] <= 1.5 * reference
    assert two["frechet_distance"] <= 1.25 * reference
    assert four["frechet_distance"] <= 1.1 * reference
    for picture in ("samples-student-1.png", "samples-student-2.png", "samples-student-4.png", "samples-teacher.png"):
        assert f"({picture})" in card
        assert (place / picture).exists()
    assert (place / "guidance.gif").exists()


def test_the_student_draws_the_class_asked_for_in_one_evaluation():
    """With another seed than the card's: 300 samples, a margin of three standard errors below 94 %."""
    sampler = FewStepSampler(load_pretrained("fashion-mnist-few-steps"), steps=1, cfg=2.5)
    assert count_evaluations(sampler) == 1
    labels = torch.arange(300) % 10
    accuracy = class_accuracy(load_classifier("fashion-mnist"), sampler.sample(300, labels, seed=123), labels)
    assert accuracy >= 0.94 - 3 * (0.94 * 0.06 / 300) ** 0.5
