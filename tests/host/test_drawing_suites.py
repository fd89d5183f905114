"""Every suite that has something to look at is drawn by `--video`: its bodies, its own pictures or its grid."""

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl import envs
from jaxrl.host import grids, pictures, policies, recording
from jaxrl.types import ConfigError

SMALL = {"hidden_sizes": (4,), "cnn_filters": (2,), "cnn_kernels": (3,), "cnn_strides": (1,)}
BODIES = [
    ("gymnasium", "InvertedPendulum-v5"),
    ("dm_control", "cartpole-balance"),
    ("dm_control", "reacher-easy"),
    ("playground", "CartpoleBalance"),
]
PICTURES = [("gymnasium", "tests.host.drawn_environment:Drawn-v0"), ("craftax", "Craftax-Classic-Symbolic-v1")]
GRIDS = [
    ("gymnax", "Breakout-MinAtar"),
    ("navix", "Navix-Empty-5x5-v0"),
    ("jumanji", "Snake-v1"),
    ("pgx", "tic_tac_toe"),
]
NOTHING = [("gymnax", "MountainCar-v0"), ("jaxmarl", "MPE_simple_spread_v3"), ("envpool", "HalfCheetah-v5")]


def configured(suite, name):
    env = {"suite": suite, "name": name, "episode_length": 12}
    return jaxrl.configure({"env": env, "network": SMALL, "eval": {"max_steps": 12}})


def drawn(config, folder):
    """The frames [F, height, width, 3] of a gif of an untrained policy."""
    image = pytest.importorskip("PIL.Image")
    file = folder / "a.gif"
    artist = pictures.Artist(config, pictures.Wish(video=file), sampled=True)
    agent = jax.jit(artist.algorithm.init)(jax.random.key(0), artist.algorithm.hyper)
    artist.draw(policies.Found(config, folder, 0), agent)
    with image.open(file) as gif:
        frames = []
        for number in range(gif.n_frames):
            gif.seek(number)
            frames.append(np.asarray(gif.convert("RGB")))
    return np.stack(frames)


@pytest.mark.parametrize("suite", [*BODIES, *PICTURES, *GRIDS], ids="/".join)
def test_its_pictures_show_something_that_moves(suite, tmp_path):
    frames = drawn(configured(*suite), tmp_path)
    assert frames.shape[1] >= 100 and np.ptp(frames) > 50
    assert len(frames) > 1 and (frames[0] != frames[-1]).any()


@pytest.mark.parametrize("suite", BODIES, ids="/".join)
def test_its_recording_begins_where_the_seed_says_and_stays_in_the_episode(suite):
    config = configured(*suite)
    stage = envs.stage(config.env)
    player = recording.of_bodies(config, stage, sampled=False)
    agent = jax.jit(player.algorithm.init)(jax.random.key(0), player.algorithm.hyper)
    found = policies.Found(config, None, 0)
    first, again, other = (recording.keep(found, player, agent, seed) for seed in (0, 0, 1))
    assert len(first.reward) == 12 and first.qpos.shape[1] == first.model.nq and first.seconds > 0
    np.testing.assert_array_equal(first.qpos, again.qpos)
    assert (first.qpos[0] != other.qpos[0]).any()
    # In one step of some hundredths of a second nothing jumps as it does to another initial state.
    steps = np.abs(np.diff(first.qpos, axis=0)).max(axis=1)
    assert (steps < 0.5).all(), steps


@pytest.mark.parametrize("suite", GRIDS, ids="/".join)
def test_its_grid_is_found_and_named(suite):
    config = configured(*suite)
    stage = envs.stage(config.env)
    grid = grids.find(stage.obs, stage.channels)
    assert len(grid.names) == (stage.obs[grid.part] if grid.part else stage.obs).shape[-1]
    assert all(not name.startswith("channel") for name in grid.names) or suite[0] == "pgx"


@pytest.mark.parametrize("suite", NOTHING, ids="/".join)
def test_what_cannot_be_drawn_says_so(suite, tmp_path):
    with pytest.raises(ConfigError, match=r"^config\.env\.suite='\w+' cannot be drawn: .*; leave out --video\.$"):
        pictures.Artist(configured(*suite), pictures.Wish(video=tmp_path / "a.gif"))
