"""`python -m dit_course train`: a DiT from its first step, or from where the same command was stopped."""

from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Literal

from dit_course.commands._network import Network
from dit_course.commands._run import Run
from dit_course.data import Dataset
from dit_course.dit import DiT, DiTConfig
from dit_course.ema import EMA
from dit_course.flow import RectifiedFlow
from dit_course.studies.recipes import find_recipe


@dataclass
class Train(Run):
    """Train a DiT. A run that was killed goes on when the same command is given again."""

    recipe: str | None = None
    """A known training to start from: three-minutes, fashion-mnist, cifar10-laptop, cifar10 or just-a-dit."""
    model: Network = field(default_factory=Network)
    """The network."""
    timesteps: Literal["logit_normal", "uniform"] = "logit_normal"
    """How often each time t is trained."""

    @classmethod
    def of_recipe(cls, name: str | None, by_steps: bool = False) -> "Train":
        """What a recipe says. by_steps: the number of steps ends the training, whatever minutes the recipe names.

        Raises ValueError for an unknown name.
        """
        if name is None:
            return cls()
        recipe = find_recipe(name)
        training = replace(recipe.train, minutes=None) if by_steps else recipe.train
        return cls(
            recipe=name,
            data=recipe.data,
            out=Path("runs") / name,
            model=Network(**recipe.model),
            train=training,
            timesteps=recipe.timesteps,
            ema_decay=recipe.ema_decay,
            **recipe.extra,
        )

    def config_for(self, dataset: Dataset) -> DiTConfig:
        """The options of the network, with the shape and the classes of the data."""
        return self.model.config_for(dataset)

    def network(self, config: DiTConfig) -> DiT:
        """A new DiT."""
        return DiT(config)

    def flow(self, ema: EMA) -> RectifiedFlow:
        """Velocities."""
        return RectifiedFlow(self.timesteps)

    def learned(self) -> dict:
        """How often each time is trained."""
        return {"timesteps": self.timesteps}

    def default_out(self) -> Path:
        """runs/DATA."""
        return default_out(self.data)


def default_out(data: str) -> Path:
    """runs/NAME, after the data set or the folder of pictures, whether written `photos/`, `.` or `C:\\photos`."""
    if data.startswith("folder:"):
        path = str(Path(data.removeprefix("folder:")).expanduser().resolve())
        data = PureWindowsPath(path).name or "pictures"  # a Windows path splits at / and at \\; a root has no name
    return Path("runs") / data
