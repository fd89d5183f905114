"""A policy of rl_games plays the same once it is moved: outputs within 1e-5 of what its own model said.

make_rl_games_checkpoint.py wrote the checkpoints and the answers; it says what the agents are.

Letters in shapes: T steps, N environments.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import convert
from jaxrl.functional import distributions

FOLDER = Path(__file__).with_name("rl_games_checkpoints")
CASES = sorted(file.stem for file in FOLDER.glob("*.pth"))


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "answers.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def moved(golden, tmp_path_factory):
    """The run folder of a case."""
    folder, runs = tmp_path_factory.mktemp("moved"), {}

    def get(name):
        if name not in runs:
            yaml = folder / f"{name}.yaml"
            yaml.write_text(json.dumps({"params": json.loads(str(golden[f"{name}/params"]))}))  # JSON is YAML
            checkpoint, run = FOLDER / f"{name}.pth", folder / name
            out = folder / f"{name}.py"
            arguments = [str(yaml), "--out", str(out), "--checkpoint", str(checkpoint), "--workdir", str(run)]
            assert convert.main(arguments) == 0
            runs[name] = run
        return runs[name]

    return get


def play(policy, golden, name):
    """Distributions, values and carries of all steps, [T, N, ...], through the policy's own `act`."""
    obs = golden[f"{name}/obs"]
    extra = {"critic": f"{name}/states", "action_mask": f"{name}/mask"}
    extra = {key: golden[value] for key, value in extra.items() if value in golden}
    obs = {"policy": obs, **extra} if extra else obs

    def step(carry, now):
        obs, key = now
        _, carry, memo = policy.algorithm.act(policy.agent, carry, obs, jnp.zeros(num, bool), key)
        return carry, (memo.distribution, memo.value, carry)

    steps, num = jax.tree.leaves(obs)[0].shape[:2]
    keys = jax.random.split(jax.random.key(0), steps)
    return jax.jit(lambda: jax.lax.scan(step, policy.carry(num), (obs, keys))[1])()


def logits_of(distribution):
    parts = distribution.parts if isinstance(distribution, distributions.MultiCategorical) else (distribution,)
    return jnp.concatenate([jax.nn.log_softmax(part.logits) for part in parts], axis=-1)


@pytest.mark.parametrize("name", CASES)
def test_a_moved_policy_says_what_it_said(name, moved, golden):
    policy = jaxrl.load_policy(moved(name))
    distribution, value, carry = play(policy, golden, name)
    close = lambda ours, theirs: np.testing.assert_allclose(ours, golden[f"{name}/{theirs}"], atol=1e-5, rtol=1e-5)  # noqa: E731
    if f"{name}/logits" in golden:
        close(logits_of(distribution), "logits")
    else:
        close(distribution.mean, "mus")
        if name != "tanh":  # what its model reports as sigma is not what it draws with, see docs/rl_games.md
            close(jnp.exp(distribution.log_std), "sigmas")
    close(value, "value")
    # Theirs are [T, layers, N, H] of h (and c), the policy's before the critic's; ours nest as tower, layer, h and c.
    number = 0
    for tower in carry:
        for states in zip(*tower, strict=True):
            close(jnp.stack(states, axis=1), f"memory_{number}")
            number += 1
    assert f"{name}/memory_{number}" not in golden and (number > 0) == policy.is_recurrent
