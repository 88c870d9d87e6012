"""Old import paths keep working for one release, with a DeprecationWarning that names the new one.

`MODULES` lists what moved as a whole, `NAMES` what was renamed inside a module, or moved out of it: the new name, with
its module in front where that is another one. Nothing here imports torch.
"""

import importlib
import importlib.util
import sys
import warnings
from importlib.machinery import ModuleSpec, PathFinder

MODULES = {
    "batches": "training",
    "classifier": "studies.classifier",
    "commands.scaling": "studies.scaling",
    "commands.solvers": "studies.solvers",
    "commands.tradeoff": "studies.guidance",
    "diffusion": "pretrained.ddpm",
    "doctor": "setup.doctor",
    "experiments": "studies.experiments",
    "hub": "pretrained.hub",
    "latents": "pretrained.vae",
    "nodelay": "setup.nodelay",
    "notebooks": "authoring.notebooks",
    "parallel": "distributed.single",
    "recipes": "studies.recipes",
    "release": "authoring.release",
    "released": "pretrained.load",
    "settings": "distributed.train_config",
    "team": "distributed.group",
}
NAMES = {
    "interop": {
        "config_of_diffusers": "pretrained.layouts.config_of_diffusers",
        "config_of_official": "pretrained.layouts.config_of_official",
        "load_diffusers": "pretrained.layouts.load_diffusers",
        "load_official": "pretrained.layouts.load_official",
    },
    "conditioning": {"check_labels": "guards.check_labels"},
    "check": {"Share": "BatchShard", "find_noise": "invert", "profile": "averaging_weights"},
    "distributed.single": {
        "BatchShard": "distributed.rows.BatchShard",
        "Share": "distributed.rows.BatchShard",
        "crew_for": "distributed.process_group",
        "loss_of_rows": "distributed.rows.loss_of_rows",
        "process_group": "distributed.process_group",
    },
    "dit": {
        "count_multiply_adds": "scaling.count_multiply_adds",
        "count_parameters": "scaling.count_parameters",
    },
    "ema": {"profile": "averaging_weights"},
    "sampling": {"find_noise": "invert", "same_time": "expand_time"},
    "show": {
        "balls": "knn_balls",
        "bias": "frechet_bias",
        "bowl": "quadratic_trajectories",
        "clouds": "feature_clouds",
        "costs": "token_costs",
        "lengths": "token_norms",
        "looks": "attention_from_patch",
        "maps": "heatmaps",
        "nearness": "nearest_distances",
        "parts": "parameter_shares",
        "phases": "step_phases",
        "race": "init_race",
        "roads": "trajectories",
        "solver_roads": "solver_trajectories",
    },
    "training": {
        "TrainConfig": "distributed.train_config.TrainConfig",
        "checked": "trainer.check_dataset",
        "prepare": "trainer.make_batch",
        "train": "trainer.train",
    },
}


class _Finder:
    """Finds modules that moved, and teaches modules their old names as they are imported."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        course, _, room = name.partition(".")
        if course != "dit_course":
            return None
        if room in MODULES:
            place = f"dit_course.{MODULES[room]}"
            _warn(name, place)
            return ModuleSpec(name, _MovedModule(place), origin=importlib.util.find_spec(place).origin)
        spec = PathFinder.find_spec(name, path, target) if room in NAMES else None
        if spec is not None:
            execute = spec.loader.exec_module

            def exec_module(module) -> None:
                execute(module)
                module.__getattr__ = _old_names(room, getattr(module, "__getattr__", None))

            spec.loader.exec_module = exec_module
        return spec


class _MovedModule:
    """A loader whose module is the one at the new place."""

    def __init__(self, place: str):
        self.place = place

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module) -> None:
        sys.modules[module.__name__] = importlib.import_module(self.place)

    def get_code(self, name: str):  # for `python -m`
        return importlib.util.find_spec(self.place).loader.get_code(self.place)


def _old_names(room: str, own=None):
    """The `__getattr__` of a module with renamed members. own: the one that the module has already."""

    def __getattr__(name: str):
        new = NAMES[room].get(name)
        if new is None:
            if own is not None:
                return own(name)
            raise AttributeError(f"module 'dit_course.{room}' has no attribute {name!r}")
        module, _, member = f"dit_course.{new if '.' in new else f'{room}.{new}'}".rpartition(".")
        _warn(f"dit_course.{room}.{name}", f"{module}.{member}")
        return getattr(importlib.import_module(module), member)

    return __getattr__


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}: the old name goes with the next release", DeprecationWarning, stacklevel=3)


__getattr__ = _old_names("interop")

if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    sys.meta_path.insert(0, _Finder())
