"""122.1b: from a simulator to the real system."""
