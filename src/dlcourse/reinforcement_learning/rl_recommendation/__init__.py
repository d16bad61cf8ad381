"""122.2a: recommendation by reinforcement learning."""
