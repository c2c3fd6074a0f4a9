"""Alembic's loader answers on a pipe of its own, whatever the project's scripts do to its process."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gate.errors import BadScripts
from gate.image.alembic_config import Configuration
from gate.image.alembic_loader import load

COMPUTED = "revision = str('a1')\ndown_revision = None\n"

FORKS = """
import os, time
if os.fork() == 0:
    {child}
    time.sleep(60)
    os._exit(0)
"""

HARMLESS = {
    "prints": "print('hello')",
    "prints ten megabytes": "import sys\nprint('x' * 10_000_000)\nprint('x' * 10_000_000, file=sys.stderr)",
    "starts a program that prints": "import os\nos.system('echo built from a checkout')",
    "prints at its exit": "import atexit\natexit.register(print, 'bye')",
    "does not return from its exit function": "import atexit, time\natexit.register(time.sleep, 60)",
    "leaves a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
    "leaves a process with all descriptors": FORKS.format(child="pass"),
    "leaves a process in a session of its own": FORKS.format(child="os.setsid()"),
    "lets a process that it has forked go on": "import os\nos.fork()",
    "closes its standard streams": "import sys\nsys.stdout.close()\nsys.stderr.close()",
    "has no standard streams": "import sys\nsys.stdout = sys.stderr = None",
    "closes every descriptor": "import os\nos.closerange(0, 4096)",
    "closes every descriptor and opens others": (
        "import os\nos.closerange(0, 4096)\nfor _ in range(64):\n    os.open('/dev/null', os.O_RDWR)"
    ),
    "writes to every descriptor": (
        "import os\nfrom contextlib import suppress\nfor number in range(64):\n"
        "    with suppress(OSError):\n        os.write(number, b'{}\\nnull\\n\\xff\\n[]\\n{\"x\"\\n')"
    ),
    "changes folder": "import os\nos.chdir('/')",
    "replaces the command line": "import sys\nsys.argv[:] = []",
}


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    (tmp_path / "versions").mkdir()
    ini = tmp_path / "alembic.ini"
    ini.write_text(f"[alembic]\nscript_location = {tmp_path}\n")
    return Configuration(str(ini), "pyproject.toml", "alembic", tmp_path, (tmp_path / "versions",))


def put(configuration: Configuration, body: str) -> None:
    (configuration.version_locations[0] / "a1.py").write_text(f"{body}\n{COMPUTED}")


@pytest.mark.parametrize("what", HARMLESS)
def test_alembic_answers_although_a_script(what: str, configuration: Configuration) -> None:
    put(configuration, HARMLESS[what])
    began = time.monotonic()
    assert [revision.id for revision in load(configuration, "revision is computed")] == ["a1"]
    assert time.monotonic() - began < 30


def test_alembic_answers_although_sitecustomize_prints(
    configuration: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('agent 1.2 is watching')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    put(configuration, "")
    assert [revision.id for revision in load(configuration, "revision is computed")] == ["a1"]


def test_an_answer_of_many_revisions_arrives_whole(configuration: Configuration) -> None:
    folder = configuration.version_locations[0]
    for number in range(400):
        down = f"r{number - 1}" if number else None
        (folder / f"r{number}.py").write_text(
            f'"""{"long " * 200}"""\nrevision = str("r{number}")\ndown_revision = {down!r}\n'
        )
    assert len(load(configuration, "revision is computed")) == 400


ENDS = {
    "import os\nos._exit(0)": "its process ended with exit code 0 before it answered",
    "import os\nos._exit(3)": "its process ended with exit code 3 before it answered",
    "import os\nos.kill(os.getpid(), 9)": "its process was killed by signal 9 (for lack of memory, perhaps)",
    "raise SystemExit(3)": "SystemExit: 3",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise ValueError": "cannot load it either: ValueError.",
    "raise ValueError('a sentence.')": "ValueError: a sentence.",
}


@pytest.mark.parametrize("body", ENDS)
def test_a_script_that_ends_its_process_is_refused_with_the_reason(body: str, configuration: Configuration) -> None:
    put(configuration, body)
    with pytest.raises(BadScripts) as failure:
        load(configuration, "revision is computed")
    assert str(failure.value).startswith("revision is computed, and Alembic cannot load it either: ")
    assert ENDS[body] in str(failure.value)
    assert ".." not in str(failure.value)
