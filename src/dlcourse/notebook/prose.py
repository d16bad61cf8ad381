"""Sentences that show computed values, and sentences that are checked."""

from __future__ import annotations

import sys


class ClaimError(AssertionError):
    """A sentence of the chapter is no longer true. Carries the sentence and its values."""


def show(bundle: dict[str, str], metadata: dict[str, dict] | None = None) -> None:
    """Display a MIME bundle; outside of IPython, print its ``text/plain``."""
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(bundle["text/plain"])
    else:
        ipython.display.display(bundle, metadata=metadata or {}, raw=True)


def _sentence(template: str, values: dict[str, object]) -> str:
    try:
        return template.format(**values)
    except (KeyError, IndexError) as error:
        raise ValueError(
            f"the sentence {template!r} asks for {error.args[0]!r}, which was not given; "
            "pass it by name, or double the braces ({{ }}) if they belong to a formula"
        ) from None


def _as_bool(holds: object) -> bool:
    """The truth value of a bool, numpy.bool_, or a zero-dimensional boolean array or tensor."""
    if isinstance(holds, bool):
        return holds
    shape, dtype = getattr(holds, "shape", None), str(getattr(holds, "dtype", ""))
    if dtype in ("bool", "torch.bool"):
        if len(shape) == 0:
            return bool(holds)
        raise TypeError(
            f"claim needs one truth value and got {tuple(shape)} of them; "
            "say which you mean: (...).all() or (...).any()"
        )
    raise TypeError(
        f"claim needs a bool that says whether the sentence holds, not {type(holds).__name__}; "
        "write the comparison out, as in loss_a < loss_b"
    )


def say(template: str, **values: object) -> None:
    """Display a Markdown sentence that shows computed values: ``template.format(**values)``.

    Raises ValueError when the template names a value that was not given.
    """
    text = _sentence(template, values)
    show({"text/markdown": text, "text/plain": text})


def claim(template: str, holds: bool, **values: object) -> None:
    """Display a sentence as a checked claim, or stop the build when it does not hold.

    Args:
        template: Markdown; ``template.format(**values)`` is the sentence.
        holds: the comparison which the sentence states, as one bool (Python, NumPy, or a
            zero-dimensional boolean tensor).
        values: the numbers of the sentence, and any others worth seeing when it fails.

    Raises:
        ClaimError: ``holds`` is false; the message has the sentence and all values.
        TypeError: ``holds`` is not one truth value.
        ValueError: the template names a value that was not given, or begins with a table, which
            Markdown would not see behind the words "Checked".
    """
    text = _sentence(template, values)
    if text.lstrip().startswith("|"):
        raise ValueError("a claim is a sentence and begins with a table: show that by say()")
    if not _as_bool(holds):
        listed = "".join(f"\n  {name} = {value!r}" for name, value in values.items())
        raise ClaimError(f"this sentence of the chapter no longer holds: {text}{listed}")
    show({"text/markdown": f"✓ **Checked:** {text}", "text/plain": f"✓ Checked: {text}"})
