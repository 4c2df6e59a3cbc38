"""The repository itself: scripts, metadata and documents say what is true."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import gapfactory

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = (
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy").rglob("*.sh")),
    ".ci/run",
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def tracked_files() -> list[Path]:
    """Return the files under version control, or all files where there is no git."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def requirement_names(*extras: str) -> set[str]:
    """Return the names of the packages that pyproject.toml asks for in the core and in these extras."""
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {re.split(r"[<>=!~\[; ]", requirement)[0].lower() for group in groups for requirement in group}


def imported_distributions() -> dict[str, set[str]]:
    """Return import name -> distributions that provide it, for all that the two packages import from outside."""
    names: set[str] = set()
    for package in ("gapfactory", "launchpad"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(read_text(path))):
                if isinstance(node, ast.Import):
                    names.update(alias.name.split(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                    names.add(node.module.split(".")[0])
    outside = names - set(sys.stdlib_module_names) - {"gapfactory", "launchpad"}
    provided = packages_distributions()
    return {name: {d.lower() for d in provided.get(name, [])} for name in outside}


def test_the_two_commands_of_the_readme_exist() -> None:
    commands = re.findall(r"^(deploy/\S+\.sh)\b", read_text(ROOT / "README.md"), flags=re.MULTILINE)
    assert commands[:2] == ["deploy/quickstart.sh", "deploy/test.sh"]
    assert all(os.access(ROOT / command, os.X_OK) for command in commands)


def test_ci_is_the_test_command() -> None:
    assert "deploy/test.sh" in read_text(ROOT / ".ci/run")


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse(script: str) -> None:
    result = subprocess.run(["bash", "-n", script], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    if script != "deploy/lib.sh":  # sourced by the others
        assert "\nset -euo pipefail\n" in read_text(ROOT / script)


def test_scripts_pass_shellcheck() -> None:
    shellcheck = shutil.which(
        "shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    result = subprocess.run([shellcheck, "-x", *SCRIPTS], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_quickstart_file_names_a_preset() -> None:
    assert "preset" in YAML(typ="safe").load(ROOT / "deploy/quickstart.yaml")


def test_citation() -> None:
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"]
    assert len(citation["references"]) == 5
    for reference in citation["references"]:
        assert reference["title"]
        assert reference["authors"]
        assert "doi" in reference or "url" in reference


def test_one_version() -> None:
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert PROJECT["version"] == gapfactory.__version__ == citation["version"]


def test_changelog() -> None:
    assert re.search(r"^## \[Unreleased\]$", read_text(ROOT / "CHANGELOG.md"), flags=re.MULTILINE)


def test_precommit_fetches_nothing() -> None:
    config = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    assert {hook["language"] for repo in config["repos"] for hook in repo["hooks"]} == {"system"}


@pytest.mark.parametrize("document", ["docs/development.md", "docs/licences.md"])
def test_every_dependency_is_accounted_for(document: str) -> None:
    text = read_text(ROOT / document).lower()
    everything = requirement_names(*PROJECT["optional-dependencies"])
    missing = [name for name in sorted(everything) if f"`{name}`" not in text]
    assert not missing, f"{document} says nothing about {missing}"


def test_every_import_is_declared() -> None:
    declared = requirement_names("gpaw", "quip")
    undeclared = {name for name, providers in imported_distributions().items() if not providers & declared}
    assert not undeclared, f"imported, but not in the dependencies of pyproject.toml: {sorted(undeclared)}"


def test_every_dependency_is_used() -> None:
    used = {provider for providers in imported_distributions().values() for provider in providers}
    assert not requirement_names() - used, "a dependency of the core that nothing imports"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    # words in backticks may look like links (regular expressions do)
    prose = re.sub(r"`[^`\n]*`", "", read_text(document))
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    files = [t.split("#")[0] for t in targets if not re.match(r"[a-z]+:", t) and not t.startswith("#")]
    broken = [t for t in files if not (document.parent / t).exists()]
    assert not broken


def test_code_refers_to_pages_that_exist() -> None:
    pages = {
        page
        for package in ("gapfactory", "launchpad", "deploy")
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".sh", ".j2", ".yaml"}
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", read_text(path))
    }
    assert not [page for page in sorted(pages) if not (ROOT / page).is_file()]


def test_every_page_is_in_the_index() -> None:
    index = read_text(ROOT / "docs/index.md")
    pages = [p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page != "index.md" and f"({page})" not in index] == []


# a home directory and the like, unless the path starts elsewhere (`runs/work/x`, `{root}/work/x`)
ONE_MACHINE = re.compile(r"(?<![\w.}*$~-])/(?:home|root|Users|work|opt/\w*env)/\w")


@pytest.mark.parametrize("directory", ["home", "root", "Users", "work", "opt/someenv"])
def test_paths_of_one_machine_are_seen(directory: str) -> None:
    assert ONE_MACHINE.search(f'open("/{directory}/x")')


@pytest.mark.parametrize(
    "text", ["runs/work/x", "{root}/work/x", "https://host/work/x", "~/work/x", "/path/to/x"]
)
def test_other_paths_are_spared(text: str) -> None:
    assert not ONE_MACHINE.search(text)


def test_no_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked_files()
        for match in ONE_MACHINE.finditer(read_text(path))
        # tests make up mount tables and such; nobody's home is meant
        if not (path.is_relative_to(ROOT / "tests") and match.group().startswith("/home/"))
    ]
    assert not found
