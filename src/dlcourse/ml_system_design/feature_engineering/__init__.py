"""Features: learned from training rows only, computed alike in training and in serving.

Chapter 123.1. One system a file: ``standardizer`` and ``one_hot`` show by hand why fit and
transform are apart, ``pipeline`` is the whole table's, ``lags`` and ``point_in_time`` look at the
past only, and ``skew`` compares the features of two paths.
"""
