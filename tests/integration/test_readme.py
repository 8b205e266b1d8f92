"""What the README shows is what a new user gets: its files, its commands, its output."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from services.command import Ended, service_file, streamd
from services.process import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
LINK = re.compile(r"\]\((?!http)([^)#]+)")


def block(language: str, needle: str) -> str:
    [found] = [text for name, text in BLOCKS if name == language and needle in text]
    return found


def printed_after(command: str) -> str:
    """What the README shows below a command."""
    text = "\n".join(text for name, text in BLOCKS if name == "console")
    start = text.index(f"$ {command}\n") + len(command) + 3
    return text[start:].split("\n$ ")[0].strip("\n")


def without_times(summary: str) -> str:
    return re.sub(r" in .*", "", summary.strip().splitlines()[-1])


def run_big_orders(folder: Path) -> Ended:
    service = service_file(folder, "readme")
    ended = streamd("run", "big-orders.yaml", "--config", service, "--until-idle", folder=folder)
    assert ended.code == 0, ended.all
    return ended


def python(program: str | Path, folder: Path) -> tuple[str, str]:
    """What a Python program prints, and what it says on standard error."""
    done = subprocess.run(
        [sys.executable, program], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_first_pipeline_of_ones_own(tmp_path):
    (tmp_path / "orders.ndjson").write_text(block("json", '"free"'))
    (tmp_path / "big-orders.yaml").write_text(block("yaml", "path: orders.ndjson"))
    assert without_times(run_big_orders(tmp_path).err) == without_times(
        printed_after("streamd run big-orders.yaml --until-idle")
    )
    assert (tmp_path / "big-orders.ndjson").read_text().strip() == printed_after("cat big-orders.ndjson")
    [failed] = (tmp_path / "failed.ndjson").read_text().splitlines()
    wanted = json.loads(printed_after("cat failed.ndjson"))
    assert {**json.loads(failed)["error"], "time": 0} == {**wanted["error"], "time": 0}

    with (tmp_path / "orders.ndjson").open("a") as file:
        file.write('{"id": 6, "user": "eve", "type": "purchase", "amount": 70}\n')
    assert run_big_orders(tmp_path).err.strip().splitlines()[-1].startswith("1 record")
    assert (tmp_path / "big-orders.ndjson").read_text().splitlines()[-1] == printed_after("tail -n 1 big-orders.ndjson")


def test_mistakes_look_as_shown(tmp_path):
    text = block("yaml", "path: orders.ndjson").replace("filter:", "fitler:").replace("amount * 1.1", "amount * ")
    (tmp_path / "oops.yaml").write_text(text)
    ended = streamd("validate", "oops.yaml", folder=tmp_path)
    assert ended.code == 2
    assert (ended.out + ended.err).strip() == printed_after("streamd validate oops.yaml")


def test_make_run_prints_what_is_shown(tmp_path):
    quickstart = REPOSITORY / "config" / "pipelines" / "quickstart.yaml"
    ended = streamd(
        "run", quickstart, "--config", service_file(tmp_path, "quickstart"), "--until-idle", folder=tmp_path
    )
    shown = [line for line in printed_after("make run").splitlines() if line != "…"]
    lines = ended.out.splitlines()
    assert [line for line in shown[:-1] if line not in lines] == []
    assert without_times(ended.err) == without_times(shown[-1])


def test_the_pipeline_on_top_is_valid(tmp_path):
    (tmp_path / "big-orders.yaml").write_text(block("yaml", "orders-dlq"))
    service = service_file(tmp_path, "readme", kafka="{bootstrap: 'kafka:9092'}")
    ended = streamd("validate", "big-orders.yaml", "--config", service, folder=tmp_path)
    assert ended.code == 0, ended.all


def test_python_prints_what_is_shown(tmp_path):
    (tmp_path / "orders.py").write_text(block("python", "class Orders"))
    assert python("orders.py", tmp_path) == (block("text", "1 wrong"), "")


def test_the_python_example_runs(tmp_path):
    shown, errors = python(REPOSITORY / "examples" / "big_orders.py", tmp_path)
    assert errors == ""
    assert shown.splitlines()[-1] == "4 read, 1 filtered, 1 refused"
    assert "refused: {'id': 3, 'user': 'bob', 'amount': 'free'} by filter" in shown


def test_links_lead_somewhere():
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")]
    missing = []
    for page in pages:
        targets = [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]
        missing += [f"{page.relative_to(REPOSITORY)}: {target}" for target in targets]
    assert missing == []
