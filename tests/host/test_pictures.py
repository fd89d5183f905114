"""An episode is drawn as it went: the page holds the poses, the pictures move, and what cannot be drawn says so."""

import base64
import html.parser
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import mujoco
import numpy as np
import pytest

import jaxrl
from jaxrl import envs, find
from jaxrl.host import checkpoint, recording, run_folder, video, viewer
from jaxrl.types import ConfigError, TrainState

pytestmark = pytest.mark.slow

play = importlib.import_module("jaxrl.play")

XML = """
<mujoco><asset><mesh name="wedge" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset><worldbody>
  <light pos="0 0 3"/><geom type="plane" size="5 5 1"/>
  <body pos="0 0 1"><joint type="slide" axis="1 0 0"/>
    <geom type="sphere" size=".1"/><geom type="capsule" size=".1 .3"/><geom type="cylinder" size=".1 .3"/>
    <geom type="ellipsoid" size=".1 .2 .3"/><geom type="box" size=".1 .2 .3" rgba="1 0 0 1"/>
    <geom type="mesh" mesh="wedge"/><geom type="box" size="1 1 1" group="3"/></body>
</worldbody></mujoco>"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of Brax that was stopped as it began: training it would take long to compile."""
    env = {"name": "inverted_pendulum", "episode_length": 12}
    config = jaxrl.configure({"env": env, "network": {"hidden_sizes": (4,)}})
    folder = run_folder.open_run(tmp_path_factory.mktemp("runs") / "pendulum", config, [], {})
    algorithm = find.find("algorithms", "ppo").make(config, envs.make(config.env, 1).spec)
    agent = jax.jit(algorithm.init)(jax.random.key(0), algorithm.hyper)
    saver = checkpoint.Checkpointer(folder / "checkpoints", config.checkpoint)
    saver.save(TrainState(agent, (), jax.random.key(0), jax.numpy.int32(0)), 0, {})
    assert saver.close()
    return folder


@pytest.fixture(scope="module")
def episode(run):
    return recording.record(run)


@pytest.fixture
def solids():
    """An episode of two frames, of every kind of solid."""
    config = jaxrl.configure({"env": {"suite": "probe"}})
    model = mujoco.MjModel.from_xml_string(XML)
    return recording.Recording(config, 7, model, np.array([[0.0], [2.0]]), np.ones(1), 0.1)


def content(html):
    found = re.search(r"^const content = (.*);$", html, re.MULTILINE)
    return json.loads(found[1])


def decode(text, kind="<f4"):
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_recording_is_of_the_episode_that_the_seed_begins(run, episode):
    policy = jaxrl.load_policy(run)
    env = envs.make(policy.config.env, 1, restarts=False)
    state, timestep = jax.jit(env.reset)(jax.random.split(jax.random.key(0))[0])
    step, rewards = jax.jit(env.step), []
    for _ in range(len(episode.reward)):
        state, timestep = step(state, policy(timestep.obs))
        rewards.append(timestep.reward[0])
    assert timestep.truncated[0] | timestep.terminated[0]
    np.testing.assert_allclose(episode.reward, rewards, rtol=1e-5)
    # This environment's observation begins with its joints' positions.
    np.testing.assert_allclose(episode.qpos[-1], timestep.final_obs[0, :2], atol=1e-4)
    assert episode.qpos.shape == (len(rewards) + 1, episode.model.nq) and np.ptp(episode.qpos) > 0
    assert episode.seconds == pytest.approx(0.02)


@pytest.mark.parametrize("backend", ["spring", "positional", "generalized", "mjx"])
def test_every_backend_tells_mujocos_positions(backend):
    config = jaxrl.configure({"env": {"name": "inverted_pendulum", "backend": backend}}).env
    env, scene = envs.make(config, 3, restarts=False), envs.scene(config)
    state, timestep = jax.jit(env.reset)(jax.random.key(1))
    np.testing.assert_allclose(scene.qpos(state), timestep.obs[:, :2], atol=1e-5)


def test_a_frame_is_shown_for_every_sixtieth_of_a_second_at_most(episode):
    many = episode._replace(qpos=np.arange(10.0)[:, None], seconds=0.005)
    qpos, seconds = recording.frames(many, 60.0)
    assert qpos[:, 0].tolist() == [0, 3, 6, 9] and seconds == pytest.approx(0.015)
    assert recording.frames(many._replace(seconds=1.0), 60.0)[1] == 1.0


def test_the_page_needs_nothing_but_itself(episode):
    html = viewer.page(episode)
    assert "default-src 'none'" in html
    assert not re.search(r"https?:|\bsrc=|\bhref=|\bimport\b|\bfetch\(", html)


def test_the_page_holds_the_poses_of_every_shape(solids):
    page = content(viewer.page(solids))
    assert page["title"] == "constant after 7 env steps: return 1 in 1 steps" and page["seconds"] == 0.1
    poses = decode(page["poses"]).reshape(2, 7, 7)  # the plane and six solids: what group 3 has is hidden
    np.testing.assert_allclose(poses[1, 1:, 0] - poses[0, 1:, 0], 2.0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(poses[..., 3:], axis=-1), 1.0, atol=1e-6)
    assert [geom["isFloor"] for geom in page["geoms"]] == [True] + [False] * 6
    assert page["geoms"][5]["colour"] == [1.0, 0.0, 0.0, 1.0]


# Volumes of what the xml has: 4/3 π r³ (+ 2 π r² h), 2 π r² h, 4/3 π a b c, 8 a b c, and a corner of a cube, 1/6.
@pytest.mark.parametrize(
    "number, volume",
    [(1, 0.00418879), (2, 0.0230383), (3, 0.0188496), (4, 0.0251327), (5, 0.048), (6, 1 / 6)],
)
def test_solids_are_closed_and_of_the_right_volume_and_face_outwards(solids, number, volume):
    page = content(viewer.page(solids))
    shape = page["shapes"][page["geoms"][number]["shape"]]
    corner = decode(shape["corner"], "<u4").reshape(-1, 3)
    at, normal = (decode(shape[name]).reshape(-1, 3)[corner].astype(float) for name in ("at", "normal"))
    # The divergence theorem: the volume is a sixth of the sum of a · (b × c), and positive if they face outwards.
    area = np.cross(at[:, 1] - at[:, 0], at[:, 2] - at[:, 0])
    assert np.einsum("fi,fi->", at[:, 0], np.cross(at[:, 1], at[:, 2])) / 6 == pytest.approx(volume, rel=0.06)
    assert (np.einsum("fi,fci->fc", area, normal) >= -1e-9).all()
    np.testing.assert_allclose(area.sum(axis=0), 0.0, atol=1e-6)  # closed


def test_the_pictures_of_a_gif_move(solids, tmp_path):
    image = pytest.importorskip("PIL.Image")
    video.write(solids, tmp_path / "solids.gif")
    with image.open(tmp_path / "solids.gif") as gif:
        assert gif.n_frames == 2 and gif.size == video.SIZE and gif.info["duration"] == 100


def test_the_camera_goes_along_and_sees_something(solids):
    first, second = video.draw(solids.model, solids.qpos)
    assert first.shape == (360, 480, 3) and first.dtype == np.uint8
    assert np.ptp(first) > 100 and (first != second).any()
    is_red = lambda picture: (picture[..., 0] > 2.0 * picture[..., 1] + 20).nonzero()[1].mean()  # noqa: E731
    assert is_red(first) == pytest.approx(is_red(second), abs=3.0)  # columns: the box stays where it is


def test_a_floor_has_no_end_and_the_model_stays_as_it_is(solids):
    solids.model.geom_size[0, :2] = 40.0  # m
    # MuJoCo lays the floor around where the camera was in the frame before.
    near, _, far = video.draw(solids.model, np.array([[0.0], [1000.0], [1000.0]]))
    assert near[-1].min() > 10 and far[-1].min() > 10  # the lowest row of pixels is floor; where none is, it is black
    assert solids.model.geom_size[0, 0] == 40.0
    page = content(viewer.page(solids))
    floor = decode(page["shapes"][page["geoms"][0]["shape"]]["at"])
    assert floor.max() == viewer.ENDLESS


@pytest.mark.video
def test_an_mp4_has_its_frames_and_its_pace(episode, tmp_path):
    video.write(episode, tmp_path / "pendulum.mp4")
    ffmpeg = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    read = [ffmpeg, "-i", str(tmp_path / "pendulum.mp4"), "-f", "null", "-"]
    told = subprocess.run(read, capture_output=True, text=True, check=True).stderr
    assert re.findall(r"frame= *(\d+)", told)[-1] == str(len(episode.qpos))
    assert "480x360" in told and "50 fps" in told
    with pytest.raises(ConfigError, match=r"^--video=.* cannot be written \(.*\)$"):
        video.write(episode, tmp_path / "nowhere" / "a.mp4")


def test_mp4_without_ffmpeg_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ConfigError, match=r"--video=a.mp4 needs ffmpeg; pip install 'jaxrl\[video\]', or name a .gif"):
        video.check(Path("a.mp4"))


def test_the_door_writes_the_page_and_the_pictures(run, tmp_path, capsys):
    page, gif = tmp_path / "a.html", tmp_path / "a.gif"
    assert play.main([str(run), "--episodes=2", f"--html={page}", f"--video={gif}"]) == 0
    assert capsys.readouterr().out.count("\n") == 3
    assert content(page.read_text())["geoms"] and gif.read_bytes().startswith(b"GIF89a")


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--html=nowhere/a.html", "there is no folder"),
        ("--video=a.avi", "is neither .gif nor .mp4; name it a.gif"),
    ],
)
def test_a_file_that_cannot_be_is_one_line_and_status_2(run, capsys, flag, message):
    assert play.main([str(run), flag]) == 2
    printed, errors = capsys.readouterr()
    assert printed == "" and errors.count("\n") == 1 and message in errors


def test_a_suite_without_bodies_says_so(run, tmp_path, capsys):
    config = json.loads((run / "config.json").read_text())
    config["env"] = {"suite": "probe", "name": "target"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "checkpoints").symlink_to(run / "checkpoints")
    assert play.main([str(tmp_path), f"--html={tmp_path / 'a.html'}"]) == 2
    assert re.fullmatch(r"error: config\.env\.suite='probe' cannot be drawn: .*\n", capsys.readouterr().err)


def test_a_notebook_shows_the_page_in_a_frame_that_reaches_nothing_else(run, episode):
    page = jaxrl.view(run, height=300)
    assert page.html == viewer.page(episode)
    frames = []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, attributes: frames.append((tag, dict(attributes)))
    parser.feed(page._repr_html_())
    ((tag, frame),) = frames
    assert (tag, frame["srcdoc"], frame["sandbox"]) == ("iframe", page.html, "allow-scripts")
    assert "height: 300px" in frame["style"] and len(repr(page)) < 40
