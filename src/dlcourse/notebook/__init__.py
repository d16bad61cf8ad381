"""What a cell of a chapter may call. Each name is loaded when it is first used.

``say`` and ``claim`` put numbers and checked sentences into prose, ``show_source`` an
implementation as it is in the package; ``explore`` is a figure that moves, in a kernel and on the
static page; ``keep`` and ``recorded`` hand values from recorded cells to later ones. The plot style
is ``plt.style.use("dlcourse.notebook.course")``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
