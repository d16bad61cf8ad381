"""Chapter 124: applications in industry."""

from dlcourse.chapters import attach

CHAPTER = 124

__getattr__, __dir__, __all__ = attach(__name__, __file__)
