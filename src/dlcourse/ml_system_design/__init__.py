"""Chapter 123: machine-learning system design."""

from dlcourse.chapters import attach

CHAPTER = 123

__getattr__, __dir__, __all__ = attach(__name__, __file__)
