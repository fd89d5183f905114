"""A page tells of a run by itself: with no network, with nothing that the run could make it do, and with the truth."""

import base64
import hashlib
import html
import html.parser
import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import jaxrl
from jaxrl.host import playing, recording, report
from jaxrl.types import ConfigError

door = importlib.import_module("jaxrl.report")
EVIL = '<script>alert("evil")</script> {{body}}'.replace("/", "\u2215")  # no folder's name may hold a slash
SCENE = """<mujoco><worldbody><body><joint type="slide" axis="1 0 0"/><geom type="sphere" size=".1"/></body></worldbody>
</mujoco>"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose name, command line and experiment would act if they could."""
    short = {"total_env_steps": 512, "env.name": "target", "checkpoint.interval": 256, "eval.episodes": 4}
    folder = tmp_path_factory.mktemp("runs") / EVIL
    experiment = Path(__file__).parent / "host" / "probe_experiment.py"
    jaxrl.train(experiment, folder, short | {"tracking.experiment": '"><img src=x onerror=alert(1)>'})
    return folder


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    return report.write(run, tmp_path_factory.mktemp("pages") / "report.html", episodes=6).read_text(encoding="utf-8")


class Reader(html.parser.HTMLParser):
    """Collects tags, and the texts outside of <style>."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self._open = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self._open:
            self.texts.append(data)


def test_nothing_that_the_run_says_becomes_a_tag(page):
    reader = Reader(page)
    assert "script" not in reader.tags and "img" not in reader.tags
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    texts = " ".join(reader.texts)
    assert EVIL in texts and '"><img src=x onerror=alert(1)>' in texts  # shown as they are, {{body}} too


def test_the_page_needs_no_network_and_runs_no_script(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy and "script-src 'none'" in policy
    assert not re.search(r"https?:|\bsrc=|@import|url\((?!#)", html.unescape(page).replace("src=x onerror", ""))


def test_the_page_says_what_was_run_and_how_to_do_it_again(run, page):
    texts = " ".join(Reader(page).texts)
    told = json.loads((run / "run.json").read_text())
    for part in ("512", "ppo on probe/target", "env.name target constant", "learning_rate_schedule linear constant"):
        assert part in re.sub(r"\s+", " ", texts)
    assert told["versions"]["jax"] in texts and f"jax=={told['versions']['jax']}" in texts
    assert "1 × cpu" in texts  # what a training of the tests has
    whole = re.search(r"<summary>the whole config</summary><pre>(.*?)</pre>", page, re.DOTALL)[1]
    assert json.loads(html.unescape(whole)) == json.loads((run / "config.json").read_text())


def test_the_final_evaluation_is_what_play_plays(run, page):
    summary = playing.describe(playing.play(run, episodes=6))
    texts = " ".join(Reader(page).texts)
    assert f"{summary['mean']:,.6g} ± {summary['std']:,.4g}" in texts
    assert f"{summary['iqm_low']:,.6g} to {summary['iqm_high']:,.6g}" in texts
    assert "6 deterministic episodes of the checkpoint after 512 env steps" in texts


def test_without_episodes_the_runs_own_last_evaluation_stands_there(run, tmp_path, monkeypatch):
    monkeypatch.setattr(playing, "play", lambda *_: pytest.fail("played"))
    page = report.write(run, tmp_path / "a.html", episodes=0).read_text(encoding="utf-8")
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert f"{last['eval/episode_return']:,.6g} ± " in page and "The last evaluation of the run itself" in page


def test_curves_are_pictures_in_the_pages_own_colours(page):
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 8
    assert all("currentColor" in one and "var(--curve)" in one for one in pictures)
    assert not [colour for one in pictures for colour in re.findall("#(?:010203|040506|0072b2|ffffff)", one)]
    names = re.findall(r'aria-label="([^"]*)"', page)
    assert names[:2] == ["training rewards (average)", "Max step count (training)"]


def test_a_suite_without_bodies_says_why_nothing_moves(page):
    assert "is not bodies that MuJoCo knows." in page and "<iframe" not in page


def test_the_viewer_is_shut_in_and_its_script_is_known_by_its_hash(run, tmp_path, monkeypatch):
    videos = importlib.import_module("jaxrl.host.video")
    mujoco = importlib.import_module("mujoco")
    model = mujoco.MjModel.from_xml_string(SCENE)
    config = jaxrl.configure({"env": {"suite": "probe"}})
    episode = recording.Recording(config, 512, model, np.array([[0.0], [1.0]]), np.ones(1), 0.1)
    monkeypatch.setattr(report.envs, "scene", lambda config: None)
    monkeypatch.setattr(recording, "record", lambda *_, **__: episode)
    monkeypatch.setattr(report.pictures, "write", lambda *_, video, **__: videos.write(episode, video))
    page = report.write(run, tmp_path / "a.html", episodes=0, video=True).read_text(encoding="utf-8")
    attributes = dict(Reader(page).attributes)
    assert attributes["sandbox"] == "allow-scripts"
    (script,) = re.findall("<script>(.*?)</script>", attributes["srcdoc"], re.DOTALL)
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'content="(default-src[^"]*)"', page)[1]
    assert policy.endswith(f"script-src 'sha256-{known}'") and "script" not in Reader(page).tags
    kind, data = re.search(r'src="data:(image/gif|video/mp4);base64,([^"]*)"', page).groups()
    begin = base64.b64decode(data)[:12]
    assert begin.startswith(b"GIF89a") if kind == "image/gif" else b"ftyp" in begin


def test_the_door_writes_into_the_run_folder(run, capsys):
    assert door.main([str(run), "--episodes=0", "--no-viewer"]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert "How it moves" not in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["RUN", "--out=nowhere/a.html"], "there is no folder"),
        (["RUN", "--episodes=-1"], "--episodes=-1 is out of range"),
        (["RUN", "--epsodes=3"], "--episodes"),
        (["RUN", "--checkpoint=7"], "7"),
        (["RUN", "--episodes=0", "--video"], "cannot be drawn"),
        (["RUN", "--episodes=0", "--upload"], "has no wandb_id.txt"),
    ],
)
def test_an_error_is_one_line_and_status_2(run, arguments, message, capsys):
    assert door.main([str(run) if word == "RUN" else word for word in arguments]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors


def test_a_run_without_its_record_is_one_line(run, tmp_path):
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    with pytest.raises(ConfigError, match=r"run.json does not exist; give the folder of a run"):
        report.write(tmp_path, tmp_path / "a.html")
