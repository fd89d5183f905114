"""Acting: rollouts, episode statistics, and the epoch that joins acting and learning."""
