"""Figures and animations: pixels arrive unchanged, wrong input is named, and files are written whole or not at all."""

import base64
import io
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from canvas_pixels import pixels_of
from hypothesis import given
from hypothesis import strategies as st
from imageio_ffmpeg import count_frames_and_secs, get_ffmpeg_exe
from PIL import Image

from dit_course import show
from dit_course.dit import DiT, DiTConfig
from dit_course.sampling import Sampler
from dit_course.show.arrays import choose_columns, enlarge
from dit_course.show.figures import _spread, exponential_mean
from dit_course.show.layout import DENSITY
from dit_course.show.text import wrapped

# --- tensors ---------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 12), columns=st.integers(1, 5), padding=st.integers(0, 3), channels=st.sampled_from([1, 3]))
def test_grid_puts_every_picture_where_a_slow_loop_puts_it(n, columns, padding, channels):
    height, width = 3, 5
    x = torch.randint(0, 255, (n, channels, height, width), dtype=torch.uint8)
    tiled = show.grid(x, columns, padding)
    columns = min(columns, n)
    rows = -(-n // columns)
    assert tiled.shape == (channels, rows * (height + padding) - padding, columns * (width + padding) - padding)
    expected = torch.full_like(tiled, 255)
    for i, picture in enumerate(x):
        top, left = i // columns * (height + padding), i % columns * (width + padding)
        expected[:, top : top + height, left : left + width] = picture
    assert torch.equal(tiled, expected)


def test_grid_keeps_floats_and_fills_with_white():
    tiled = show.grid(torch.zeros(3, 1, 2, 2), columns=2, padding=1)
    assert tiled.dtype == torch.float32
    assert tiled[0, 0].tolist() == [0, 0, 1, 0, 0]
    assert tiled[0, 3].tolist() == [0, 0, 1, 1, 1]  # no fourth picture


@pytest.mark.parametrize("shape", [(1, 28, 28), (0, 1, 28, 28), (28, 28)])
def test_grid_names_what_it_cannot_tile(shape):
    with pytest.raises(ValueError, match=r"pictures \(N, C, H, W\)"):
        show.grid(torch.zeros(shape))


def test_columns_are_chosen_so_that_rows_are_full_where_they_can_be():
    assert [choose_columns(n) for n in (1, 8, 9, 10, 20, 16, 30, 100, 1000, 250)] == [1, 8, 3, 5, 5, 4, 10, 10, 10, 10]
    assert choose_columns(3, 7) == 3
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="columns"):
            choose_columns(5, wrong)


def test_enlarge_makes_squares():
    assert enlarge(torch.tensor([[1, 2]]), 2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (torch.tensor([[[0.0, 0.5, 1.0]]]), [0, 128, 255]),
        (torch.tensor([[[0.0, 0.5, 1.0]]], dtype=torch.bfloat16), [0, 128, 255]),
        (torch.tensor([[[-1e-6, 0.25, 1 + 1e-6]]]), [0, 64, 255]),  # rounding is no mistake
        (torch.tensor([[[0, 7, 255]]], dtype=torch.uint8), [0, 7, 255]),
        (torch.tensor([[[False, True]]]), [0, 255]),
        (np.array([[[0.0, 1.0]]]), [0, 255]),
        ([torch.zeros(1, 1, 2), torch.ones(1, 1, 2)], [0, 0, 255, 255]),
        (torch.ones(2, 1, 1, 1, requires_grad=True), [255, 255]),
    ],
)
def test_to_bytes_takes_what_a_learner_has(x, expected):
    pixels = show.to_bytes(x)
    assert pixels.dtype == torch.uint8
    assert pixels.ndim == 4
    assert pixels.flatten().tolist() == expected


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.tensor([[[-1.0, 1.0]]]), ValueError, r"reach from -1.00 to 1.00.*\(x \+ 1\) / 2"),
        (torch.full((1, 2, 2), 200.0), ValueError, r"\[0, 1\]"),
        (torch.tensor([[[float("nan")]]]), ValueError, "NaN"),
        (torch.tensor([[[float("inf")]]]), ValueError, "infinite"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), TypeError, r"torch.int64.*byte"),
        (torch.zeros(28, 28), ValueError, r"x\[None\]"),
        (torch.zeros(5, 28, 28), ValueError, r"x\[:, None\]"),
        (torch.zeros(28, 28, 3), ValueError, r"permute\(2, 0, 1\)"),
        (torch.zeros(4, 28, 28, 3), ValueError, r"permute\(0, 3, 1, 2\)"),
        (torch.zeros(4, 2, 28, 28), ValueError, "C = 1 or 3"),
        (torch.zeros(0, 1, 28, 28), ValueError, "nothing to show"),
        ([], ValueError, "nothing to show"),
        ([torch.zeros(1, 2, 2), torch.zeros(1, 3, 3)], ValueError, "one shape"),
    ],
)
def test_to_bytes_names_what_is_no_picture(x, error, message):
    with pytest.raises(error, match=message) as caught:
        show.to_bytes(x)
    assert "\n" not in str(caught.value)


# --- figures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(10, 1, 28, 28), (3, 3, 32, 32), (1, 1, 28, 28), (7, 3, 24, 40), (2, 3, 300, 200)])
def test_every_pixel_of_a_picture_is_a_square_of_its_own_color(shape):
    x = torch.randint(0, 255, shape, dtype=torch.uint8)
    grid = show.ImageGrid(shape, ["a name"] * shape[0], title="A title")
    painted = grid.paint(x)
    size = grid.zoom * DENSITY
    for (top, left), picture in zip(grid.corners, x, strict=True):
        height, width = shape[2] * size, shape[3] * size
        tile = painted[top * DENSITY :, left * DENSITY :][:height, :width]
        assert tile.shape == (height, width, 3)
        squares = torch.from_numpy(tile).reshape(shape[2], size, shape[3], size, 3)
        expected = picture.permute(1, 2, 0)[:, None, :, None].expand_as(squares)
        assert torch.equal(squares, expected)


def test_texts_never_lie_under_pictures():
    white = torch.full((4, 1, 28, 28), 255, dtype=torch.uint8)
    texts = ["a very long caption indeed", "b", "", "Ärmel"]
    grid = show.ImageGrid(
        white.shape, texts, columns=2, title="A title that is much longer than two small pictures are wide"
    )
    assert (grid.paint(white) < 128).sum() == (grid.blank < 128).sum() > 0
    assert grid.blank[:DENSITY].min() == grid.blank[-DENSITY:].min() == 255  # and nothing is cut off
    assert grid.blank[:, :DENSITY].min() == grid.blank[:, -DENSITY:].min() == 255


def test_a_class_called_dollar_is_no_formula():
    assert show.images(torch.rand(2, 1, 28, 28), ["$5", "a $\\frac$ b"], title="$x").alt.startswith("$x (2): $5")
    assert show.loss_curve([1, 2], [2.0, 1.0], title="$ per $tep").alt.startswith("$ per $tep")


def test_too_many_pictures_for_one_figure():
    with pytest.raises(ValueError, match=r"60000 pictures do not fit.*x\[:100\]"):
        show.images(torch.zeros(60_000, 1, 28, 28, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(10, 1, 28, 28), (100, 1, 28, 28), (8, 3, 32, 32), (4, 3, 256, 256), (9, 3, 64, 64)])
def test_figures_fit_the_page(shape):
    show.ImageGrid(shape)


def test_gray_pictures_make_gray_files_and_colors_stay():
    gray = show.images(torch.rand(2, 1, 8, 8))
    assert Image.open(io.BytesIO(gray.png)).mode == "L"
    color = show.images(torch.tensor([1.0, 0, 0]).reshape(3, 1, 1).expand(3, 8, 8))
    assert pixels_of(color)[color.height, color.width].tolist() == [255, 0, 0]


def test_a_picture_displays_as_png_at_half_its_size_with_an_alt_text():
    picture = show.images(torch.rand(2, 1, 28, 28), [9, 0], ["bag", *"bcdefghi", "boot"], title="Two things")
    data, metadata = picture._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == picture.png
    assert pixels_of(picture).shape == (2 * picture.height, 2 * picture.width)
    assert metadata["image/png"] == {"width": picture.width, "height": picture.height, "alt": picture.alt}
    assert picture.alt == "Two things (2): boot, bag"
    assert picture.alt in data["text/plain"]
    assert len(repr(picture)) < 200


def test_labels_may_be_numbers_names_or_tensors():
    x = torch.rand(2, 1, 8, 8)
    names = ["top", "bag"]
    assert show.images(x, torch.tensor([1, 0]), names).alt.endswith("bag, top")
    assert show.images(x, ["here", "there"]).alt.endswith("here, there")
    assert show.images(x, [3, 4]).alt.endswith("3, 4")
    assert show.images(x, (1, "free text"), names).alt.endswith("bag, free text")
    with pytest.raises(ValueError, match=r"2 picture\(s\) need 2 label\(s\), not 3"):
        show.images(x, [0, 1, 0], names)
    with pytest.raises(ValueError, match="label 2 has no name"):
        show.images(x, [0, 2], names)
    with pytest.raises(ValueError, match="give labels"):
        show.images(x, class_names=names)


def test_trajectory_shows_each_picture_in_a_row_and_each_time_in_a_column():
    frames = [torch.full((2, 1, 28, 28), t) for t in torch.linspace(0, 1, 21).tolist()]
    times = torch.linspace(1, 0, 21)
    picture = show.trajectory(frames, times)
    assert "2 picture(s) at t = 1.00, 0.80, 0.60, 0.40, 0.20, 0.00" in picture.alt
    middle = pixels_of(picture)[picture.height // 2]  # a line through both rows' gap or tiles
    assert middle.min() == 0
    with pytest.raises(ValueError, match="21 frames and 20 times"):
        show.trajectory(frames, times[1:])
    with pytest.raises(ValueError, match="0 frames"):
        show.trajectory([], [])
    with pytest.raises(ValueError, match="columns"):
        show.trajectory(frames, times, columns=1)


@given(n=st.integers(1, 200), most=st.integers(2, 12))
def test_shown_times_go_from_the_first_to_the_last_and_are_evenly_spread(n, most):
    chosen = _spread(n, most)
    assert chosen[0] == 0
    assert chosen[-1] == n - 1
    assert min(most, n) / 2 <= len(chosen) <= most
    assert len(set(chosen)) == len(chosen)
    if len(chosen) > 2:
        assert np.ptp(np.diff(chosen)) <= 1


def test_the_running_mean_is_the_weighted_mean_it_claims_to_be():
    values = np.random.default_rng(0).normal(size=50)
    for last in (0, 1, 20, 49):
        weights = 0.9 ** np.arange(last, -1, -1)
        assert exponential_mean(values, 0.9)[last] == pytest.approx(np.average(values[: last + 1], weights=weights))


def test_a_loss_curve_says_where_it_went_and_survives_odd_losses():
    steps = range(200)
    falling = [2 * 0.98**step for step in steps]
    assert "from 2 to 0.0" in show.loss_curve(steps, falling).alt
    broken = [*falling[:100], float("nan"), 1e9, *falling[102:]]
    assert "1 losses are not finite" in show.loss_curve(steps, broken).alt
    assert show.loss_curve([5], [0.25]).alt.startswith("The loss went from 0.25 to 0.25")
    assert show.loss_curve(steps, [0.0] * 200, title="Nothing").alt.startswith("Nothing. Line chart of 200 steps")


@pytest.mark.parametrize(
    ("steps", "losses", "ema", "message"),
    [
        ([1, 2], [1.0], 0.9, "a loss for each step"),
        ([], [], 0.9, "a loss for each step"),
        ([1], [float("nan")], 0.9, "no loss is finite"),
        ([1], [1.0], 1.0, "ema = 1.0"),
    ],
)
def test_a_loss_curve_names_what_it_cannot_draw(steps, losses, ema, message):
    with pytest.raises(ValueError, match=message):
        show.loss_curve(steps, losses, ema)


def _linear(color):
    """#rrggbb to linear light."""
    srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _lightness(color):
    """CIE L*: how light it is in gray, 0 to 100."""
    return 116 * np.cbrt(_linear(color) @ [0.2126, 0.7152, 0.0722]) - 16


def test_the_palette_is_apart_in_grey_and_stands_out_on_white():
    grays = sorted(_lightness(color) for color in show.PALETTE.values())
    assert list(show.PALETTE) == ["data", "guidance", "model", "noise"]
    assert np.diff(grays).min() > 8
    for color in show.PALETTE.values():
        assert 1.05 / (_linear(color) @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3  # WCAG 1.4.11 for graphics


def test_figures_can_be_drawn_from_many_threads_and_leave_no_pyplot_behind():
    code = """
        import sys, threading, torch
        from dit_course import show
        def draw(i):
            pictures[i] = (show.images(x, ["a", "b"], title="t").png, show.loss_curve([1, 2], [1.0, 0.5]).png)
        x, pictures = torch.rand(2, 1, 28, 28), {}
        threads = [threading.Thread(target=draw, args=(i,)) for i in range(4)]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
        assert len(pictures) == 4 and len(set(pictures.values())) == 1
        assert "matplotlib.pyplot" not in sys.modules and "moviepy" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


# --- animations -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frames():
    """Seven frames of three images, from dark to light."""
    return [torch.full((3, 1, 9, 7), t) for t in torch.linspace(0, 1, 7).tolist()]


def test_a_recorder_keeps_the_states_of_a_sampler(perturbed):
    model = perturbed(DiT(DiTConfig(image_size=8, channels=1, width=16, depth=1, heads=2)))
    recorder = show.Recorder()
    for n in (3, 2):  # a second run starts a new recording
        pictures = Sampler(model, steps=4).sample(n, seed=0, callback=recorder)
        assert recorder.times == [1.0, 0.75, 0.5, 0.25, 0.0]
        assert [frame.shape for frame in recorder.frames] == 5 * [(n, 1, 8, 8)]
        assert torch.allclose(recorder.frames[-1], pictures)
        assert all(0 <= frame.min() <= frame.max() <= 1 for frame in recorder.frames)


def test_a_gif_holds_every_frame_and_rests_on_the_last(frames, tmp_path):
    path = tmp_path / "new" / "run.gif"
    show.save_animation(frames, path, fps=10, scale=2, hold=1.0)
    gif = Image.open(path)
    assert gif.size == (50, 18)  # (3 * (7 + 2) - 2, 9) * 2
    assert gif.info["loop"] == 0  # for ever
    assert gif.n_frames == 7
    durations, grays = [], []
    for index in range(gif.n_frames):
        gif.seek(index)
        durations.append(gif.info["duration"])
        grays.append(np.array(gif.convert("L"))[5, 5])
    assert durations[0] == 100
    assert durations[-1] == 1100
    assert grays == [round(255 * index / 6) for index in range(7)]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fps", [1, 7, 10, 24, 30])
def test_an_mp4_plays_everywhere(frames, tmp_path, fps):
    path = tmp_path / "run.mp4"
    show.save_animation(frames, path, fps=fps, scale=3, columns=2)
    about = subprocess.run([get_ffmpeg_exe(), "-i", str(path)], capture_output=True, text=True).stderr
    assert re.search(r"h264.*yuv420p.*, 48x60", about), about  # 45 x 60, made even
    count, seconds = count_frames_and_secs(str(path))
    assert count == 7 + fps
    assert seconds == pytest.approx((7 + fps) / fps, abs=0.05)
    assert list(tmp_path.iterdir()) == [path]


def test_animations_and_frames_in_color(tmp_path):
    red = [torch.tensor([200, 20, 20], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)] * 3
    show.save_animation(red, tmp_path / "run.gif", scale=1)
    assert np.array(Image.open(tmp_path / "run.gif").convert("RGB"))[4, 4].tolist() == [200, 20, 20]


def test_an_animation_is_an_image_that_holds_the_gif_and_stays_small():
    noise = [torch.rand(6, 1, 28, 28) for _ in range(21)]
    image = show.animation(noise)
    assert image.data[:6] == b"GIF89a"
    assert len(image.data) < 400_000
    data, metadata = image._repr_mimebundle_()
    assert set(data) == {"image/gif"} or "image/gif" in data
    assert "21 frames" in metadata["image/gif"]["alt"]
    assert Image.open(io.BytesIO(image.data)).size == (534, 84)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "run.avi"}, r"\.gif or a \.mp4"),
        ({"path": "run"}, r"\.gif or a \.mp4"),
        ({"frames": []}, "at least one frame"),
        ({"frames": [torch.zeros(1, 1, 8, 8), torch.zeros(2, 1, 8, 8)]}, "one shape"),
        ({"frames": [torch.full((1, 1, 8, 8), -1.0)]}, r"\(x \+ 1\) / 2"),
        ({"fps": 0}, "fps = 0"),
        ({"fps": float("nan")}, "fps = nan"),
        ({"scale": 0}, "scale = 0"),
        ({"scale": 1.5}, "scale = 1.5"),
        ({"hold": -1}, "hold = -1"),
    ],
)
def test_wrong_arguments_of_an_animation_are_named_and_nothing_is_written(
    change, message, frames, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        show.save_animation(**{"frames": frames, "path": "run.gif", **change})
    assert list(tmp_path.iterdir()) == []


# --- failing files ---------------------------------------------------------------------------------------------


def one_line_and_nothing_left(error, folder):
    assert re.match(r"\[Errno \d+\] cannot write .*: ", str(error)), error
    assert "\n" not in str(error)
    assert [file for file in folder.rglob("*") if file.is_file()] == []


def save(kind, path):
    """Write any of the three kinds of files."""
    x = torch.rand(40, 1, 28, 28)
    if kind == "png":
        show.save_image(x, path.with_suffix(".png"))
    else:
        show.save_animation([x, x], path.with_suffix(f".{kind}"))


@pytest.mark.parametrize("kind", ["png", "gif", "mp4"])
def test_a_folder_that_may_not_be_written_to(kind, tmp_path, monkeypatch):
    def refuse(*args, dir=None, **kwargs):
        if dir is not None:
            raise PermissionError(13, "Permission denied")
        return make(*args, **kwargs)

    import tempfile

    make = tempfile.mkstemp
    monkeypatch.setattr(tempfile, "mkstemp", refuse)  # root may write anywhere, so ask the system to refuse
    with pytest.raises(OSError, match="choose a folder you may write to") as caught:
        save(kind, tmp_path / "out")
    one_line_and_nothing_left(caught.value, tmp_path)


@pytest.mark.parametrize("kind", ["png", "gif", "mp4"])
def test_a_disk_that_is_full(kind, tmp_path):
    """Real writes, cut short by the system after 3,000 bytes."""
    resource = pytest.importorskip("resource", reason="Windows has no limit on the size of files")
    limit = (3000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    try:
        with pytest.raises(OSError, match="cannot write") as caught:
            save(kind, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    one_line_and_nothing_left(caught.value, tmp_path)


@pytest.mark.parametrize("script", [None, "#!/bin/sh\necho 'much ado' >&2\necho 'Error: no such codec' >&2\nexit 1\n"])
@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for ffmpeg")
def test_an_ffmpeg_that_is_missing_or_fails(script, frames, tmp_path, monkeypatch):
    import moviepy.video.io.ffmpeg_writer as writer

    program = tmp_path / "bin" / "ffmpeg"
    if script:
        program.parent.mkdir()
        program.write_text(script)
        program.chmod(0o755)
    monkeypatch.setattr(writer, "FFMPEG_BINARY", str(program))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(OSError, match="python -m dit_course doctor") as caught:
        show.save_animation(frames, out / "run.mp4")
    one_line_and_nothing_left(caught.value, out)
    assert ("no such codec" if script else "No such file") in str(caught.value)


def test_an_animation_that_ffmpeg_cut_short_is_not_kept(frames, tmp_path, monkeypatch):
    import moviepy

    monkeypatch.setattr(
        moviepy.ImageSequenceClip, "write_videofile", lambda clip, file, **_: file.write_bytes(b"half a file")
    )
    with pytest.raises(OSError, match="could not be encoded") as caught:
        show.save_animation(frames, tmp_path / "run.mp4")
    one_line_and_nothing_left(caught.value, tmp_path)


def test_an_older_file_survives_a_failure(frames, tmp_path, monkeypatch):
    path = tmp_path / "run.mp4"
    path.write_bytes(b"older")
    monkeypatch.setattr("moviepy.video.io.ffmpeg_writer.FFMPEG_BINARY", "/nowhere/ffmpeg")
    with pytest.raises(OSError, match="cannot write"):
        show.save_animation(frames, path)
    assert path.read_bytes() == b"older"


def test_pictures_are_saved_as_png_only(tmp_path):
    with pytest.raises(ValueError, match=r"end in \.png"):
        show.save_image(torch.rand(1, 8, 8), tmp_path / "out.jpg")
    show.save_image(torch.rand(2, 1, 8, 8), tmp_path / "out.png", labels=["a", "b"], columns=1, title="Both")
    assert Image.open(tmp_path / "out.png").format == "PNG"


def test_a_word_too_long_by_a_letter_stays_whole():
    assert wrapped("automobile", 9) == ["automobile"]
    assert wrapped("automobile", 6) == ["automo", "bile"]
    assert wrapped("ankle boot", 6) == ["ankle", "boot"]
    assert wrapped("", 6) == []
