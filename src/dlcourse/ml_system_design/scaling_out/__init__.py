"""Chapter 123.2c: past one server: replicas, autoscaling, and batches of language models."""
