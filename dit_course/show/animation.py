"""Films of a picture coming out of noise: GIF to look at here, MP4 to send around."""

import errno
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit_course.data import atomic_write
from dit_course.show.arrays import enlarge, grid, to_bytes

FILM_WIDTH = 640  # pixels that a film is enlarged to, or just below


class Recorder:
    """Keeps what a sampler passes through: `Sampler(model).sample(4, callback=recorder)`.

    frames: the pictures at each moment, (N, C, H, W) in [0, 1]. times: t of each. A new run starts a new recording.
    """

    def __init__(self):
        self.frames: list[Tensor] = []
        self.times: list[float] = []

    def __call__(self, index: int, t: float, x: Tensor) -> None:
        """Keep one moment; x lies in [-1, 1], and noise reaches beyond, so it is cut to what a screen can show."""
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
    """A film that plays in the notebook: an `IPython.display.Image` that holds the whole GIF.

    With 32 shades instead of 256, because noise does not compress, and a notebook should stay small. Arguments as in
    `save_animation`.
    """
    from IPython.display import Image

    shades = [(to_bytes(frame) / 255 * 31).round() / 31 for frame in frames]
    film = _encode(_stills(shades, scale, columns), ".gif", fps, hold)
    alt = f"Animation of {len(frames)} moments: {len(frames[0])} picture(s) coming out of noise"
    return Image(data=film, format="gif", alt=alt)


def save_animation(
    frames: Sequence[Tensor],
    path: str | Path,
    fps: float = 10,
    scale: int | None = None,
    columns: int | None = None,
    hold: float = 1.0,
) -> None:
    """Write a film, whole or not at all: a GIF or an MP4 (H.264 that every player knows), as the end of `path` says.

    frames: the moments in order, each (N, C, H, W) in [0, 1] or uint8; the N pictures are tiled.
    scale: how many pixels wide each pixel becomes; None makes the film about 640 wide.
    hold: for how many seconds the end stays.
    Raises ValueError for what is no film, OSError in one line when it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise ValueError(f"a film is a .gif or a .mp4, not {path.name!r}: choose one of these endings")
    stills = _stills(frames, scale, columns)
    try:
        film = _encode(stills, path.suffix.lower(), fps, hold)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
    atomic_write(path, film)


def _stills(frames: Sequence[Tensor], scale: int | None, columns: int | None) -> list[np.ndarray]:
    """Each moment as one picture for moviepy: (height, width, 3) uint8, height and width even."""
    if len(frames) == 0:
        raise ValueError("a film needs at least one frame: was the recorder given to sample(callback=...)?")
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int) or scale < 1):
        raise ValueError(f"scale = {scale!r}, but it must be a whole number, at least 1")
    tiled = [grid(to_bytes(frame), columns) for frame in frames]  # each (c, h, w)
    if len({frame.shape for frame in tiled}) > 1:
        raise ValueError("all frames of a film need one shape")
    scale = scale or max(1, FILM_WIDTH // tiled[0].shape[-1])
    stills = []
    for frame in tiled:
        frame = enlarge(frame, scale).expand(3, -1, -1)  # (1 or 3, h, w) -> (3, h, w)
        _, height, width = frame.shape
        # players refuse H.264 with odd sides
        frame = torch.nn.functional.pad(frame, (0, width % 2, 0, height % 2), value=255)
        stills.append(frame.permute(1, 2, 0).contiguous().numpy())  # (c, h, w) -> (h, w, c)
    return stills


def _encode(stills: list[np.ndarray], suffix: str, fps: float, hold: float) -> bytes:
    """Let moviepy make the file, in a temporary folder; whatever ffmpeg says at length becomes one line."""
    if not 0 < fps <= 50:  # a GIF cannot go faster
        raise ValueError(f"fps = {fps}, but it must lie above 0, up to 50 pictures a second (10 is usual)")
    if not 0 <= hold <= 60:
        raise ValueError(f"hold = {hold}, but it must lie between 0 and 60 seconds (1 is usual)")
    stills = stills + [stills[-1]] * round(hold * fps)
    try:
        from imageio_ffmpeg import count_frames_and_secs
        from moviepy import ImageSequenceClip

        with tempfile.TemporaryDirectory() as folder, ImageSequenceClip(stills, fps=fps) as clip:
            clip = clip.with_duration((len(stills) + 0.5) / fps)  # moviepy rounds down, and would lose the last
            file = Path(folder) / f"film{suffix}"
            if suffix == ".gif":
                clip.write_gif(file, logger=None)
                return file.read_bytes()
            h264 = {"codec": "libx264", "pixel_format": "yuv420p", "ffmpeg_params": ["-crf", "18"]}
            clip.write_videofile(file, audio=False, logger=None, **h264)
            # moviepy does not see when ffmpeg stops at the end, on a full disk for one
            if count_frames_and_secs(file)[0] != len(stills):
                raise OSError("the film was cut short")
            return file.read_bytes()
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        advice = "free some space for temporary files, or look at ffmpeg with `python -m dit_course doctor`"
        raise OSError(errno.EIO, f"the film could not be encoded ({lines[-1][:120]}): {advice}") from error
