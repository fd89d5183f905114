"""Algorithms: one file each, found by its name; each exports default_config() and make(config, spec)."""
