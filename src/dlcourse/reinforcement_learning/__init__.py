"""Chapter 122: reinforcement learning, applied."""

from dlcourse.chapters import attach

CHAPTER = 122

__getattr__, __dir__, __all__ = attach(__name__, __file__)
