"""What can be looked at of one episode: a page in 3D, moving pictures."""

import html as markup
from pathlib import Path
from typing import NamedTuple

from jaxrl.host import keys, recording
from jaxrl.types import ConfigError


class Page(NamedTuple):
    """An episode as a page: a notebook shows it in the cell's output, and `html` is the whole of it."""

    html: str
    height: int  # pixels, in a notebook

    def __repr__(self):
        return f"Page({len(self.html) / 1e3:,.0f} kB of HTML)"

    def _repr_html_(self) -> str:
        # In a frame of its own, whose scripts reach nothing of the notebook's.
        return (
            f'<iframe srcdoc="{markup.escape(self.html)}" sandbox="allow-scripts" '
            f'style="width: 100%; height: {self.height}px; border: 0"></iframe>'
        )


def show(run: str | Path, selector: str | int | Path, sampled: bool, seed: int, height: int) -> Page:
    """Records one episode and makes a page of it.

    Args:
        run, selector, sampled, seed: as `recording.record` takes them.
        height: pixels, in a notebook.

    Raises:
        ConfigError: as `recording.record`.
    """
    recording.choose_renderer()  # before anything imports MuJoCo
    from jaxrl.host import viewer

    return Page(viewer.page(recording.record(run, selector, sampled, seed)), height)


def write(
    run: str | Path, selector: str | int | Path, sampled: bool, seed: int, html: Path | None, video: Path | None
) -> None:
    """Records one episode and writes it to the files that are named.

    Args:
        run, selector, sampled, seed: as `recording.record` takes them.
        html: of the page, which needs no network; None: none.
        video: a .gif or .mp4; None: none.

    Raises:
        ConfigError: what is asked for cannot be had here, or of this environment; nothing has been played then.
    """
    recording.choose_renderer()  # before anything imports MuJoCo
    from jaxrl.host import video as videos
    from jaxrl.host import viewer

    for flag, file in (("html", html), ("video", video)):
        if file and not file.absolute().parent.is_dir():
            raise keys.error(f"--{flag}={file} cannot be: there is no folder {file.absolute().parent}; make it first")
    if video:
        videos.check(video)
    episode = recording.record(run, selector, sampled, seed)
    if html:
        html.write_text(viewer.page(episode), encoding="utf-8")
    if video:
        videos.write(episode, video)


def suffix() -> str:
    """Of the best video that can be written here: .mp4 with the extra [video], else .gif."""
    recording.choose_renderer()  # before anything imports MuJoCo
    from jaxrl.host import video as videos

    try:
        videos.check(Path("final.mp4"))
    except ConfigError:
        return ".gif"
    return ".mp4"
