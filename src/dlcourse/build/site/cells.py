"""What of an executed notebook its page shows: folds with names, predictions as forms.

The page is read by people without a kernel. Code that draws or checks is folded under a name;
what only a kernel can use (the call that shows a quiz, "not attempted yet", the cells of a
prediction) is left out.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from dlcourse.build.staleness import DEFINITIONS_TAG

#: Calls that only state or check a sentence, and calls that show something to move.
SENTENCES, WIDGETS = {"claim", "say"}, {"explore"}
#: Tags that name a fold.
NAMES = {"plot": "Plot", "check": "Check"}
SHOW, DEFINITIONS = "Show code", "Imports and definitions"
_FENCE_END = re.compile(r"\n::::\s*$")


def prepare(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook as its page shows it; changes ``notebook`` itself and returns it."""
    predictions = {_key(cell) for cell in notebook["cells"] if _role(cell) == "run"}
    shown = []
    for cell in notebook["cells"]:
        role = _role(cell)
        if _key(cell) in predictions and role in ("stub", "check", "run"):
            continue
        if _key(cell) in predictions and role == "statement":
            form = f"\n\n:::{{prediction}} {_key(cell)}\n:::\n::::"
            cell["source"] = _FENCE_END.sub(lambda match: form, _source(cell))
        elif role == "quiz":
            _tag(cell, "remove-input")
        elif role == "check":
            cell["outputs"] = [o for o in cell["outputs"] if not _is_not_attempted(o)]
        elif cell["cell_type"] == "code" and (name := fold_name(cell)):
            _tag(cell, "hide-input")
            mystnb = cell["metadata"].setdefault("mystnb", {})
            mystnb.setdefault("code_prompt_show", name)
            mystnb.setdefault("code_prompt_hide", name)
        shown.append(cell)
    notebook["cells"] = shown
    return notebook


def fold_name(cell: dict[str, Any]) -> str | None:
    """The name of the fold that hides a code cell's source; None where the source stays open.

    A tag ``plot`` or ``check`` names it. Without one, cells that make a figure or a widget fold as
    "Plot", cells of nothing but sentences as "Check"; what is tagged ``hide-input`` folds too.
    """
    tags = cell["metadata"].get("tags", [])
    for tag, name in NAMES.items():
        if tag in tags:
            return name
    if "remove-input" in tags or "remove-cell" in tags:
        return None
    statements = _statements(_source(cell))
    if "figure" in cell["metadata"].get("mystnb", {}) or _calls(statements, WIDGETS):
        return NAMES["plot"]
    sentences = [_is_call(statement, SENTENCES) for statement in statements]
    if sentences and all(sentences):
        return NAMES["check"]
    if "hide-input" not in tags:
        return None
    if sentences and sentences[-1]:
        return NAMES["check"]
    return DEFINITIONS if DEFINITIONS_TAG in tags else SHOW


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:  # IPython's own syntax, such as %%time
        return []


def _is_call(node: ast.AST, names: set[str]) -> bool:
    """Whether a node is a call, or the statement of one, of a function of these names."""
    call = node.value if isinstance(node, ast.Expr) else node
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names


def _calls(statements: list[ast.stmt], names: set[str]) -> bool:
    return any(_is_call(node, names) for s in statements for node in ast.walk(s))


def _is_not_attempted(output: dict[str, Any]) -> bool:
    return output["output_type"] == "stream" and "".join(output["text"]).startswith("○")


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _key(cell: dict[str, Any]) -> str | None:
    return cell["metadata"].get("dlcourse", {}).get("key")


def _role(cell: dict[str, Any]) -> str | None:
    return cell["metadata"].get("dlcourse", {}).get("role")


def _tag(cell: dict[str, Any], tag: str) -> None:
    tags = cell["metadata"].setdefault("tags", [])
    if tag not in tags:
        tags.append(tag)
