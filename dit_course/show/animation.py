"""Animations of sampling: GIF for the notebook, MP4 to send around."""

import errno
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit_course.data import atomic_write
from dit_course.show.arrays import enlarge, grid, to_bytes

WIDTH = 640  # pixels that an animation is enlarged to, or just below


class Recorder:
    """Records the states of a sampler: `Sampler(model).sample(4, callback=recorder)`.

    frames: the states, (N, C, H, W) in [0, 1]. times: t of each. A new run starts a new recording.
    """

    def __init__(self):
        self.frames: list[Tensor] = []
        self.times: list[float] = []

    def __call__(self, index: int, t: float, x: Tensor) -> None:
        """Record a state; x lies in [-1, 1], and noise reaches beyond, so it is clamped."""
        if index == 0:
            self.frames, self.times = [], []
        self.frames.append(((x.detach().float().cpu() + 1) / 2).clamp(0, 1))
        self.times.append(t)


def animation(
    frames: Sequence[Tensor],
    fps: float = 10,
    scale: int | None = None,
    columns: int | None = None,
    hold: float = 1.0,
):
    """An animation that plays in the notebook: an `IPython.display.Image` that holds the whole GIF.

    With 32 shades instead of 256, because noise does not compress, and a notebook should stay small. Arguments as in
    `save_animation`.
    """
    from IPython.display import Image

    shades = [(to_bytes(frame) / 255 * 31).round() / 31 for frame in frames]
    data = _encode(_tiled(shades, scale, columns), ".gif", fps, hold)
    alt = f"Animation of {len(frames)} frames: {len(frames[0])} picture(s) sampled from noise"
    return Image(data=data, format="gif", metadata={"alt": alt})  # `alt=` is unknown to the IPython of Colab


def save_animation(
    frames: Sequence[Tensor],
    path: str | Path,
    fps: float = 10,
    scale: int | None = None,
    columns: int | None = None,
    hold: float = 1.0,
) -> None:
    """Write an animation, whole or not at all: GIF or MP4 (H.264 that every player knows), by the suffix of `path`.

    frames: in order, each (N, C, H, W) in [0, 1] or uint8; the N images are tiled.
    scale: how many pixels wide each pixel becomes; None makes the animation about 640 wide.
    hold: for how many seconds the last frame stays.
    Raises ValueError for wrong arguments, OSError in one line when it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise ValueError(f"an animation is a .gif or a .mp4, not {path.name!r}: choose one of these suffixes")
    tiled = _tiled(frames, scale, columns)
    try:
        data = _encode(tiled, path.suffix.lower(), fps, hold)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
    atomic_write(path, data)


def _tiled(frames: Sequence[Tensor], scale: int | None, columns: int | None) -> list[np.ndarray]:
    """Each frame as one image for moviepy: (height, width, 3) uint8, height and width even."""
    if len(frames) == 0:
        raise ValueError("an animation needs at least one frame: was the recorder given to sample(callback=...)?")
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int) or scale < 1):
        raise ValueError(f"scale = {scale!r}, but it must be a whole number, at least 1")
    tiled = [grid(to_bytes(frame), columns) for frame in frames]  # each (c, h, w)
    if len({frame.shape for frame in tiled}) > 1:
        raise ValueError("all frames of an animation need one shape")
    scale = scale or max(1, WIDTH // tiled[0].shape[-1])
    images = []
    for frame in tiled:
        frame = enlarge(frame, scale).expand(3, -1, -1)  # (1 or 3, h, w) -> (3, h, w)
        _, height, width = frame.shape
        # players refuse H.264 with odd sides
        frame = torch.nn.functional.pad(frame, (0, width % 2, 0, height % 2), value=255)
        images.append(frame.permute(1, 2, 0).contiguous().numpy())  # (c, h, w) -> (h, w, c)
    return images


def _encode(images: list[np.ndarray], suffix: str, fps: float, hold: float) -> bytes:
    """Let moviepy make the file, in a temporary folder; a long error of ffmpeg becomes one line."""
    if not 0 < fps <= 50:  # a GIF cannot go faster
        raise ValueError(f"fps = {fps}, but it must lie above 0, up to 50 frames a second (10 is usual)")
    if not 0 <= hold <= 60:
        raise ValueError(f"hold = {hold}, but it must lie between 0 and 60 seconds (1 is usual)")
    images = images + [images[-1]] * round(hold * fps)
    try:
        from imageio_ffmpeg import count_frames_and_secs
        from moviepy import ImageSequenceClip

        with tempfile.TemporaryDirectory() as folder, ImageSequenceClip(images, fps=fps) as clip:
            clip = clip.with_duration((len(images) + 0.5) / fps)  # moviepy rounds down, and would lose the last
            file = Path(folder) / f"animation{suffix}"
            if suffix == ".gif":
                clip.write_gif(file, logger=None)
                return file.read_bytes()
            h264 = {"codec": "libx264", "pixel_format": "yuv420p", "ffmpeg_params": ["-crf", "18"]}
            clip.write_videofile(file, audio=False, logger=None, **h264)
            # moviepy does not see when ffmpeg stops at the end, on a full disk for one
            if count_frames_and_secs(file)[0] != len(images):
                raise OSError("the animation was cut short")
            return file.read_bytes()
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        advice = "free some space for temporary files, or look at ffmpeg with `python -m dit_course doctor`"
        raise OSError(errno.EIO, f"the animation could not be encoded ({lines[-1][:120]}): {advice}") from error
