"""A model behind a queue: batches, cache, limits and an orderly end, and the file it comes from.

Chapter 123.2a. One system a file: ``service`` (with its ``worker``, ``cache``, ``keys``, ``stats``
and ``errors``), ``model_files`` for weights on disk, and ``queueing`` for how long requests wait.
"""
