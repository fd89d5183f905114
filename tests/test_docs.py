"""The documentation: its code runs, its commands are understood, its links lead somewhere, the site builds.

The code of torchrl.md is run by test_torchrl_tutorial.py, that of environments.md by envs/test_guide.py, that of
deployment.md by test_export.py. What is trained here is shrunk, from outside; else the code is the pages' own.
"""

import configparser
import contextlib
import os
import pathlib
import re
import shlex
import subprocess
import sys

import jax
import matplotlib
import pytest

import jaxrl
from jaxrl.host import config as configs
from jaxrl.networks import actor_critic

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
RUN_ELSEWHERE = ("torchrl.md", "environments.md", "deployment.md")
FUSE = {"suite": "probe", "name": "fuse"}  # reward 1 at each of three steps
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
SMALL = {
    "total_env_steps": 1024,
    "network": {"hidden_sizes": (8,)},
    "ppo": {"num_envs": 16, "unroll_length": 8, "minibatch_size": 64, "update_epochs": 1},
    "eval": {"episodes": 8},
}


def blocks(page: pathlib.Path, language: str) -> list[str]:
    """What stands between ``` fences of that language; '' is commands."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.S | re.M)
    return [code for said, code in fenced if said == language]


def code(page: pathlib.Path) -> list[str]:
    return blocks(page, "python")


def commands() -> list[str]:
    """What the pages tell one to type: lines of blocks without a language, and inline commands."""
    lines = [line for page in PAGES for block in blocks(page, "") for line in block.splitlines()]
    inline = [line for page in PAGES for line in re.findall(r"`((?:python -m|pip|make) [^`]*)`", page.read_text())]
    return sorted({line.partition("  #")[0].strip() for line in [*lines, *inline]} - {""})


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder to work in, with the experiments, where whatever is trained is small."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    resolve = configs.resolve

    def shrunk(partial, overrides=()):
        """What was asked for has been checked; what is trained is a probe that takes no time to compile."""
        config = resolve(partial, overrides)
        if config.env.suite == "probe":
            return config
        rate = {"ppo.learning_rate": config.ppo.learning_rate} if "ppo" in config else {}  # what the sweeps vary
        return resolve({**SMALL, "seed": config.seed, "env": FUSE}, rate)

    monkeypatch.setattr(configs, "resolve", shrunk)
    matplotlib.use("agg")
    with contextlib.chdir(tmp_path):
        yield tmp_path


def modules_of(page):
    """The pages' modules: blocks whose docstring begins with where they lie, 'mine/waves.py: ...'."""
    for block in code(page):
        where = re.match(r'"""(mine/\w+\.py): ', block)
        if where:
            yield where[1], block


@pytest.fixture
def mine(small, monkeypatch):
    """Lays the modules of a page where it says that they are."""

    def lay(page):
        for path, code in modules_of(page):
            file = small / path
            file.parent.mkdir(exist_ok=True)
            file.write_text(code)
        monkeypatch.syspath_prepend(small)

    return lay


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in NAMES if ROOT.joinpath(name).name not in RUN_ELSEWHERE and code(ROOT / name)]
)
def test_the_code_of_the_page_runs(name, mine, small, keys_unchecked):
    page = ROOT / name
    mine(page)
    names = {"__name__": "page"}
    for number, block in enumerate(code(page)):
        exec(compile(block, f"{page.name}, block {number + 1}", "exec"), names)


def test_the_pages_that_are_run_elsewhere_are_the_only_ones_left_out():
    assert {page.name for page in PAGES if page.name in RUN_ELSEWHERE} == set(RUN_ELSEWHERE)


def test_the_guides_network_is_trained_and_uses_its_waves(mine, small):
    mine(ROOT / "docs" / "network.md")
    experiment = {
        "env": FUSE,
        "network": {"module": "mine.waves", "initial_std": 0.5},
        "ppo": {"num_envs": 16, "unroll_length": 8, "learning_rate": 1e-2},
    }
    learner = jaxrl.build(jaxrl.configure(experiment))
    state = jax.jit(learner.init)(jax.numpy.uint32(0), learner.algorithm.hyper)
    before = jax.device_get(state.agent.params)
    state, metrics = jax.jit(learner.epoch)(state, 60)
    after = jax.device_get(state.agent.params)
    assert (before["policy"]["waves"] == after["policy"]["waves"]).all()
    assert (before["value_tower"]["Dense_0"]["kernel"] != after["value_tower"]["Dense_0"]["kernel"]).any()
    assert metrics["update/explained_variance"] > 0.5  # of values 1, 1 + γ and 1 + γ + γ²


def test_the_guides_algorithm_learns_the_values_of_the_fuse(mine, small):
    mine(ROOT / "docs" / "algorithm.md")
    experiment = {"algorithm": "mine.a2c", "env": FUSE, "a2c": {"gamma": 0.9}}
    config = jaxrl.configure(experiment, {"network.hidden_sizes": (16,)})
    learner = jaxrl.build(config)
    state = jax.jit(learner.init)(jax.numpy.uint32(0), learner.algorithm.hyper)
    state, _ = jax.jit(learner.epoch)(state, 1500)
    network = actor_critic.make(config.network, learner.env.spec)
    _, first = learner.env.reset(jax.random.key(1))
    seen = network.value(state.agent.params, (), first.obs[None], jax.numpy.ones((1, 64), bool)).expectation()
    assert abs(seen - (1 + 0.9 + 0.81)).max() < 0.1


def understood_make(words):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {word for word in words if "=" not in word} <= set(targets)


def understood_pip(words):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = {extra for word in words for extra in re.findall(r"\[([\w,-]+)\]", word)}
    assert set(",".join(named).split(",")) - {""} <= set(setup["options.extras_require"])


def understood_training(words):
    """Its flags are read, and its keys are keys with good values, in the suite of the experiment, if that is here."""
    if not any(word.startswith("--config=") for word in words):
        words = [*words, "--config=experiments/ant.py"]
    arguments = configs.parse_command_line([word for word in words if "help" not in word])
    experiment = arguments.config if pathlib.Path(arguments.config).exists() else ROOT / "experiments" / "ant.py"
    partial = configs.load(str(experiment))
    overrides = [
        (name, value) for name, value in arguments.overrides if not str(value).isupper() and "mine" not in value
    ]
    configs.resolve(partial, [(name, value) for name, value in overrides if name not in OF_A_SUITE])


def understood_door(words):
    """The flags of a door are those that its --help shows."""
    module, *rest = words
    if module not in HELP:
        told = [sys.executable, "-m", module, "--help"]
        done = subprocess.run(told, capture_output=True, text=True, check=True, cwd=ROOT)
        HELP[module] = re.findall(r"--[\w-]+", done.stdout)
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= set(HELP[module])


HELP: dict[str, list[str]] = {}
OF_A_SUITE = ("env.python", "env.randomization")  # keys that not every suite has


@pytest.mark.parametrize("line", commands())
def test_the_command_is_understood(line, small):
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    match words:
        case ["make", *rest]:
            understood_make(rest)
        case ["pip", "install", *rest]:
            understood_pip(rest)
        case ["python", "-m", "jaxrl.train" | "jaxrl.profile", *rest]:
            understood_training([word for word in rest if not word.startswith(("--trace=", "--json"))])
        case ["python" | ".venv/bin/python", "-m", module, *rest]:
            understood_door([module, *rest])
        case ["python", script, *_]:
            assert (ROOT / script).exists()
        case _:
            pytest.fail(f"{line!r} is of no kind that is known here")


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_that_are_there(name):
    page = ROOT / name
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.docs
def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    front = (tmp_path / "site" / "index.html").read_text()
    assert "<title>jaxrl</title>" in front
    assert "jaxrl.functional.returns.gae" in (tmp_path / "site" / "api" / "index.html").read_text()
