"""A yaml of rl_games, by which its converter is tested."""

import textwrap

from jaxrl.host import rl_games

# As configs/brax/ppo_ant.yaml of rl_games is built, with other numbers.
PENDULUM = """
    params:
      seed: 7
      algo:
        name: a2c_continuous
      model:
        name: continuous_a2c_logstd
      network:
        name: actor_critic
        separate: False
        space:
          continuous:
            mu_activation: None
            sigma_activation: None
            mu_init:
              name: default
            sigma_init:
              name: const_initializer
              val: 0
            fixed_sigma: True
        mlp:
          units: [32, 16]
          activation: elu
          initializer:
            name: default
          regularizer:
            name: None
      config:
        name: Pendulum
        env_name: brax
        normalize_input: True
        normalize_value: True
        normalize_advantage: True
        reward_shaper:
          scale_value: 0.1
        gamma: 0.98
        tau: 0.9
        learning_rate: 5e-4
        lr_schedule: adaptive
        kl_threshold: 0.008
        max_epochs: 100
        save_frequency: 10
        grad_norm: 0.5
        entropy_coef: 0.01
        truncate_grads: True
        e_clip: 0.3
        horizon_length: 8
        num_actors: 16
        minibatch_size: 64
        mini_epochs: 5
        critic_coef: 2
        clip_value: True
        bounds_loss_coef: 0.0001
        env_config:
          env_name: inverted_pendulum
"""


def replaced(*pairs):
    """PENDULUM with other lines."""
    text = PENDULUM
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def converted(folder, text, name="pendulum.yaml"):
    """What becomes of a yaml of that text, which is written into the folder."""
    file = folder / name
    file.write_text(textwrap.dedent(text))
    return rl_games.convert(file)
