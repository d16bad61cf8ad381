"""A model behind a queue: batches, cache, limits and an orderly end, and the file it comes from.

Chapter 123.2a. One system a file: ``service`` (with its ``worker``, ``cache``, ``keys``, ``stats``
and ``errors``), ``process`` for a model that can be stopped, ``model_files`` for weights on disk,
and ``queueing`` for how long requests wait. ``app`` puts a service behind HTTP, and ``http_input``
checks what comes in.
"""
