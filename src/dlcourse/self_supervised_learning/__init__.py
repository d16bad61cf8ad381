"""Chapter 120: self-supervised learning."""

from dlcourse.chapters import attach

CHAPTER = 120

__getattr__, __dir__, __all__ = attach(__name__, __file__)
