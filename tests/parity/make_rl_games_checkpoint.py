"""Writes rl_games_checkpoints: agents of rl_games as it saves them, and what they answer to fixed observations.

    python tests/parity/make_rl_games_checkpoint.py

in an environment with rl_games 1.6.5, PyTorch 2.13 (CPU), gymnasium 1.3 and NumPy 2.4, with which the files at hand
were made. Each agent learns two epochs of noise, is saved by its own `save`, and answers with its own model.

Letters in shapes: T steps, N environments, A action size, M options, H units of a memory.
"""

import copy
import json
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from rl_games.algos_torch import a2c_continuous, a2c_discrete
from rl_games.common import algo_observer, tr_helpers

FOLDER = pathlib.Path(__file__).with_name("rl_games_checkpoints")
NUM_ENVS, STEPS, ANSWERED = 8, 4, 6  # environments, steps of a rollout, steps that are answered
LAST = "network.space.continuous.fixed_sigma"


class Case(NamedTuple):
    """An agent: its spaces, and what of its params differs from the usual."""

    params: dict  # by dotted path
    obs: tuple = (3,)
    action: spaces.Space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    states: int = 0  # size of what a central value reads


LSTM = {"network.rnn": {"name": "lstm", "units": 5, "layers": 1}, "config.seq_length": 2}
GRU = {"network.rnn": {"name": "gru", "units": 5, "layers": 2}, "config.seq_length": 2}
DISCRETE = {"algo.name": "a2c_discrete", "model.name": "discrete_a2c", "network.space": {"discrete": {}}}
CNN = {
    "network.cnn": {
        "type": "conv2d",
        "activation": "relu",
        "initializer": {"name": "default"},
        "convs": [
            {"filters": 3, "kernel_size": 3, "strides": 2, "padding": 0},
            {"filters": 2, "kernel_size": 2, "strides": 1, "padding": 0},
        ],
    }
}
CENTRAL = {
    "config.central_value_config": {
        "minibatch_size": 16,
        "mini_epochs": 3,
        "learning_rate": 5e-4,
        "clip_value": False,
        "normalize_input": True,
        "network": {
            "name": "actor_critic",
            "central_value": True,
            "mlp": {"units": [7], "activation": "elu", "initializer": {"name": "default"}},
        },
    }
}
WIDE = {
    **{f"network.rnn.{name}": True for name in ("concat_input", "concat_output", "layer_norm")},
    "network.separate": True,
}
CASES = {
    "shared": Case({}),
    "separate": Case({"network.separate": True, LAST: False}),
    "brax": Case(
        {"config.env_name": "brax", "config.env_config": {"env_name": "inverted_pendulum"}},
        (4,),
        spaces.Box(-1.0, 1.0, (1,), np.float32),
    ),
    "lstm": Case(LSTM),
    "lstm_wide": Case(LSTM | WIDE),
    "gru": Case(GRU | {"network.separate": True}),
    "gru_first": Case(GRU | {"network.rnn.before_mlp": True, "network.rnn.concat_output": True}),
    "d2rl": Case({"network.mlp.d2rl": True, "network.mlp.units": [8, 6, 4]}),
    "tanh": Case({"model.name": "continuous_a2c_tanh"}),
    "discrete": Case(DISCRETE | {"config.normalize_input": False}, action=spaces.Discrete(4)),
    "masked": Case(DISCRETE | {"config.use_action_masks": True}, action=spaces.Discrete(4)),
    "multi_discrete": Case(
        DISCRETE | {"model.name": "multi_discrete_a2c", "network.space": {"multi_discrete": {}}},
        action=spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2))),
    ),
    "central": Case(CENTRAL, states=5),
    "cnn": Case(CNN | DISCRETE, (9, 8, 2), spaces.Discrete(3)),
    "cnn_lstm": Case(CNN | LSTM | WIDE, (9, 8, 2)),
}
USUAL = {
    "seed": 3,
    "algo": {"name": "a2c_continuous"},
    "model": {"name": "continuous_a2c_logstd"},
    "network": {
        "name": "actor_critic",
        "separate": False,
        "mlp": {"units": [8, 6], "activation": "elu", "initializer": {"name": "default"}},
        "space": {
            "continuous": {
                "mu_activation": "None",
                "sigma_activation": "None",
                "mu_init": {"name": "default"},
                "sigma_init": {"name": "const_initializer", "val": -0.5},
                "fixed_sigma": True,
            }
        },
    },
    "config": {
        "name": "moved",
        "env_name": "recorded",
        "device": "cpu",
        "num_actors": NUM_ENVS,
        "horizon_length": STEPS,
        "minibatch_size": 16,
        "mini_epochs": 2,
        "max_epochs": 10,
        "gamma": 0.98,
        "tau": 0.9,
        "learning_rate": 1e-3,
        "lr_schedule": "adaptive",
        "kl_threshold": 0.004,
        "e_clip": 0.2,
        "grad_norm": 1.0,
        "truncate_grads": True,
        "mixed_precision": False,
        "normalize_input": True,
        "normalize_value": True,
        "normalize_advantage": True,
        "entropy_coef": 0.01,
        "critic_coef": 2.0,
        "clip_value": False,
        "bounds_loss_coef": 0.01,
    },
}


class Noise:
    """A vectorised environment of noise."""

    def __init__(self, case: Case, rng):
        self.case, self.rng = case, rng

    def reset(self):
        return self.show()

    def step(self, actions):
        reward, done = f32(self.rng.normal(0.5, 2.0, NUM_ENVS)), self.rng.random(NUM_ENVS) < 0.2
        return self.show(), reward, done, {}

    def show(self):
        obs, states = look(self.case, self.rng)
        return {"obs": obs, "states": states} if self.case.states else obs

    def get_action_masks(self):
        return self.rng.random((NUM_ENVS, 4)) < 0.9

    def set_train_info(self, frame, agent):
        pass

    def get_env_state(self):
        return None


def look(case, rng, *lead):
    obs = f32(rng.normal(0.3, 1.2, (*lead, NUM_ENVS, *case.obs)))
    return obs, f32(rng.normal(-0.5, 2.0, (*lead, NUM_ENVS, case.states)))


def main() -> None:
    """Trains, saves and asks every agent."""
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    golden = {"versions": np.array(f"rl_games 1.6.5, torch {torch.__version__}, numpy {np.__version__}")}
    for seed, (name, case) in enumerate(CASES.items()):
        golden |= {f"{name}/{key}": value for key, value in trained(name, case, seed).items()}
    np.savez_compressed(FOLDER / "answers.npz", **golden)
    print(f"{FOLDER}: {sum(file.stat().st_size for file in FOLDER.iterdir())} bytes")


def trained(name, case, seed) -> dict:
    """One agent: its params as JSON, observations [T, N, ...], and its answers to them."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    params = params_of(case)
    agent = make_agent(case, copy.deepcopy(params), Noise(case, rng))
    with torch.no_grad():
        for parameter in agent.model.a2c_network.parameters():  # biases, and log σ, begin alike
            parameter += 0.2 * torch.tensor(f32(rng.normal(0, 1, parameter.shape)))
    agent.init_tensors()
    agent.obs = agent.env_reset()
    for _ in range(2):
        agent.update_epoch()
        agent.train_epoch()
        agent.frame += agent.batch_size
    agent.save(str(FOLDER / name))
    return {"params": np.array(json.dumps(params)), "learning_rate": np.array(agent.last_lr)} | answers(
        agent, case, rng
    )


def params_of(case) -> dict:
    params = copy.deepcopy(USUAL)
    for path, value in case.params.items():
        *blocks, last = path.split(".")
        block = params
        for each in blocks:
            block = block[each]
        block[last] = copy.deepcopy(value)
    return params


def make_agent(case, params, env):
    space = spaces.Box(-np.inf, np.inf, case.obs, np.float32)
    info = {"observation_space": space, "action_space": case.action, "agents": 1}
    if case.states:
        info["state_space"] = spaces.Box(-np.inf, np.inf, (case.states,), np.float32)
    params["config"] |= {
        "env_info": info,
        "vec_env": env,
        "reward_shaper": tr_helpers.DefaultRewardsShaper(),
        "features": {"observer": algo_observer.DefaultAlgoObserver()},
        "train_dir": tempfile.mkdtemp(),
    }
    is_discrete = params["algo"]["name"] == "a2c_discrete"
    return (a2c_discrete.DiscreteA2CAgent if is_discrete else a2c_continuous.A2CAgent)("moved", params)


def answers(agent, case, rng) -> dict:
    """Observations [T, N, ...]; mean and σ [T, N, A] or logits [T, N, M]; value [T, N]; the memory [T, ...]."""
    obs, states = look(case, rng, ANSWERED)
    mask = rng.random((ANSWERED, NUM_ENVS, 4)) < 0.6
    mask[..., 0] |= ~mask.any(-1)
    use_mask = case.params.get("config.use_action_masks", False)
    agent.set_eval()
    memory = agent.model.get_default_rnn_state() if agent.is_rnn else None
    memory = None if memory is None else [torch.zeros(x.shape[0], NUM_ENVS, x.shape[2]) for x in memory]
    lists: dict[str, list] = {}
    for t in range(ANSWERED):
        inputs = {"is_train": False, "prev_actions": None, "obs": torch.tensor(obs[t]), "rnn_states": memory}
        if use_mask:
            inputs["action_masks"] = torch.tensor(mask[t])
        with torch.no_grad():
            answer = agent.model(inputs)
            if case.states:
                answer["values"] = agent.central_value_net.get_value({"states": torch.tensor(states[t])})
        memory = answer["rnn_states"] if agent.is_rnn else None
        kept = {name: answer[name] for name in ("mus", "sigmas") if name in answer} | {"value": answer["values"][:, 0]}
        if "logits" in answer:
            logits = answer["logits"]
            kept["logits"] = torch.cat(logits, -1) if isinstance(logits, list) else logits
        kept |= {f"memory_{number}": x for number, x in enumerate(memory or ())}
        for key, value in kept.items():
            lists.setdefault(key, []).append(value.numpy().copy())
    golden = {key: np.stack(value) for key, value in lists.items()} | {"obs": obs}
    return golden | ({"states": states} if case.states else {}) | ({"mask": mask} if use_mask else {})


def f32(x) -> np.ndarray:
    return np.asarray(x, np.float32)


if __name__ == "__main__":
    main()
