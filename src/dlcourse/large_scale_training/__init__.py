"""Chapter 119: training at scale."""

from dlcourse.chapters import attach

CHAPTER = 119

__getattr__, __dir__, __all__ = attach(__name__, __file__)
