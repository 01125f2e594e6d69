"""Runs many commands in few seconds: imports what they need once, and forks for each of them.

Reads lines of JSON, `{"module": ..., "arguments": [...], "folder": ...}`, from the standard input.
Each module is run as `python -m` runs it, its output kept in the folder's `stdout` and `stderr`.
Prints `[index, exit code]` for each, in the order in which they end.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

# All that the commands import, but no command itself: those run as `__main__`.
SHARED = ("comparison", "models")
AT_ONCE = os.cpu_count() or 1


def _child(case: dict[str, Any]) -> int:
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(Path(case["folder"], name), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, number)
    sys.argv = [case["module"], *case["arguments"]]
    try:
        runpy.run_module(case["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _fork(case: dict[str, Any]) -> int:
    process = os.fork()
    if process == 0:
        code = _child(case)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return process


def _main() -> None:
    for name in SHARED:
        importlib.import_module(f"experiments.{name}")
    running: dict[int, int] = {}

    def end_one() -> None:
        process, status = os.wait()
        print(json.dumps([running.pop(process), os.waitstatus_to_exitcode(status)]), flush=True)

    for index, line in enumerate(sys.stdin.read().splitlines()):
        if len(running) == AT_ONCE:
            end_one()
        running[_fork(json.loads(line))] = index
    while running:
        end_one()


if __name__ == "__main__":
    _main()
