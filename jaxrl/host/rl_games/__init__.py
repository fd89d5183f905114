"""From rl_games: a yaml of rl_games 1.6.5, IsaacGymEnvs or Isaac Lab becomes an experiment of ours.

`rules.py` and `network.py` hold a rule for each key that means something here, `environments.py` the environments, and
`remarks.py` what is said about all other keys. Facts: docs/rl_games.md.

A checkpoint becomes a run: `pth.py` and `found.py` read it, `fitting.py` says what of the experiment must be otherwise
then, `sizes.py` what the policy sees and does, `weights.py` which tensor is which, `learner.py` what stands beside
them, and `moving.py` does it all.
"""

from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxrl.algorithms.ppo import config as ppo
from jaxrl.host import config as configs
from jaxrl.host import keys
from jaxrl.host.rl_games import environments, experiment, fitting, found, moving, network, remarks, rules, source

RULES = (*rules.RULES, *network.RULES)
IDENTITY = ("total_env_steps", "env.suite", "env.name")  # stand in the file whatever they are
ON_PURPOSE = (
    "minibatches are dealt anew in each pass (ppo.shuffle=False: in order), a truncated step is worth V of its true "
    "last observation (ppo.bootstrap='last_obs': of the one before), and more in docs/rl_games.md"
)


class Conversion(NamedTuple):
    """What became of a yaml."""

    title: str
    config: dict[str, Any]  # what the experiment sets, nested one deep: what differs from our defaults
    lost: list[str]  # what is not taken over, or is to be done
    elsewhere: list[str]  # keys that are not needed here
    dead: list[str]  # keys that rl_games does not read either
    unknown: list[str]  # keys that neither knows
    read: list[str]  # how the file was read

    def experiment(self, command: str) -> str:
        """The experiment file, which `command` trains."""
        return experiment.text(self.config, self.title, command, self.lost)

    def report(self) -> str:
        """All of it as text, a paragraph for each kind of thing."""
        paragraphs = {
            "Not taken over, or to be done": self.lost,
            "Not needed here": self.elsewhere,
            "Read by nothing in rl_games either": self.dead,
            "Unknown to rl_games, which ignores them": self.unknown,
            "Read": self.read,
            "Different on purpose": [ON_PURPOSE],
        }
        return "\n".join(
            f"{title}:\n" + "".join(f"  {line}\n" for line in lines) for title, lines in paragraphs.items() if lines
        )


def convert(file: Path) -> Conversion:
    """The experiment that a yaml describes.

    Raises:
        ConfigError: there is no such file, it is no training config of rl_games, or one that jaxrl cannot train.
    """
    return _convert(_read(file), file, {})


def move(file: Path, pth: Path) -> tuple[Conversion, ConfigDict, moving.Agent]:
    """The experiment that a yaml describes, resolved too, and the agent that rl_games trained by it.

    Args:
        file: the yaml.
        pth: a checkpoint of its training.

    Raises:
        ConfigError: as `convert`; the checkpoint cannot be read, is of another yaml, or would play otherwise here.
    """
    yaml, checkpoint = _read(file), found.read(pth)
    yaml = found.with_num_envs(yaml, checkpoint)
    fitting.check(yaml)
    conversion = _convert(yaml, file, fitting.changes(yaml, checkpoint.tensors))
    config = configs.resolve(conversion.config)
    return conversion, config, moving.move(checkpoint, yaml, config)


def _read(file):
    yaml = source.read(file)
    _check(yaml)
    return yaml


def _convert(yaml, file, changes):
    """The experiment, with what is otherwise than the yaml says, {our key: (value, why)}."""
    env = environments.make(yaml)
    values = {f"env.{name}": value for name, value in env.config.items()} | _ruled(yaml)
    lost = [*environments.report(yaml, env), *remarks.lost(yaml)]
    values |= {name: value for name, (value, _) in changes.items()}
    lost += [f"{name}={value} for the checkpoint: {why}" for name, (value, why) in changes.items()]
    if not env.evaluates:
        values |= {"eval.episodes": 0, "stop.target_return": None}
        lost.append("eval.episodes=0, as a process can hold one simulator of this kind; so score_to_win has no effect")
    resolved = configs.resolve({}, values)
    ppo.check_sizes(resolved.ppo)
    title = f"{yaml.get('name', file.stem)}, converted from rl_games' {file.name}"
    return Conversion(
        title,
        _differing(resolved),
        lost,
        remarks.elsewhere(yaml),
        remarks.dead(yaml),
        remarks.unknown(yaml),
        list(yaml.remarks),
    )


def names() -> dict[str, str]:
    """{our key: what rl_games calls it}, for the reference."""
    known = dict(environments.NAMES)
    for rule in RULES:
        if rule.remark is not rules.HIDDEN:
            before = f"{known[rule.ours]}, " if rule.ours in known else ""
            known[rule.ours] = f"{before}{rule.theirs}{rule.remark}"
    return known


def _ruled(yaml):
    """{our key: value} by all rules; an absent key has the value that rl_games takes for it."""
    values = {}
    for rule in RULES:
        value = rule.value(yaml, rule.theirs)
        if value is not None:
            values[rule.ours] = value
    return values


def _check(yaml):
    """ConfigError for what is no PPO of a kind that rl_games can make."""
    algorithm, model = yaml.get("params.algo.name"), yaml.get("params.model.name")
    if algorithm == "sac":
        raise keys.error("params.algo.name='sac' is not PPO, all that jaxrl has yet; convert a yaml of a2c_continuous")
    if algorithm not in ("a2c_continuous", "a2c_discrete"):
        raise keys.error(
            f"params.algo.name={keys.show(algorithm)} is no algorithm of rl_games; "
            "choose a2c_continuous or a2c_discrete"
        )
    if str(model) not in network.MODELS:
        raise keys.error(
            f"params.model.name={keys.show(model)} is no model of rl_games 1.6.5; choose one of "
            f"{', '.join(network.MODELS)} (and network.rnn for a memory)"
        )


def _differing(resolved):
    """The keys of a resolved config that differ from the defaults, nested."""
    defaults = dict(keys.leaves(configs.resolve({"env": {"suite": resolved.env.suite}})))
    tree: dict[str, Any] = {}
    for name, value in keys.leaves(resolved):
        is_suite = name == "env.suite" and value == "brax"
        if value == defaults[name] and (name not in IDENTITY or is_suite):
            continue
        group, _, leaf = name.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[leaf] = value
    first = {name: tree["env"].pop(name) for name in ("suite", "name") if name in tree["env"]}
    tree["env"] = first | tree["env"]
    order = ("seed", "total_env_steps", "env", "network", "ppo", "eval", "checkpoint", "stop")
    return {name: tree[name] for name in order if name in tree}
