"""The files that describe the environment and the repository agree with each other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import dlcourse
from dlcourse.build.sources import read_source
from dlcourse.notebook.records import kind_of

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = sorted(PROJECT["optional-dependencies"])
# Extras of recorded cells, which are too heavy for CI: nothing installs them here, so no pins.
ABROAD = {"ray-serve": "ml-system-design"}
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
# Tools that come with the virtual environment, which `pip freeze` does not list.
BOOTSTRAP = {"pip", "setuptools", "wheel"}


def pins() -> dict[str, Version]:
    """Name → version of constraints.txt; every line must be an exact pin."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"not a pin: {line}"
        found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


def requirements(extra: str | None) -> list[Requirement]:
    """What pyproject.toml asks for: the core, or one extra."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


@cache
def installed_requirements(name: str) -> tuple[Requirement, ...]:
    """What an installed distribution says it needs; nothing where it is not installed."""
    try:
        return tuple(Requirement(line) for line in metadata.requires(name) or [])
    except metadata.PackageNotFoundError:
        return ()


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a requirement's marker holds here, with any of these extras or none."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""})


def needed(extra: str | None) -> list[Requirement]:
    """All requirements, direct and indirect, of the core or an extra."""
    seen, out, queue = set(), [], requirements(extra)
    while queue:
        requirement = queue.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        out.append(requirement)
        if key in seen:
            continue
        seen.add(key)
        children = (
            [child for name in requirement.extras for child in requirements(name)]
            if key[0] == "dlcourse"
            else installed_requirements(key[0])
        )
        queue += [child for child in children if applies(child, set(requirement.extras))]
    return [item for item in out if canonicalize_name(item.name) != "dlcourse"]


@pytest.mark.parametrize("extra", [None, *(e for e in EXTRAS if e not in ABROAD)])
def test_every_dependency_has_a_pin_within_its_range(extra):
    versions = pins()
    for requirement in needed(extra):
        name = canonicalize_name(requirement.name)
        if name in BOOTSTRAP or name.startswith(("nvidia-", "cuda-")) or name == "triton":
            continue  # those of torch's CUDA builds, which the CPU build does not have
        assert name in versions, f"{name} has no pin: run `make constraints`"
        assert requirement.specifier.contains(versions[name], prereleases=True), (
            f"constraints.txt has {name} {versions[name]}, but {requirement} is asked for"
        )


def test_pins_name_no_particular_build():
    assert not [name for name, version in pins().items() if version.local]


def test_the_package_itself_is_not_pinned():
    ranges = [str(item) for extra in [None, *EXTRAS] for item in requirements(extra)]
    assert not [line for line in ranges if "==" in line]


def conda() -> tuple[list[str], list[str]]:
    """environment.yml's conda requirements and its lines for pip."""
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    return [entry for entry in entries if isinstance(entry, str)], pip


def test_conda_environment_has_a_python_that_the_package_accepts():
    (python,) = [line for line in conda()[0] if line.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.partition("=")[2])


def test_conda_environment_takes_its_versions_from_the_constraints():
    packages, pip = conda()
    assert pip[0] == "-c constraints.txt"
    (own,) = [line for line in pip if line.startswith("-e ")]
    extras = re.fullmatch(r"-e \.\[([\w,-]+)\]", own).group(1).split(",")
    assert {"book", "lab"} <= set(extras) <= set(EXTRAS)
    assert len(pip) == 2 and {line.partition("=")[0] for line in packages} == {"python", "pip"}


def imported_by(file: Path) -> set[str]:
    """The top-level names of what a file imports, wherever it does.

    Of a notebook's source, recorded cells do not count: they run on machines of their own, where
    our implementations are compared with those of other libraries.
    """
    text = file.read_text(encoding="utf-8")
    if ROOT / "chapters" in file.parents:
        cells = [cell for cell in read_source(file).cells if cell.cell_type == "code"]
        text = "\n".join(cell.source for cell in cells if kind_of(cell) is None)
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
    return found


CHAPTERS = sorted((ROOT / "chapters").glob("[0-9]*_*"))


@pytest.mark.parametrize("folder", CHAPTERS, ids=lambda p: p.name)
def test_what_a_chapter_imports_is_of_the_core_or_of_its_extra(folder):
    """An extra is wanted only where a chapter needs a library that the core does not bring."""
    name = folder.name.partition("_")[2]
    extra = name.replace("_", "-")
    brought = {canonicalize_name(r.name) for r in needed(None)}
    brought |= {canonicalize_name(r.name) for r in needed(extra)} if extra in EXTRAS else set()
    for other, chapter in ABROAD.items():
        brought |= {canonicalize_name(r.name) for r in requirements(other) if chapter == extra}
    owners = metadata.packages_distributions()
    files = [*(ROOT / "src/dlcourse" / name).rglob("*.py"), *folder.glob("*.py")]
    for file in files:
        for module in imported_by(file) - set(sys.stdlib_module_names) - {"dlcourse", "IPython"}:
            distributions = {canonicalize_name(owner) for owner in owners.get(module, [module])}
            if module == "triton" and file.name.endswith("_triton.py"):
                continue  # torch brings it where there is a GPU; imported at the first use only
            peer = file.stem.endswith(("peer", "peers"))
            assert distributions & brought or peer, f"{file}: {module}"


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] == dlcourse.__version__
    assert citation["license"] == PROJECT["license"]


def toc_files() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [entry["file"] for part in toc["parts"] for entry in part["chapters"]]


def chapters() -> list[str]:
    return [file for file in toc_files() if file.startswith("chapters/")]


@pytest.mark.parametrize("page", toc_files())
def test_every_page_of_the_contents_has_a_source(page):
    assert [ext for ext in (".md", ".py") if (ROOT / (page + ext)).is_file()]


@pytest.mark.parametrize("page", chapters())
def test_one_stem_three_places(page):
    chapter, stem = (part.partition("_")[2] for part in page.split("/")[1:])
    if stem == "overview":
        pytest.skip("an opening page has no implementation of its own")
    module = f"src/dlcourse/{chapter}/{stem}"
    package = module if (ROOT / module).is_dir() else f"{module}.py"
    test = f"tests/{chapter}/test_{stem}.py"
    places = (f"{page}.py", f"{page}.ipynb", package, test)
    assert not [path for path in places if not (ROOT / path).exists()]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"({page}.ipynb)" in readme and f"({package})" in readme and f"({test})" in readme


def test_the_extra_of_all_chapters_names_the_extra_of_each():
    chapters = {path.name.partition("_")[2] for path in (ROOT / "chapters").glob("[0-9]*_*")}
    (line,) = PROJECT["optional-dependencies"]["chapters"]
    named = re.fullmatch(r"dlcourse\[([\w,-]+)\]", line).group(1).split(",")
    assert set(named) == {name.replace("_", "-") for name in chapters} & set(EXTRAS)


def test_the_readme_names_files_that_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", readme)
    assert len(links) > 5
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_readme_and_guide_name_make_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", "book/how_to_use.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
        assert named and named <= targets, page


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_name_the_branch_and_targets_that_exist(path):
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    triggers = workflow[True]  # YAML reads the key `on` as true
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    for trigger in triggers.values() if isinstance(triggers, dict) else []:
        if isinstance(trigger, dict) and "branches" in trigger:
            assert trigger["branches"] == [config["repository"]["branch"]] == ["main"]
    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    actions = re.findall(r"uses: (\S+)", text)
    assert actions and all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action) for action in actions)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"- run: make ([a-z]+)", text):
        assert f"\n{target}:" in makefile


def committed_texts() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    binary = {".png", ".webp", ".gz", ".npz"}
    return [ROOT / name for name in names if name and Path(name).suffix not in binary]


def test_committed_files_name_no_machine_of_their_makers():
    # A package index or a build machine's folder in a committed file works for its author alone.
    forbidden = re.compile(
        r"files\.pythonhosted" + r"\.org|pypi\.org" + r"/simple|registry\.npmjs" + r"\.org"
        r"|download\.pytorch" + r"\.org|(?<![\w/.~])/(?:work|home|root|tmp)" + r"/\w"
    )
    files = [path for path in committed_texts() if path.is_file()]
    if not files:
        pytest.skip("not a git checkout")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in files
        if (match := forbidden.search(path.read_text(encoding="utf-8", errors="replace")))
    ]
    assert not found
