"""rl_games' env_name and env_config → the group `env`, with what is to be written or installed for it."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrl.find import find, nearest
from jaxrl.host.keys import error, show
from jaxrl.host.rl_games.source import Source

BRIDGE = "docs/environments.md, 'Torch simulators'"
RENAMED = {  # of gymnasium 1: the old versions are gone
    "BipedalWalkerHardcore-v2": "BipedalWalkerHardcore-v3",
    "CarRacing-v0": "CarRacing-v3",
    "LunarLander-v2": "LunarLander-v3",
    "LunarLanderContinuous-v2": "LunarLanderContinuous-v3",
    "Pendulum-v0": "Pendulum-v1",
}
BOX2D = r"BipedalWalker|CarRacing|LunarLander"
ALL = ("seed", "env_name", "name")  # options that every kind below knows: the seed is params.seed here


class Env(NamedTuple):
    """The group `env` of an experiment."""

    config: dict[str, Any]
    remarks: tuple[str, ...] = ()  # what is to be done before it runs
    options: tuple[str, ...] = ()  # of env_config that are taken over or mean nothing here
    evaluates: bool = True  # a second set of environments can be made beside the one that is trained on


def make(source: Source) -> Env:
    """The environment of a yaml.

    Raises:
        ConfigError: it is one that cannot be trained here.
    """
    kind = str(source.get("env_name") or source.get("vecenv_type"))
    if source.has("self_play_config") or source.flag("env_config.self_play"):
        raise error(
            f"env_name={show(kind)} is played against an opponent (self-play), which jaxrl cannot train yet; "
            "convert a yaml with one player"
        )
    if kind in MAKERS:
        return MAKERS[kind](source)
    if re.fullmatch(r"(\w+:)?[\w-]+-v\d+", kind):  # rl_games registers some of gymnasium's under their own names
        return _gymnasium(source, kind)
    return _bridge(source, f"env_name={show(kind)} is no environment of jaxrl's", "your_module.make")


def report(source: Source, env: Env) -> list[str]:
    """What is to be done for the environment, and the options of it that are not taken over."""
    lost = {
        name: value
        for name, value in source.below("env_config").items()
        if name not in ALL and name not in env.options and value is not None
    }
    shown = ", ".join(f"{name}={value}" for name, value in lost.items())
    bridged = env.config.get("suite") == "torch_bridge"
    cure = "give them to your function by env.options" if bridged else "wrap the environment if they matter"
    return [*env.remarks, *([f"env_config, {shown}: {cure}"] if lost else [])]


def _brax(source: Source) -> Env:
    name = source.get("env_config.env_name", "ant")
    known = find("envs", "brax").names()
    if name not in known:
        raise error(f"env_config.env_name={show(name)} is not in Brax any more; {nearest(str(name), known)}")
    config, backend = {"name": name}, source.get("env_config.backend")
    if backend in ("generalized", "positional", "mjx"):
        config["backend"] = backend
    remarks = ["Brax's physics are of version 2 here, and their returns are not those of rl_games' Brax 1"]
    if backend is None:
        remarks.append("env_config.backend is not given: spring here; Brax's own default is env.backend=generalized")
    return Env(config, tuple(remarks), ("backend",))


def _envpool(source: Source) -> Env:
    name = source.get("env_config.env_name")
    config = {"suite": "envpool", "name": str(name)}
    # has_lives and use_dict_obs_space are of its wrapper: games are whole, env.last_* shows what was done.
    own = ("has_lives", "use_dict_obs_space", "flatten_obs", "env_type")
    options = {key: value for key, value in source.below("env_config").items() if key not in (*ALL, *own)}
    if options:
        config["options"] = tuple(f"{key}={value}" for key, value in options.items())
    if source.flag("env_config.flatten_obs"):
        config["flatten"] = True
    return Env(config, ("EnvPool plays it: pip install 'jaxrl[envpool]'",), (*own, *options))


def _atari(source: Source, name: str = "") -> Env:
    """EnvPool's Atari in the place of a wrapped gym environment: PongNoFrameskip-v4 is Pong-v5."""
    name = str(name or source.get("env_config.name") or source.get("env_config.env_name"))
    game = re.sub(r"(NoFrameskip)?(-v\d+)?$", "", name)
    config = {"suite": "envpool", "name": f"{game[:1].upper()}{game[1:]}-v5"}
    options = {"frame_skip": source.whole("env_config.skip", 4)} if source.has("env_config.skip") else {}
    # One life is an episode for rl_games' wrappers unless told otherwise.
    lives = "env_config.episode_life" if source.has("env_config.episode_life") else "env_config.episodic_life"
    options["episodic_life"] = source.flag(lives, True)
    config["options"] = tuple(f"{key}={value}" for key, value in options.items())
    remark = f"{name}: EnvPool plays it, 4 frames of 84 x 84 at once: pip install 'jaxrl[envpool]'"
    return Env(config, (remark,), ("skip", "episode_life", "episodic_life", "wrap_impala"))


def _gymnasium(source: Source, name: str = "") -> Env:
    name = str(name or source.get("env_config.name") or source.get("env_config.env_name"))
    if re.search(r"(NoFrameskip-v4|^(Pong|Breakout|MsPacman)-v5)$", name):
        return _atari(source, name)
    if "PyBullet" in name or "Roboschool" in name or name.startswith("procgen:") or name == "TestAsymmetricEnv-v0":
        return _bridge(source, f"env_name={show(name)} is not in gymnasium", "your_module.make")
    config = {"suite": "gymnasium", "name": RENAMED.get(name, name)}
    needs = " 'gymnasium[box2d]'" if re.match(BOX2D, name) else ""
    remarks = [f"gymnasium plays it, on the host: pip install 'jaxrl[gymnasium]'{needs}"]
    if name == "CartPoleMaskedVelocity-v1":
        config |= {"name": "CartPole-v1", "masked": (1, 3)}  # without its velocities
    if config["name"] != name:
        remarks.append(f"{name} is {config['name']} of gymnasium 1")
    if source.whole("env_config.frames", 1) > 1:
        config["frame_stack"] = source.whole("env_config.frames")
    if source.has("env_config.steps_limit"):
        config["episode_length"] = source.whole("env_config.steps_limit")
    return Env(config, tuple(remarks), ("frames", "steps_limit"))


def _isaac(source: Source) -> Env:
    task = f"env_name={source.get('env_name')} is a task of Isaac Gym or Isaac Lab"
    return _bridge(source, task, "isaac.simulator")._replace(evaluates=False)


def _agents(source: Source) -> Env:
    many = f"env_name={source.get('env_name')} has several agents, which are rows of one policy here"
    return _bridge(source, many, "your_module.make")


def _bridge(source: Source, why: str, function: str) -> Env:
    module, _, name = function.partition(".")
    remark = (
        f"{why}: write {module}.py with {name}(num_envs, **options), which makes it as a batched torch simulator "
        f"({BRIDGE}), or set env.suite and env.name to another"
    )
    return Env({"suite": "torch_bridge", "name": function}, (remark,))


MAKERS: dict[str, Callable[[Source], Env]] = {
    "brax": _brax,
    "envpool": _envpool,
    "ENVPOOL": _envpool,
    "atari_gym": _atari,
    "cule": _atari,
    "openai_gym": _gymnasium,
    "gymnasium": _gymnasium,
    "rlgpu": _isaac,
    "smac": _agents,
    "smac_cnn": _agents,
    "smac_v2": _agents,
    "multiwalker_env": _agents,
}
# What docs/reference.md says of the keys that are decided here.
NAMES = {"env.name": "env_name", "env.frame_stack": "env_config.frames"}
