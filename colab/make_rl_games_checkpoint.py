"""Trains the yaml of from_rl_games.ipynb with rl_games on Brax, a fifth of the way, and keeps its checkpoint in a cell.

    python colab/make_rl_games_checkpoint.py

in an environment with rl_games 1.6.5, PyTorch 2.13 (CPU), Brax 0.14 and JAX 0.10, with which the text in the cell was
made, in a minute. Needs nothing of jaxrl. Then renew the outputs: python colab/execute.py colab/from_rl_games.ipynb

rl_games' own environments of Brax are of Brax 1; the one here takes their place. A notebook in Colab comes without the
files beside it, so it carries the checkpoint as text: base64 of xz of the .pth that rl_games saved, untouched.

Letters in shapes: N environments, A action size.
"""

import base64
import json
import lzma
import sys
import tempfile
import textwrap
from pathlib import Path

import jax
import numpy as np
import torch
import yaml
from brax import envs
from gymnasium import spaces
from rl_games import torch_runner
from rl_games.common import env_configurations, ivecenv, vecenv

NOTEBOOK = Path(__file__).with_name("from_rl_games.ipynb")
KIND = "BRAX2"
EPOCHS = 50  # of the yaml's 250
BEGIN, END = 'PTH = """', '"""'  # of the text in its cell


class Brax(ivecenv.IVecEnv):
    """N environments of Brax, in one compiled step; they restart in the step in which an episode ends."""

    def __init__(self, name, backend, num_envs):
        env = envs.create(name, backend=backend, episode_length=1000, auto_reset=True, batch_size=num_envs)
        self.first, self.next = jax.jit(env.reset), jax.jit(env.step)
        self.obs_size, self.action_size = env.observation_size, env.action_size

    def reset(self):
        self.state = self.first(jax.random.key(0))
        return np.array(self.state.obs)

    def step(self, action):
        self.state = self.next(self.state, np.asarray(action, np.float32))
        info = {"time_outs": np.array(self.state.info["truncation"], bool)}
        return np.array(self.state.obs), np.array(self.state.reward), np.array(self.state.done, bool), info

    def get_env_info(self):
        obs = spaces.Box(-np.inf, np.inf, (self.obs_size,), np.float32)
        return {"observation_space": obs, "action_space": spaces.Box(-1.0, 1.0, (self.action_size,), np.float32)}


def main() -> None:
    """Trains, and puts the checkpoint into the notebook."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    [theirs] = [text for cell in notebook["cells"] if (text := "".join(cell["source"])).startswith("%%writefile")]
    [cell] = [cell for cell in notebook["cells"] if BEGIN in "".join(cell["source"])]
    with tempfile.TemporaryDirectory() as folder:
        content = train(yaml.safe_load(theirs.partition("\n")[2]), folder)
    packed = base64.b64encode(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)).decode()
    before, _, rest = "".join(cell["source"]).partition(BEGIN)
    after = rest.partition(END)[2]
    source = f"{before}{BEGIN}\n{textwrap.fill(packed, 116)}\n{END}{after}"
    cell["source"] = source.splitlines(keepends=True)
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(content):,} bytes, {len(packed):,} as text", file=sys.stderr)


def train(params: dict, folder: str) -> bytes:
    """The last checkpoint of a run of EPOCHS."""
    torch.set_num_threads(1)
    config = params["params"]["config"]
    name, backend = (config["env_config"][key] for key in ("env_name", "backend"))
    config |= {"train_dir": folder, "full_experiment_name": "run", "device": "cpu", "device_name": "cpu"}
    config |= {"max_epochs": EPOCHS, "learning_rate": float(config["learning_rate"]), "torch_compile": False}
    vecenv.register(KIND, lambda config_name, num_envs, **kwargs: Brax(name, backend, num_envs))
    env_configurations.register("brax", {"vecenv_type": KIND, "env_creator": lambda **kwargs: None})
    runner = torch_runner.Runner()
    runner.load(params)
    runner.run({"train": True})
    return max(Path(folder, "run", "nn").glob("*.pth"), key=lambda path: path.stat().st_mtime_ns).read_bytes()


if __name__ == "__main__":
    main()
