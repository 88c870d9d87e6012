"""What a wheel carries besides code: shipped models, judges and tables. An editable install reads `data/` instead.

Left out, to stay below 20 MB: models that only lessons compare with, the 31 MB of Fashion-MNIST (torchvision downloads
it where it is needed), and the pictures of the models' cards.
"""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LEFT_OUT = ("cifar10-small", "fashion-mnist-small")
PATTERNS = ("checkpoints/*.safetensors", "checkpoints/*.json", "checkpoints/*/README.md", "experiments/*.csv")


class PackData(BuildHookInterface):
    """Puts parts of `data/` into the package's folder `_data`, where `dit_course.data.data_root` finds them."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Name the files. version: "standard" for a wheel, "editable" for a link to this folder."""
        if version != "standard":
            return
        data = Path(self.root, "data")
        found = [file for pattern in PATTERNS for file in sorted(data.glob(pattern))]
        files = [file for file in found if not {file.stem, file.parent.name} & set(LEFT_OUT)]
        if not files:
            raise FileNotFoundError(f"{data} holds no models: build the wheel from the whole repository")
        for file in files:
            build_data["force_include"][str(file)] = f"dit_course/_data/{file.relative_to(data).as_posix()}"
