"""What can be looked at of one episode: a page in 3D, moving pictures, text in the terminal."""

import html as markup
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from jaxrl import envs
from jaxrl.host import files, grids, keys, policies, recording
from jaxrl.host.screen import Screen
from jaxrl.types import ConfigError, PyTree

RATE = 10.0  # frames a second, of what has no time of its own


class Wish(NamedTuple):
    """What is to be drawn."""

    html: Path | None = None  # a page with the bodies in 3D, which needs no network
    video: Path | None = None  # a .gif or .mp4
    text: Screen | None = None  # where a grid is drawn as text
    rate: float = RATE  # frames a second of a video of a grid


class Artist:
    """Draws one episode of any checkpoint of a run; compiled once for all of them.

    Args:
        config: of the run.
        wish: what of it is drawn.
        sampled: actions are drawn from the policy; else they are its mode.

    Raises:
        ConfigError: what is asked for cannot be had here, or of this environment; nothing has been played then.
    """

    def __init__(self, config: ConfigDict, wish: Wish, sampled: bool = False):
        recording.choose_renderer()  # before anything imports MuJoCo
        check(wish)
        if wish.html:
            envs.scene(config.env)  # says what has no bodies
        self._wish = wish
        stage = envs.stage(config.env)
        self._grid = grids.find(stage.obs, stage.channels)
        if wish.text and self._grid is None:
            raise keys.error(
                f"--text cannot draw {config.env.suite}/{config.env.name}: it shows no grid; gymnax's MinAtar, Navix, "
                "grids of Jumanji, boards of PGX and images of EnvPool and gymnasium are drawn"
            )
        if wish.video and not (stage.scene or stage.camera or self._grid):
            raise ConfigError(
                f"config.env.suite={config.env.suite!r} cannot be drawn: {config.env.name} has neither bodies that "
                "MuJoCo knows, nor pictures of its own, nor a grid; leave out --video."
            )
        self._bodies = self._pictures = self._cells = None
        if wish.html or (wish.video and stage.scene):
            self._bodies = recording.of_bodies(config, stage, sampled)
        elif wish.video and stage.camera:
            self._pictures = recording.Player(config, stage, stage.camera.look, sampled)
        if wish.text or (wish.video and not (self._bodies or self._pictures)):
            look = lambda state, obs: grids.of(self._grid, obs)  # noqa: E731
            self._cells = recording.Player(config, stage, look, sampled, of_obs=True)
        self.algorithm = (self._bodies or self._pictures or self._cells).algorithm

    def draw(self, found: policies.Found, agent: PyTree, seed: int = 0) -> None:
        """Plays one episode and writes it to where it is wished for; a file is replaced whole.

        Args:
            found: the checkpoint, for its name.
            agent: of that checkpoint.
            seed: of the initial state, and of what is drawn.
        """
        from jaxrl.host import video, viewer

        wish = self._wish
        if self._bodies:
            episode = recording.keep(found, self._bodies, agent, seed)
            if wish.html:
                with files.replacing(wish.html) as new:
                    new.write_text(viewer.page(episode), encoding="utf-8")
            if wish.video:
                video.write(episode, wish.video)
        elif wish.video:
            self._film(agent, seed, wish.video)
        if wish.text:
            name = f"{found.config.env.name} after {found.env_steps:,} env steps"
            wish.text.show(self._grid, name, self._cells.episode(agent, seed))

    def _film(self, agent, seed, file) -> None:
        """Moving pictures of what has no bodies."""
        from jaxrl.host import video

        player = self._pictures or self._cells
        moments = player.episode(agent, seed)
        views: Iterator = (moment.view for moment in moments if moment.view is not None)
        if self._pictures:
            seconds = player.stage.camera.seconds
        else:
            views, seconds = (grids.picture(self._grid, view) for view in views), 1.0 / self._wish.rate
        every = max(round(1.0 / (video.RATE[file.suffix] * seconds)), 1)
        video.save(itertools.islice(views, 0, None, every), every * seconds, file)


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


def check(wish: Wish) -> None:
    """ConfigError if a file cannot be written; MuJoCo is imported here, so its renderer must have been chosen."""
    from jaxrl.host import video

    for flag, file in (("html", wish.html), ("video", wish.video)):
        if file and not file.absolute().parent.is_dir():
            raise keys.error(f"--{flag}={file} cannot be: there is no folder {file.absolute().parent}; make it first")
    if wish.video:
        video.check(wish.video)


def write(
    run: str | Path, selector: str | int | Path, sampled: bool, seed: int, html: Path | None, video: Path | None
) -> None:
    """Plays one episode and writes it to the files that are named.

    Args:
        run, selector: as `policies.load` takes them.
        sampled, seed: as `Artist` and its `draw` take them.
        html, video: as a `Wish` has them.

    Raises:
        ConfigError: what is asked for cannot be had here, or of this environment; nothing has been played then.
    """
    if not (html or video):
        return
    found = policies.locate(run, selector)
    artist = Artist(found.config, Wish(html, video), sampled)
    artist.draw(found, policies.restore(found, artist.algorithm), seed)


def suffix() -> str:
    """Of the best video that can be written here: .mp4 with the extra [video], else .gif."""
    recording.choose_renderer()  # before anything imports MuJoCo
    from jaxrl.host import video as videos

    try:
        videos.check(Path("final.mp4"))
    except ConfigError:
        return ".gif"
    return ".mp4"
