"""Watching a model that serves: its inputs, predictions, latency and errors, and who is told.

Chapter 123.3. One system a file: ``drift`` compares a window with a reference, feature by feature,
``two_sample`` all features at once; ``quantile_sketch`` and ``prediction_log`` hold what was
served in bounded memory; ``adwin`` watches one stream; ``alerts`` decides when someone is told.
"""
