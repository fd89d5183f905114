"""How every learner of Ant is judged: whole episodes of its deterministic policy, in environments made by Brax itself.

Letters in shapes: N episodes, A action size.
"""

import jax
import jax.numpy as jnp
import numpy as np
from brax import envs

EPISODE_LENGTH = 1000  # steps


def make(env_name: str, backend: str, episodes: int, act):
    """An evaluation: one episode in each of N environments, all from the same initial states at every call.

    Args:
        env_name: of Brax.
        backend: of Brax.
        episodes: N.
        act: obs [N, ...] -> action [N, A] in [-1, 1].

    Returns:
        () -> mean and standard deviation of the returns.
    """
    env = envs.get_environment(env_name, backend=backend)
    reset = jax.jit(jax.vmap(env.reset))
    keys = jax.random.split(jax.random.PRNGKey(20_000), episodes)

    @jax.jit
    def step(state, action, going_on, total):
        """What comes after an end does not count."""
        state = jax.vmap(env.step)(state, action)
        return state, going_on & (state.done == 0), total + jnp.where(going_on, state.reward, 0.0)

    def evaluate():
        state = reset(keys)
        going_on, total = jnp.ones(episodes, bool), jnp.zeros(episodes)
        for _ in range(EPISODE_LENGTH):
            state, going_on, total = step(state, act(state.obs), going_on, total)
        returns = np.asarray(total)
        return float(returns.mean()), float(returns.std())

    return evaluate
