"""Links of a notebook's page, all derived from the repository's address and the commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from dlcourse.build.workspace import WORKSPACE


@dataclass(frozen=True)
class Repository:
    """Where the course is published, and the commit the site is built from."""

    url: str
    branch: str
    commit: str

    @property
    def slug(self) -> str:
        """``owner/name``, the last two parts of the address."""
        return "/".join(self.url.rstrip("/").rsplit("/", 2)[-2:])

    def file_url(self, path: str) -> str:
        """The address of a file as it was at the commit of the site."""
        return f"{self.url.rstrip('/')}/blob/{self.commit}/{path}"


def source_edit_url(repository: Repository, page: str) -> str:
    """Where to edit a page: its source, not the notebook generated from it."""
    return f"{repository.url.rstrip('/')}/edit/{repository.branch}/{page}.py"


def launch_group(repository: Repository, page: str) -> dict[str, Any]:
    """The launch menu of a notebook page, in the form sphinx-book-theme renders."""
    notebook = f"{page}.ipynb"
    copy = (WORKSPACE / notebook.removeprefix("chapters/")).as_posix()
    colab = f"https://colab.research.google.com/github/{repository.slug}/blob/gh-pages/notebooks"
    binder = f"https://mybinder.org/v2/gh/{repository.slug}/{repository.commit}"
    return {
        "type": "group",
        "label": "launch-buttons",
        "tooltip": "Launch this notebook",
        "icon": "fas fa-rocket",
        "buttons": [
            _link("Colab", "logo_colab.png", f"{colab}/{quote(notebook)}", "Open in Google Colab"),
            _link(
                "Binder",
                "logo_binder.svg",
                f"{binder}?labpath={quote(notebook, safe='')}",
                "Open in JupyterLab on Binder (the first start takes minutes)",
            ),
            _link(
                "JupyterLab",
                "logo_jupyterhub.svg",
                f"http://localhost:8888/lab/tree/{quote(copy)}",
                "Open your copy in your own JupyterLab: start it first with `make lab`",
            ),
        ],
    }


def _link(text: str, icon: str, url: str, tooltip: str) -> dict[str, str]:
    icon = f"_static/images/{icon}"
    return {"type": "link", "text": text, "icon": icon, "url": url, "tooltip": tooltip}
