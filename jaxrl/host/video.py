"""An episode as moving pictures, drawn by MuJoCo or given: .gif with Pillow, .mp4 with the extra [video]."""

import contextlib
import copy
import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np

from jaxrl.host import files, keys, recording
from jaxrl.host.recording import Recording
from jaxrl.types import ConfigError

SUFFIXES = (".gif", ".mp4")
RATE = {".gif": 25.0, ".mp4": 60.0}  # frames a second, at most
SIZE = (480, 360)  # pixels, width and height


def check(file: Path) -> None:
    """ConfigError if such a file cannot be written here."""
    if file.suffix not in SUFFIXES:
        raise keys.error(f"--video={file} is neither .gif nor .mp4; name it {file.stem}.gif")
    if file.suffix == ".mp4":
        _ffmpeg(file)
    else:
        _pillow(file)


def write(episode: Recording, file: Path) -> None:
    """Draws the episode into a file whose suffix chooses the format.

    Raises:
        ConfigError: what the format needs is missing, or MuJoCo cannot draw on this machine.
    """
    qpos, seconds = recording.frames(episode, RATE[file.suffix])
    save(draw(episode.model, qpos), seconds, file)


def save(pictures: Iterator[np.ndarray], seconds: float, file: Path) -> None:
    """Puts pictures into a file whose suffix chooses the format.

    Args:
        pictures: [height, width, 3] uint8 each.
        seconds: that each is shown.
        file: which is replaced whole, or left as it was: whoever has it open can load it again at any time.

    Raises:
        ConfigError: what the format needs is missing, or the pictures cannot be had.
    """
    check(file)
    with files.replacing(file) as new:
        if file.suffix == ".mp4":
            _encode(pictures, 1.0 / seconds, new, file)
        else:
            _animate(pictures, seconds, new)


def _animate(pictures, seconds, file) -> None:
    """A gif."""
    images = map(_pillow(file).fromarray, pictures)
    duration_ms = max(round(100 * seconds), 2) * 10  # a gif counts in hundredths of a second
    next(images).save(file, save_all=True, append_images=images, duration=duration_ms, loop=0)


def draw(model: mujoco.MjModel, qpos: np.ndarray) -> Iterator[np.ndarray]:
    """Yields pictures [height, width, 3] uint8 of positions [F, positions], from a camera that goes along.

    Raises:
        ConfigError: MuJoCo cannot draw on this machine.
    """
    model, camera = copy.copy(model), mujoco.MjvCamera()
    is_plane = model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)
    # To MuJoCo, 0 is a plane that goes along with the camera.
    model.geom_size[is_plane & (model.geom_size[:, 0] >= recording.FLOOR), :2] = 0.0
    data = mujoco.MjData(model)
    mujoco.mjv_defaultFreeCamera(model, camera)
    try:
        renderer = mujoco.Renderer(model, SIZE[1], SIZE[0])
    except Exception as mistake:  # of OpenGL's many libraries
        reason = " ".join(str(mistake).split())
        raise ConfigError(
            f"MuJoCo cannot draw here ({reason}); set MUJOCO_GL=egl (a GPU, or Mesa's libEGL) or MUJOCO_GL=osmesa."
        ) from mistake
    # Drawn without a GPU, mirrors and shadows take five sixths of the time.
    for effect in (mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SHADOW):
        renderer.scene.flags[int(effect)] = 0
    with renderer:
        for number, position in enumerate(qpos):
            data.qpos[:] = position
            mujoco.mj_forward(model, data)
            if number == 0:
                _focus(model, data, camera)
                offset = camera.lookat - _place(model, data)
            camera.lookat[:] = _place(model, data) + offset
            renderer.update_scene(data, camera)
            yield renderer.render().copy()


def _place(model, data) -> np.ndarray:
    """[3] where the first body is that can move (m)."""
    moving = np.flatnonzero(model.body_weldid)
    return data.xpos[moving[0] if len(moving) else 0].copy()


def _focus(model, data, camera) -> None:
    """Points the camera at what moves, near enough to fill the picture."""
    moving = np.flatnonzero(model.body_weldid[model.geom_bodyid])
    at, radius = data.geom_xpos[moving], model.geom_rbound[moving, None]
    if len(moving):
        low, high = (at - radius).min(axis=0), (at + radius).max(axis=0)
        camera.lookat[:] = (low + high) / 2
        camera.distance = max(1.6 * np.linalg.norm(high - low), 0.1)
    camera.elevation = -15.0  # degrees


def _encode(pictures, rate, new, file) -> None:
    """Pipes pictures into ffmpeg. imageio's own writer would fork, against which JAX warns."""
    first = next(pictures)
    height, width = (side - side % 2 for side in first.shape[:2])  # yuv420p has a colour for two by two pixels
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{rate:.6f}", "-i", "-"]
    command = [_ffmpeg(file), "-y", "-loglevel", "error", *raw, "-c:v", "libx264", "-pix_fmt", "yuv420p", str(new)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as ffmpeg:
        with contextlib.suppress(BrokenPipeError):  # it says below why it has stopped
            for picture in itertools.chain([first], pictures):
                ffmpeg.stdin.write(np.ascontiguousarray(picture[:height, :width]).tobytes())
        _, errors = ffmpeg.communicate()
    if ffmpeg.returncode:
        raise keys.error(f"--video={file} cannot be written ({' '.join(errors.decode(errors='replace').split())})")


def _pillow(file):
    try:
        from PIL import Image
    except ImportError:
        raise keys.error(f"--video={file} needs Pillow; pip install pillow") from None
    return Image


def _ffmpeg(file) -> str:
    """The path of the ffmpeg that the extra brings."""
    try:
        import imageio_ffmpeg
    except ImportError:
        raise keys.error(f"--video={file} needs ffmpeg; pip install 'jaxrl[video]', or name a .gif") from None
    return imageio_ffmpeg.get_ffmpeg_exe()
