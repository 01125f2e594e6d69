"""The chapter "Your own code" of experiments/README.md, from an empty folder to a table and on."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHAPTER = re.split(r"^## ", (ROOT / "experiments" / "README.md").read_text(), flags=re.MULTILINE)
(TEXT,) = (part for part in CHAPTER if part.startswith("Your own code\n"))
FILES = dict(re.findall(r"```(?:python)?\n# (\w+\.py)\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = re.findall(r"^python (.*)$", re.search(r"```sh\n(.*?)```", TEXT, re.DOTALL)[1], re.M)


def python(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "TFDS_DATA_DIR": str(folder / "data")}
    argv = [sys.executable, *line.split()]
    return subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_chapter_from_an_empty_folder(tmp_path):
    pytest.importorskip("flatbuffers")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for line in [*COMMANDS, "use.py"]:
        done = python(tmp_path, line)
        assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "(8, 10) (5, 10) (2, 10)\n"
    table = (tmp_path / "run" / "table.md").read_text()
    page = (tmp_path / "page.html").read_text()
    for said in (table, page):
        assert all(name in said for name in ("ours", "sureness (%)", "dim"))
    assert "share 0.2" in table

    again = python(tmp_path, f"{COMMANDS[0].replace('config.py', 'run/config.json')}")
    assert again.returncode == 0, again.stderr[-2000:]

    (tmp_path / "mine.py").unlink()
    report = python(tmp_path, COMMANDS[1])
    assert report.returncode == 0, report.stderr[-2000:]
    assert "config.imports names 'mine', which cannot be found" in report.stderr
    page = (tmp_path / "page.html").read_text()
    assert all(name in page for name in ("weight={strength}", "sureness", "level 0.2"))
    for line in (COMMANDS[0], COMMANDS[2]):
        refused = python(tmp_path, line)
        assert refused.returncode == 2
        assert refused.stderr.endswith("put that folder on PYTHONPATH.\n")
        assert "Traceback" not in refused.stderr
