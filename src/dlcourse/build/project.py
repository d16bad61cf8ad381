"""The checkout around the package: where it is, what its table of contents lists, its address."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class ProjectError(RuntimeError):
    """The checkout is not there, or a file of it does not say what is needed."""


def find_root(start: str | Path | None = None) -> Path:
    """The checkout that ``start`` (default: the current folder) lies in.

    Falls back to the checkout that the package is installed from, if it is an editable install.

    Raises ProjectError outside of both.
    """
    here = Path(start or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[3]):
        if (folder / "chapters").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise ProjectError(
        f"there is no checkout of the course at {here}: no folder at or above it has chapters/ and "
        "pyproject.toml. The installed package does not carry the chapters; "
        "clone the repository and run the command inside it"
    )


def _read_yaml(path: Path) -> Any:
    import yaml

    if not path.is_file():
        raise ProjectError(f"{path} is missing")
    return yaml.safe_load(path.read_text(encoding="utf8")) or {}


def pyproject(root: Path) -> dict[str, Any]:
    """The ``[project]`` table of the checkout's pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf8")).get("project", {})


def repository_url(root: Path) -> str:
    """The public address: ``repository.url`` in _config.yml. Raises ProjectError without one."""
    url = (_read_yaml(root / "_config.yml").get("repository") or {}).get("url")
    if not isinstance(url, str) or not url.strip():
        raise ProjectError(f"set repository.url in {root / '_config.yml'}")
    return url.strip().rstrip("/")


def extra_of(root: Path, source: Path) -> str | None:
    """The package extra of a chapter: ``119_large_scale_training`` → ``large-scale-training``.

    None when pyproject.toml has no extra of that name.
    """
    folder = source.resolve().relative_to(root / "chapters").parts[0]
    name = folder.partition("_")[2].replace("_", "-")
    return name if name in pyproject(root).get("optional-dependencies", {}) else None


def _files(entry: Any) -> Iterator[str]:
    if isinstance(entry, dict):
        for key, value in entry.items():
            if key in ("file", "root"):
                yield str(value)
            else:
                yield from _files(value)
    elif isinstance(entry, list):
        for item in entry:
            yield from _files(item)


def listed_sources(root: Path) -> list[Path]:
    """The ``.py`` sources under ``chapters/`` that ``_toc.yml`` lists, in its order."""
    files = (root / name for name in _files(_read_yaml(root / "_toc.yml")))
    sources = (file.with_name(file.name.removesuffix(".ipynb") + ".py") for file in files)
    chapters = root / "chapters"
    return [source for source in sources if source.is_file() and chapters in source.parents]


def is_hidden(path: Path) -> bool:
    """Whether a path leads through a hidden folder, such as Jupyter's checkpoints."""
    return any(part.startswith(".") for part in path.parts)


def section_of(root: Path, source: Path) -> str:
    """The section of a source: ``chapters/119_large_scale_training/1a_distributed.py`` → 119.1a."""
    relative = source.resolve().relative_to((root / "chapters").resolve())
    return f"{relative.parts[0].partition('_')[0]}.{relative.stem.partition('_')[0]}"


def records_path(root: Path, source: Path) -> Path:
    """Where the records of a source's cells lie: in the chapter's package, by the source's stem."""
    relative = source.resolve().relative_to((root / "chapters").resolve())
    package = relative.parts[0].partition("_")[2]
    return root / "src" / "dlcourse" / package / "records" / f"{relative.stem}.json"
