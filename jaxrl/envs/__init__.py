"""Environments: one file for each suite, found by its name; each exports make(name, num_envs, **options)."""
