"""Several of gymnasium's environments as arrays in, arrays out; also from a process of their own, which is a script.

`gymnasium_workers.py` starts this file as that script. It is complete in itself but for the wire: a process that only
steps environments has no use for JAX, which takes seconds and memory to load.
"""

import contextlib
import importlib.util
import pathlib
import pickle
import sys
from typing import Any, NamedTuple

import numpy as np


class Made(NamedTuple):
    """What environments are made of."""

    spec: Any  # gymnasium's EnvSpec
    vectorization: str  # of gymnasium
    autoreset: str  # same_step or next_step
    episode_length: int = 0  # steps; 0 is the environment's own
    pixels: int = 0  # side of the image; 0 is its observation
    render_mode: str = ""


def load(made: Made, num_envs: int):
    """gymnasium's vector environment."""
    import gymnasium

    drawn = {"render_mode": made.render_mode} if made.render_mode else {}
    if made.pixels:
        drawn = {"render_mode": "rgb_array", "wrappers": (photographer(made.pixels),)}
    with silent_mujoco():  # the same of each, about the environment's model
        return gymnasium.make_vec(
            made.spec,
            num_envs,
            vectorization_mode=made.vectorization,
            vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode[made.autoreset.upper()]},
            **({"max_episode_steps": made.episode_length} if made.episode_length else {}),
            **drawn,
        )


@contextlib.contextmanager
def silent_mujoco():
    """Keeps to itself what MuJoCo warns of, from C and past Python's streams, and the MUJOCO_LOG.TXT that it leaves."""
    try:
        import mujoco
    except ImportError:
        yield
        return
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(handler)


def photographer(side: int):
    """A wrapper that shows what an environment renders."""
    import gymnasium
    from PIL import Image

    space = gymnasium.spaces.Box(0, 255, (side, side, 3), np.uint8)

    def shrink(image):
        return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))

    def wrap(env):
        return gymnasium.wrappers.TransformObservation(gymnasium.wrappers.AddRenderObservation(env), shrink, space)

    return wrap


class Here:
    """A vector environment of gymnasium in this process, whose every episode ends with its last observation.

    Args:
        envs: gymnasium's, which begin anew in the step that ends an episode, or in the next.
    """

    def __init__(self, envs):
        self.envs = envs

    def reset(self, seed: int):
        """obs [N, ...]; environment i gets seed + i."""
        return self.envs.reset(seed=seed)[0]

    def step(self, action):
        """(obs, reward, terminated, truncated, final_obs) [N, ...]; final_obs is None where it is obs everywhere."""
        obs, reward, terminated, truncated, info = self.envs.step(action)
        final = None
        if "final_obs" in info:
            final = copied(obs)
            for i in np.flatnonzero(info["_final_obs"]):
                put(final, i, info["final_obs"][i])
        return obs, reward, terminated, truncated, final


def copied(tree):
    """The same with arrays of its own."""
    return {name: copied(part) for name, part in tree.items()} if isinstance(tree, dict) else np.copy(tree)


def put(tree, i, one):
    """Writes one environment's row."""
    if isinstance(tree, dict):
        for name, part in tree.items():
            put(part, i, one[name])
    else:
        tree[i] = one


def serve(wire) -> None:
    """Makes what the first request says, and answers the others until nobody is there."""
    asked, _ = wire.receive()
    sys.path[:] = asked["path"]
    made, num_envs = pickle.loads(asked["made"].tobytes())
    here = Here(load(Made(*made), num_envs))
    calls = {"reset": here.reset, "step": here.step}
    wire.send(None)
    while True:
        try:
            argument, message = wire.receive()
        except EOFError:
            break
        try:
            wire.send(calls[message["call"]](argument))
        except Exception as mistake:  # an environment may fail in any way
            wire.fail(mistake)
    here.envs.close()


def main() -> None:
    """The script: `serve`, by the wire of the file beside this one."""
    sys.path.pop(0)  # this folder, which has modules called gymnasium and brax
    spec = importlib.util.spec_from_file_location("wire", pathlib.Path(__file__).with_name("torch_server.py"))
    wire = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wire)
    wire.attend(serve)


if __name__ == "__main__":
    main()
