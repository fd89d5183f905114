"""The page of `--html` in Chromium, without a screen and a network: no mistake on its console, and the canvas moves."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs, find
from jaxrl.host import checkpoint, recording, report, run_folder, viewer
from jaxrl.types import TrainState

pytestmark = pytest.mark.browser
CHILD = Path(__file__).with_name("browser_child.py")


def open_page(page, folder):
    """What the browser says of a page, and the pictures of its canvas [height, width, 3]; files stay in the folder."""
    image = pytest.importorskip("PIL.Image")
    done = subprocess.run([sys.executable, str(CHILD), str(page), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    pictures = [np.asarray(image.open(file).convert("RGB")) for file in sorted(folder.glob("canvas_*.png"))]
    return told, pictures


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of an untrained policy of Brax's inverted pendulum."""
    folder = tmp_path_factory.mktemp("browser")
    config = jaxrl.configure(
        {"env": {"name": "inverted_pendulum", "episode_length": 100}, "network": {"hidden_sizes": (4,)}}
    )
    run = run_folder.open_run(folder / "run", config, [], {})
    algorithm = find.find("algorithms", "ppo").make(config, envs.make(config.env, 1).spec)
    agent = jax.jit(algorithm.init)(jax.random.key(0), algorithm.hyper)
    saver = checkpoint.Checkpointer(run / "checkpoints", config.checkpoint)
    saver.save(TrainState(agent, (), jax.random.key(0), jnp.int32(0)), 0, {})
    assert saver.close()
    episode = recording.record(run)
    (folder / "page.html").write_text(viewer.page(episode), encoding="utf-8")
    return folder / "page.html", episode


def test_chromium_shows_the_page_without_a_mistake_and_the_canvas_moves(page, tmp_path):
    file, episode = page
    told, (first, second, third) = open_page(file, tmp_path)
    assert told["console"] == [] and told["mistakes"] == [] and told["resources"] == []
    assert "Chrome/" in told["browser"]
    assert told["title"].startswith("inverted_pendulum after 0 env steps") and told["size"] == [
        first.shape[1],
        first.shape[0],
    ]
    # The cart and its pole are dark before a bright sky: they are there in every picture, and not where they were.
    dark = [picture.max(axis=-1) < 120 for picture in (first, second, third)]
    assert all(0.005 < there.mean() < 0.3 for there in dark)
    assert (dark[0] != dark[1]).sum() > 20 and (dark[1] != dark[2]).sum() > 20
    assert len(episode.reward) * episode.seconds > 1.0  # it had not begun anew by then


def test_the_report_has_the_viewer_in_it_and_no_mistake_either(page, tmp_path):
    run = page[0].parent / "run"
    rows = [{"env_steps": 100 * i, "wall_seconds": float(i), "rollout/episode_return": float(i)} for i in range(4)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = report.write(run, tmp_path / "report.html", episodes=2)
    told, (first, second, third) = open_page(file, tmp_path)
    assert told["console"] == [] and told["mistakes"] == [] and told["resources"] == []
    assert told["title"].startswith("inverted_pendulum after 0 env steps") and told["page_title"].startswith(
        "run: ppo on "
    )
    assert (first != second).any() and (second != third).any()


def test_a_mistake_in_a_page_would_be_seen(tmp_path):
    broken = (
        "<canvas></canvas><script>console.error('alas'); requestAnimationFrame(() => {}); nothing.there();</script>"
    )
    (tmp_path / "broken.html").write_text(broken)
    told, pictures = open_page(tmp_path / "broken.html", tmp_path)
    assert any("alas" in line for line in told["console"])
    assert any("nothing is not defined" in line for line in told["mistakes"])
    assert all((picture == pictures[0]).all() for picture in pictures)
