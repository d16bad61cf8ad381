"""Chapter 121: multimodal fusion."""

from dlcourse.chapters import attach

CHAPTER = 121

__getattr__, __dir__, __all__ = attach(__name__, __file__)
