"""Brax's PPO: `brax.training.agents.ppo.train`, its own loop, without its evaluations."""

import functools
import queue
import threading
from unittest import mock

import jax
import numpy as np

MANY_CALLS = 100_000  # more than any benchmark asks for; train() is told in advance how long it will run


def make(problem, shared):
    """A step that lets Brax's training loop run for one of its epochs.

    Args:
        problem: a problem.Problem.
        shared: must be False, Brax has no shared trunk.

    Returns:
        `step() -> int`: runs `problem.iterations` PPO iterations, blocks, returns the env steps done.
    """
    if shared:
        raise ValueError("Brax's PPO has separate policy and value nets only.")
    step, _ = _start(problem.env_name, problem.backend, problem.env_steps_per_call, _settings(problem))
    return step


def _settings(problem):
    def settings(networks):
        return {
            "num_envs": problem.num_envs,
            "episode_length": problem.episode_length,
            "unroll_length": problem.unroll_length,
            # Brax counts a minibatch in unrolls.
            "batch_size": problem.num_envs // problem.num_minibatches,
            "num_minibatches": problem.num_minibatches,
            "num_updates_per_batch": problem.update_epochs,
            "normalize_observations": True,
            "learning_rate": 3e-4,
            "discounting": 0.99,
            "gae_lambda": 0.95,
            "entropy_cost": 0.0,
            "clipping_epsilon": 0.2,
            "max_grad_norm": 1.0,
            "network_factory": functools.partial(
                networks.make_ppo_networks,
                policy_hidden_layer_sizes=problem.hidden_sizes,
                value_hidden_layer_sizes=problem.hidden_sizes,
                activation=jax.nn.elu,
            ),
        }

    return settings


def epoch(problem):
    """The function of one device that Brax's train() maps over devices as its epoch, and its abstract arguments."""

    class Found(Exception):
        pass

    pmap = jax.pmap

    def look(function, axis_name=None, **options):
        def found(*arguments):
            given = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), arguments)
            raise Found(jax.jit(jax.vmap(function, axis_name=axis_name), donate_argnums=(0, 1)), given)

        return found if function.__name__ == "training_epoch" else pmap(function, axis_name, **options)

    with mock.patch.object(jax, "pmap", look):
        try:
            make(problem, False)()
        except Found as found:
            return found.args
    raise RuntimeError("Brax trains in another way now: it maps no function of the name training_epoch.")


def learn(seed, interval):
    """Brax's own settings for Ant, https://github.com/google/brax/blob/main/notebooks/training.ipynb.

    There they are of 50M env steps and 10 evaluations; how long it runs, and how often it is looked at, changes nothing
    of what it learns.
    """
    tuned = {
        "seed": seed,
        "reward_scaling": 10,
        "episode_length": 1000,
        "normalize_observations": True,
        "action_repeat": 1,
        "unroll_length": 5,
        "num_minibatches": 32,
        "num_updates_per_batch": 4,
        "discounting": 0.97,
        "learning_rate": 3e-4,
        "entropy_cost": 1e-2,
        "num_envs": 4096,
        "batch_size": 2048,
    }
    iteration = tuned["batch_size"] * tuned["num_minibatches"] * tuned["unroll_length"]
    return _start("ant", "spring", -(-interval // iteration) * iteration, lambda networks: tuned)


def _start(env_name, backend, env_steps_per_call, settings):
    """step and act of a run of Brax's train().

    train() owns its loop and returns only at the end. It runs in a thread, and stops in `progress_fn` between two
    epochs until the next step asks for one more: what is timed is Brax's compiled epoch and its host loop.
    """
    _put_back_device_put_replicated()
    from brax import envs
    from brax.training.agents.ppo import networks, train

    wake = threading.Semaphore(0)
    outcomes = queue.Queue()  # env steps done so far, or the exception that ended the training
    latest = None  # the policy's maker and parameters

    def pause(env_steps, metrics):
        del metrics
        outcomes.put(env_steps)
        wake.acquire()

    def keep(env_steps, make_policy, params):
        nonlocal latest
        del env_steps
        latest = make_policy, params

    def run():
        wake.acquire()
        try:
            train.train(
                environment=envs.get_environment(env_name, backend=backend),
                num_timesteps=MANY_CALLS * env_steps_per_call,
                num_evals=1 + MANY_CALLS,
                run_evals=False,
                progress_fn=pause,
                policy_params_fn=keep,
                **settings(networks),
            )
        except Exception as error:
            outcomes.put(error)

    threading.Thread(target=run, daemon=True).start()
    env_steps = 0

    def step():
        nonlocal env_steps
        wake.release()
        outcome = outcomes.get()
        if isinstance(outcome, Exception):
            raise outcome
        before, env_steps = env_steps, outcome
        return env_steps - before

    choose = None

    def act(obs):
        nonlocal choose
        make_policy, params = latest
        if choose is None:  # its maker is the same all the time
            key = jax.random.PRNGKey(0)  # of which a deterministic policy makes no use
            choose = jax.jit(lambda params, obs: make_policy(params, deterministic=True)(obs, key)[0])
        return choose(params, obs)

    return step, act


def _put_back_device_put_replicated():
    """Brax 0.14.2 calls a function that jax 0.10 took away; without it train() ends at once (brax issue 671)."""
    if hasattr(jax, "device_put_replicated"):
        return

    def device_put_replicated(tree, devices):
        mesh = jax.sharding.Mesh(np.array(devices), ("i",))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("i"))
        return jax.tree.map(lambda leaf: jax.device_put(np.stack([np.asarray(leaf)] * len(devices)), sharding), tree)

    jax.device_put_replicated = device_put_replicated
