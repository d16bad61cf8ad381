"""What the learner's notebook puts around a cell that needs a GPU, so that others can run past it.

The site's engine skips such a cell and shows its record. Plain Jupyter knows no tags: there the
cell would fail, and "Run All" would stop. So in the learner's notebook its source stands in the
``else`` of a test for a GPU. ``unguarded`` gives the source back as it was, and so the digest of
a record holds for both forms.
"""

from __future__ import annotations

import ast
import textwrap

_GUARD = """\
import torch

if not torch.cuda.is_available():
    print("Skipped: this cell needs a GPU. The page of this section shows what it prints on one.")
    print("On Colab: Runtime > Change runtime type, choose a GPU, and run all cells again.")
else:
"""


class GuardError(ValueError):
    """A gpu cell that does not mean the same when it stands in an ``else``."""


def guarded(source: str) -> str:
    """The source of a gpu cell, to be run where there is a GPU and passed over elsewhere.

    Raises:
        GuardError: the cell is empty or not plain Python, has a string over several lines or a
            line of blanks, which indentation would change, or ends with a bare value, which would
            no longer be shown.
    """
    whole = _GUARD + textwrap.indent(source, "    ")
    try:
        before = ast.parse(source).body
        after = ast.parse(whole).body[-1].orelse
    except SyntaxError as error:
        raise GuardError(f"it is not plain Python ({error.msg}); magics can't be used") from None
    if [ast.dump(node) for node in before] != [ast.dump(node) for node in after]:
        raise GuardError("it has a string over several lines; make it of strings of one line")
    if unguarded(whole) != source:
        raise GuardError("it has a line of nothing but blanks; remove them")
    if isinstance(before[-1], ast.Expr) and not isinstance(before[-1].value, ast.Call):
        raise GuardError("it ends with a bare value; print or display it")
    return whole


def unguarded(source: str) -> str:
    """The source that was given to ``guarded``; any other source as it is."""
    return textwrap.dedent(source.removeprefix(_GUARD)) if source.startswith(_GUARD) else source
