"""What holds for every file: sizes, names, and nothing that belongs to one machine."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "tests", "config", "deploy", "docs", "examples", "tools", "bench", ".ci")
BINARY = {".xz", ".gz", ".zst", ".png", ".ico", ".jks", ".p12"}
LONGEST = 500  # lines; a file beyond has more than one job

# No word for a drawer of odds and ends: a file is named after its one job.
NO_JOB = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}

# Hosts that may stand in files: documentation that everybody can open, reserved names, services of one's own machine.
PUBLIC_HOSTS = re.compile(
    r"(localhost|127\.0\.0\.1|0\.0\.0\.0|\[?::1\]?|[a-z-]+"  # a single word is a service of the compose file
    r"|([a-z0-9-]+\.)*example(\.(com|org|net))?|([a-z0-9-]+\.)*(test|invalid)"
    r"|([a-z0-9-]+\.)*(python|apache|json-schema|w3|keepachangelog|semver|yaml|opencontainers|rfc-editor|sqlite)\.(org|com)"
    r"|(www\.)?github\.com|maven\.apache\.org|prometheus\.io|kubernetes\.io|docs\.astral\.sh)"
)
URL = re.compile(r"\b(?:https?|postgresql|kafka)://(?:[^/\s\"'`@]+@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)")
PRIVATE_PATH = re.compile(r"(?<![\w.}/-])/(?:root|work|home/\w+|Users/\w+)/")


def files() -> list[Path]:
    """Every text file that belongs to the project."""
    roots = [REPOSITORY / folder for folder in FOLDERS if (REPOSITORY / folder).exists()]
    found = [path for root in roots for path in root.rglob("*") if path.is_file()]
    found += [path for path in REPOSITORY.iterdir() if path.is_file() and path.name not in (".env", ".git")]
    return sorted(path for path in found if path.suffix not in BINARY and "__pycache__" not in path.parts)


def python_files() -> list[Path]:
    return [path for path in files() if path.suffix == ".py"]


def shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def test_no_file_is_longer_than_its_one_job_needs():
    sizes = {shown(path): len(path.read_text().splitlines()) for path in python_files()}
    assert {name: size for name, size in sizes.items() if size > LONGEST} == {}


def test_no_module_is_a_drawer_of_odds_and_ends():
    assert [shown(path) for path in python_files() if path.stem in NO_JOB or path.parent.name in NO_JOB] == []


def test_every_module_says_what_it_is_for():
    silent = [path for path in python_files() if path.read_text().strip() and '"""' not in path.read_text()[:400]]
    assert [shown(path) for path in silent] == []


def test_test_modules_have_names_of_their_own():
    names: dict[str, list[str]] = {}
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        names.setdefault(path.name, []).append(shown(path))
    assert {name: paths for name, paths in names.items() if len(paths) > 1} == {}


def test_no_path_of_one_machine():
    found = []
    for path in files():
        found += [
            f"{shown(path)}: {match.group(0)}" for match in PRIVATE_PATH.finditer(path.read_text(errors="replace"))
        ]
    assert found == []


def test_no_host_that_not_everybody_can_reach():
    found = []
    for path in files():
        matches = URL.finditer(path.read_text(errors="replace"))
        found += [f"{shown(path)}: {m.group(0)}" for m in matches if not PUBLIC_HOSTS.fullmatch(m.group(1).lower())]
    assert found == []


def test_tests_do_not_skip_or_sleep():
    """A missing service fails; waiting is for a condition with a deadline."""
    forbidden = re.compile(
        r"pytest\.(skip|importorskip|xfail)\b|mark\.(skip|skipif|xfail)\b|\b(asyncio|time)\.sleep\([1-9](?!\d{2})"
    )
    found = []
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        if path != Path(__file__).resolve():
            found += [f"{shown(path)}: {match.group(0)}" for match in forbidden.finditer(path.read_text())]
    assert found == []
