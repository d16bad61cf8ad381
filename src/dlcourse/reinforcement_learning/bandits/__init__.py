"""Contextual bandits: choose an arm for a context, see that arm's reward only, and learn.

Chapter 122.2b. One system a file: ``linucb``, ``hybrid``, ``thompson``, ``sliding_window`` and
``discounted`` for rewards that change, and ``off_policy`` for judging a policy by the logs of
another.
"""
