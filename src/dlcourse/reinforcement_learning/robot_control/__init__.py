"""122.1a Robot control: SAC and TD3, one part a file."""
