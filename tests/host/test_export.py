"""What is exported says what the policy says: every network, by onnxruntime, jax.export and plain arithmetic.

The policies have learned nothing; their numbers are drawn anew, so that no bias is 0 and every output moves.
"""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs, find
from jaxrl.host import export, policies
from jaxrl.host.export import check, loaded, observations
from jaxrl.host.export import step as steps
from jaxrl.types import ConfigError, Network
from tests.host.test_policies import EXPERIMENT

pytestmark = pytest.mark.export

SMALL_CNN = {"network.cnn_filters": (4, 4), "network.cnn_kernels": (3, 2), "network.cnn_strides": (2, 1)}
KINDS = {
    "mlp": {"env.name": "target"},
    "squashed": {"env.name": "target", "network.distribution": "tanh_normal", "network.log_std": "state"},
    "d2rl": {"env.name": "target", "network.d2rl": True, "network.hidden_sizes": (8, 8, 8), "network.layer_norm": True},
    "bfloat16": {"env.name": "target", "network.dtype": "bfloat16", "env.obs_dtype": "float16"},
    "cnn": {"env.name": "image", **SMALL_CNN},
    "impala": {
        "env.name": "image",
        "network.impala_filters": (2,),
        "network.encoder": "impala",
        "network.shared": True,
    },
    "discrete": {"env.name": "recall"},
    "multi_discrete": {"env.name": "matching", "network.shared": True},
    "masked": {"env.name": "masked_arms"},
    "tuple": {"env.name": "mixture"},
    "asymmetric": {"env.name": "asymmetric"},
    "lstm": {"env.name": "recall", "network.core": "lstm", "network.core_size": 8},
    "gru": {"env.name": "fuse", "network.core": "gru", "network.core_size": 8, "network.core_layers": 2},
    "gru_first": {
        "env.name": "fuse",
        "network.core": "gru",
        "network.core_size": 8,
        "network.core_before_torso": True,
        "network.core_layer_norm": True,
        "network.core_concat_output": True,
        "network.shared": True,
    },
}
ACTIVATIONS = ("relu", "tanh", "sigmoid", "selu", "silu", "gelu", "softplus")


def untrained(**overrides):
    """A policy of no run, whose numbers are all drawn anew."""
    config = jaxrl.configure(EXPERIMENT, {name.replace("__", "."): x for name, x in overrides.items()})
    spec = envs.make(config.env, 1).spec
    algorithm = find.find("algorithms", config.algorithm).make(config, spec)
    random = np.random.default_rng(0)
    agent = algorithm.init(jax.random.key(0), algorithm.hyper)
    params = jax.tree.map(lambda x: x + 0.3 * random.normal(size=x.shape).astype(np.float32), agent.params)
    moments = agent.obs_moments
    shifted = jax.tree.map(lambda x: x + np.float32(0.1), moments.mean)
    moments = moments._replace(
        mean=shifted, variance=jax.tree.map(lambda x: 0.7 * x, moments.variance), count=(jnp.float32(9), jnp.float32(0))
    )
    return policies.Policy(algorithm, agent._replace(params=params, obs_moments=moments), spec, config, 0)


@pytest.fixture(scope="module", params=KINDS)
def exported(request, tmp_path_factory):
    """(kind, policy, what was written)."""
    policy = untrained(**KINDS[request.param])
    return request.param, policy, export.write(policy, tmp_path_factory.mktemp("export") / request.param)


def session(folder):
    import onnxruntime

    return onnxruntime.InferenceSession(folder / "policy.onnx", providers=["CPUExecutionProvider"])


def observe(policy, steps, num, seed=1):
    """Observations [T, N, ...] of any form, and what ONNX calls their parts."""
    random = np.random.default_rng(seed)

    def draw(x):
        shape = (steps, num, *x.shape)
        if x.dtype == bool:
            allowed = random.random(shape) < 0.5
            allowed[..., 0] = True
            return allowed
        if x.dtype == jnp.uint8:
            return random.integers(0, 256, shape).astype(np.uint8)
        return random.normal(size=shape).astype(np.float32)

    spec = policy.spec.obs
    if not isinstance(spec, dict):
        obs = draw(spec)
        return obs, {"obs": obs}
    obs = {name: draw(x) for name, x in spec.items() if name != "critic"}
    return obs, {name if name == "action_mask" else f"obs.{name}": x for name, x in obs.items()}


def sent(policy, action):
    """What the environment gets of an action, part by part."""
    parts = action if isinstance(action, tuple) else (action,)
    return [np.clip(x, -1.0, 1.0) if np.issubdtype(x.dtype, np.floating) else np.asarray(x) for x in parts]


def test_onnx_and_what_is_loaded_say_what_the_policy_says_with_any_number_of_rows(exported):
    kind, policy, written = exported
    policy = steps.in_float32(policy)
    onnx, again = session(written.folder), jaxrl.load_policy(written.folder)
    obs, named = observe(policy, 1, 1000)
    obs = jax.tree.map(lambda x: x[0], obs)
    expected = sent(policy, policy(obs))
    for theirs, other in zip(expected, sent(policy, again(obs)), strict=True):
        np.testing.assert_allclose(other, theirs, atol=1e-5)
    names = [port["name"] for port in written.contract["outputs"] if port["name"].startswith("action")]
    for num in (1, 7, 1000):
        feed = {name: x[0, :num] for name, x in named.items()}
        for port in written.contract["inputs"]:
            if port["name"].startswith("carry."):
                feed[port["name"]] = np.zeros((num, *port["shape"][1:]), port["dtype"])
        if written.contract["recurrent"]:
            feed["begins"] = np.ones(num, bool)
        for mine, theirs in zip(onnx.run(names, feed), expected, strict=True):
            np.testing.assert_allclose(mine, theirs[:num], atol=1e-5)
    telling = {port["name"] for port in written.contract["outputs"]} & {"action", "logits"}
    assert kind == "asymmetric" or any(np.ptp(x) > 0 for x in onnx.run([*telling], feed))  # but for who sees nothing


def test_memory_goes_on_for_200_steps_through_episodes_that_begin_at_any_time(exported):
    kind, policy, written = exported
    if not policy.is_recurrent:
        assert not written.contract["recurrent"]
        assert {port["name"].partition(".")[0] for port in written.contract["inputs"]} <= {"obs", "action_mask"}
        return
    onnx, again = session(written.folder), jaxrl.load_policy(written.folder)
    obs, _ = observe(policy, 200, 5)
    begins = np.random.default_rng(2).random((200, 5)) < 0.02
    begins[0] = True
    carries = [port for port in written.contract["inputs"] if port["name"].startswith("carry.")]
    # The critic's memory does not act: half of the policy's, or all of it where they share one.
    assert len(carries) == len(jax.tree.leaves(policy.carry(1))) // (1 if kind == "gru_first" else 2)
    carry = {port["name"]: np.full((5, *port["shape"][1:]), 7.0, np.float32) for port in carries}  # is cleared
    names = [port["name"] for port in written.contract["outputs"]]
    worst = 0.0
    policy.reset()
    for now, first in zip(obs, begins, strict=True):
        outputs = dict(zip(names, onnx.run(None, {"obs": now, "begins": first, **carry}), strict=True))
        carry = {name: outputs[f"next_{name}"] for name in carry}
        [expected] = sent(policy, policy(now, begins=first))
        worst = max(worst, np.abs(outputs["action"] - expected).max())
        np.testing.assert_allclose(again(now, begins=first), expected, atol=1e-5)
    assert worst <= 1e-5


def test_the_contract_holds_what_was_checked_and_the_files_checksums(exported):
    import hashlib

    _, _, written = exported
    told = json.loads((written.folder / "contract.json").read_text())
    assert sorted(path.name for path in written.folder.iterdir()) == sorted([*told["files"], "contract.json"])
    for name, file in told["files"].items():
        assert file["sha256"] == hashlib.sha256((written.folder / name).read_bytes()).hexdigest()
    for file in ("policy.onnx", "policy.stablehlo"):
        for kind, count in (("random", 1000), ("recorded", 800)):
            found = told["check"][file][kind]
            assert found["inputs"] == count and max(found["max_error"].values()) <= 1e-5
    onnx = session(written.folder)
    for side, values in (("inputs", onnx.get_inputs()), ("outputs", onnx.get_outputs())):
        assert [(port["name"], port["shape"]) for port in told[side]] == [(x.name, x.shape) for x in values]


def test_every_weight_that_is_changed_makes_the_check_fail(exported):
    import onnx
    from onnx import numpy_helper

    kind, policy, written = exported
    step = steps.make(policy, envs.Control())
    checks = [observations.draw(step, None)]
    content = (written.folder / "policy.onnx").read_bytes()
    check.compare("policy.onnx", step, export.onnx_call(step, content), checks)
    model = onnx.load_from_string(content)
    weights = [i for i, x in enumerate(model.graph.initializer) if x.name.startswith("params.")]
    assert len(weights) >= 4
    for i in {weights[0], weights[-1]} if kind != "mlp" else weights:
        changed = onnx.load_from_string(content)
        x = np.array(numpy_helper.to_array(changed.graph.initializer[i]))
        x.flat[0] += 0.01
        changed.graph.initializer[i].CopyFrom(numpy_helper.from_array(x, changed.graph.initializer[i].name))
        with pytest.raises(ConfigError, match="policy.onnx differs from the policy by .* nothing was written"):
            check.compare("policy.onnx", step, export.onnx_call(step, changed.SerializeToString()), checks)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_has_its_rules(activation):
    step = steps.make(untrained(**{"env.name": "target", "network.activation": activation}), envs.Control())
    found = check.compare(
        "policy.onnx", step, export.onnx_call(step, export.as_onnx(step)), [observations.draw(step, None)]
    )
    assert found["random"]["max_error"]["action"] <= 1e-5


def test_limits_of_the_environment_are_a_second_output():
    policy = untrained(**{"env.name": "target"})
    step = steps.make(policy, envs.Control(0.02, np.array([-3.0]), np.array([1.0])))
    obs, _ = observe(policy, 1, 64)
    action, own = export.onnx_call(step, export.as_onnx(step))(obs[0])
    np.testing.assert_allclose(own, 2 * action - 1, atol=1e-6)
    assert action.min() == -1.0 or action.max() == 1.0  # some were clipped
    step = steps.make(policy, envs.Control(clips=False))
    assert np.abs(export.onnx_call(step, export.as_onnx(step))(obs[0])[0]).max() > 1.0


# Networks of users.


class Odd(nn.Module):
    """Primitives that the built-in networks do without."""

    size: int

    @nn.compact
    def __call__(self, x):
        table = self.param("table", nn.initializers.normal(1.0), (6, 4))
        looked_up = jnp.take(table, jnp.clip(jnp.round(x[:, 0] * 2).astype(jnp.int32) + 3, 0, 5), axis=0)
        tokens = nn.Dense(12)(x).reshape(x.shape[0], 3, 4) + looked_up[:, None]
        attention = nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(tokens), mask=jnp.tril(jnp.ones((3, 3), bool)))
        y = jnp.concatenate(
            [attention.reshape(x.shape[0], -1), jnp.cumsum(x, 1), x[:, ::-1], jnp.pad(x, ((0, 0), (1, 2)))], 1
        )
        best = jnp.take_along_axis(y, jnp.argmax(y, 1)[:, None], 1)
        top, places = jax.lax.top_k(y, 2)
        y = jnp.concatenate(
            [y, best, top, places * 0.1, jnp.expm1(x), jnp.log1p(jnp.square(x)), jnp.sqrt(jnp.abs(x))], 1
        )
        y = y / jnp.linalg.norm(y, axis=1, keepdims=True) + jax.nn.softmax(y) + jnp.roll(y, 1, 1)
        _, steps = jax.lax.scan(
            lambda c, w: (0.5 * c + jnp.sin(w), jnp.tanh(c)), y, jnp.stack([y, y**2, y**3]), reverse=True
        )
        images = steps.reshape(3, x.shape[0], -1).transpose(1, 2, 0)
        pooled = nn.avg_pool(images, (2,), (2,), "VALID").reshape(x.shape[0], -1)
        y = jax.lax.cond(jnp.max(jnp.abs(x)) > -1, lambda y: y, lambda y: -y, pooled)
        return nn.Dense(self.size)(jnp.where((y > 0) & ~jnp.isnan(y), y, 0.1 * y) % 1.5)


def odd(policy, body):
    """The policy with a network of a user's own: body(features) -> means."""
    from jaxrl.functional import distributions, values

    module = body

    def apply(params, carry, obs, reset):
        mean = module.apply({"params": params}, obs[0])[None]
        return distributions.Normal(mean, jnp.zeros_like(mean)), values.Point(mean[..., 0]), carry

    def init(key):
        return module.init(key, jnp.zeros((1, *policy.spec.obs.shape)))["params"]

    network = Network(init=init, carry=lambda num: (), apply=apply, value=None)
    return network


def of_network(body):
    policy = untrained(**{"env.name": "target"})
    network = odd(policy, body)
    params = network.init(jax.random.key(1))

    def act(agent, carry, obs, reset):
        distribution, _, carry = network.apply(agent["params"], carry, obs[None], reset[None])
        return distribution.mean[0], carry

    algorithm = policy.algorithm._replace(policy=act)
    return policies.Policy(algorithm, {"params": params}, policy.spec, policy.config, 0)


def test_a_network_of_ones_own_with_other_primitives_is_exported():
    policy = of_network(Odd(1))
    step = steps.make(policy, envs.Control())
    call = export.onnx_call(step, export.as_onnx(step))
    check.compare("policy.onnx", step, call, [observations.draw(step, None)])
    obs, _ = observe(policy, 1, 9)
    for rows in (obs[0], obs[0][:1]):
        np.testing.assert_allclose(call(rows)[0], np.clip(policy(rows), -1, 1), atol=1e-5)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: jnp.sort(x, axis=1), "primitive 'sort' has no rule for ONNX"),
        (lambda x: jax.lax.while_loop(lambda y: jnp.any(y < 1), lambda y: y + 1, x), "lax.while_loop"),
        (lambda x: jax.lax.fori_loop(0, 500, lambda i, y: jnp.sin(y), x), "loops over 500 steps"),
        (lambda x: (x.astype(jnp.bfloat16) * 2).astype(jnp.float32), "computes 'mul' in bfloat16"),
        (lambda x: x[: 3 if x.shape[0] > 4 else 1].sum() + x, "cannot be traced for N rows"),
    ],
)
def test_what_cannot_be_said_in_onnx_is_refused_in_one_line(tmp_path, function, message):
    class Body(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(function(x))

    with pytest.raises(ConfigError, match=message) as caught:
        export.write(of_network(Body()), tmp_path / "odd")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


# Weights.


def plain(tensors, obs):
    """The policy `mlp`, by hand: normaliser, one hidden layer of elu, means."""
    x = np.clip((obs - tensors["normalizer.obs.mean"]) / tensors["normalizer.obs.std"], -10, 10)
    x = x @ tensors["policy_torso.Dense_0.weight"].T + tensors["policy_torso.Dense_0.bias"]
    x = np.maximum(x, np.exp(np.minimum(x, 0)) - 1)
    return np.clip(x @ tensors["policy_head.mean.weight"].T + tensors["policy_head.mean.bias"], -1, 1)


def test_an_mlp_is_built_anew_from_its_weights():
    from safetensors.numpy import load

    policy = untrained(**KINDS["mlp"])
    tensors = load(export.as_safetensors(steps.make(policy, envs.Control())))
    obs, _ = observe(policy, 1, 100)
    np.testing.assert_allclose(plain(tensors, obs[0]), np.clip(policy(obs[0]), -1, 1), atol=1e-5)
    assert len(tensors) == 6  # nothing of the critic


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["lstm", "cnn", "d2rl"])
def test_torch_says_the_same_with_the_weights(kind):
    import torch
    from safetensors.torch import load

    policy = untrained(**KINDS[kind])
    step = steps.make(policy, envs.Control())
    tensors = load(export.as_safetensors(step))

    def take(module, name):
        part = {key.removeprefix(f"{name}."): x for key, x in tensors.items() if key.startswith(f"{name}.")}
        module.load_state_dict(part)  # strict: no number is left over, none is missing
        return module

    def linear(name):
        return take(torch.nn.Linear(*reversed(tensors[f"{name}.weight"].shape)), name)

    obs, _ = observe(policy, 1, 6)
    x, elu = torch.from_numpy(obs[0]), torch.nn.functional.elu
    with torch.no_grad():
        if kind == "cnn":
            x = x.permute(0, 3, 1, 2) / 255
            for i, (kernel, stride) in enumerate(((3, 2), (2, 1))):
                x = take(torch.nn.Conv2d(x.shape[1], 4, kernel, stride), f"policy_encoder.obs.Conv_{i}")(x).relu()
            x = elu(linear("policy_torso.Dense_0")(x.permute(0, 2, 3, 1).flatten(1)))
        else:
            x = ((x - tensors["normalizer.obs.mean"]) / tensors["normalizer.obs.std"]).clip(-10, 10)
        if kind == "lstm":
            x = elu(linear("policy_torso.Dense_0")(x))
            x, _ = take(torch.nn.LSTMCell(8, 8), "policy_core.layer_0")(x)
        if kind == "d2rl":
            given = x
            for i in range(3):
                x = elu(linear(f"policy_torso.Dense_{i}")(torch.cat([x, given], 1) if i else x))
                x = take(torch.nn.LayerNorm(8, eps=1e-5), f"policy_torso.LayerNorm_{i}")(x)
            given = linear("policy_head.mean")(x).clip(-1, 1)
            expected = np.clip(policy(obs[0]), -1, 1)
        else:
            given = linear("policy_head.logits")(x)
            carry = [np.asarray(each) for each in step.carry(6)]
            begins = [np.ones(6, bool)] if carry else []
            expected = step.function(policy.agent, obs[0], *carry, *begins)[1]
    np.testing.assert_allclose(given.numpy(), expected, atol=1e-5)


# Folders.


def test_an_export_is_called_as_a_policy_of_a_run(tmp_path):
    policy = untrained(**KINDS["lstm"])
    again = jaxrl.load_policy(export.write(policy, tmp_path / "export").folder)
    assert isinstance(again, loaded.Exported) and again.is_recurrent and again.spec.action == policy.spec.action
    obs, _ = observe(policy, 4, 3)
    whole = np.stack([policy(each) for each in obs])

    def scanned(carry, each):
        action, carry = again.step(each, carry, jnp.zeros(3, bool))
        return carry, action

    np.testing.assert_array_equal(jax.lax.scan(scanned, again.carry(3), obs)[1], whole)
    np.testing.assert_array_equal(np.stack([again(each) for each in obs]), whole)
    with pytest.raises(ConfigError, match=r"remembers 3; call reset\(\)"):
        again(obs[0][0])
    again.reset()
    assert again(obs[0][0]).shape == ()
    for arguments in ({"deterministic": False}, {"deterministic": False, "key": jax.random.key(0)}):
        with pytest.raises(ConfigError, match="deterministic=False cannot be: an export holds the policy's mode alone"):
            again(obs[0][0], **arguments)
    with pytest.raises(ConfigError, match="obs is .*, and the policy was trained on"):
        again(np.zeros(3))


@pytest.mark.parametrize("name", ["policy.stablehlo", "contract.json"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, name):
    folder = export.write(untrained(**KINDS["mlp"]), tmp_path / "export").folder
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 3] ^= 4
    (folder / name).write_bytes(content[:-5])
    with pytest.raises(ConfigError, match=f"{name} cannot be read .*; export the policy again") as caught:
        jaxrl.load_policy(folder)
    assert "\n" not in str(caught.value)
    (folder / name).unlink()
    with pytest.raises(ConfigError):
        jaxrl.load_policy(folder)


def test_without_its_environment_random_observations_are_left(tmp_path):
    policy = untrained(**KINDS["mlp"])
    policy.config.env.name = "gone"
    told = export.write(policy, tmp_path / "export").contract
    assert "'gone' is not a probe" in told["check"]["not_recorded"]
    assert list(told["check"]["policy.onnx"]) == ["random"]
