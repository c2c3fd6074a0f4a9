"""The environment that the server gets is the one that gate was given."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SHOW = "import json\nfrom gate.process import exec\nprint(json.dumps(exec.original_environment()))"


def handed_over(environment: dict[str, str]) -> dict[str, str]:
    command = [sys.executable, "-P", "-c", SHOW]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    "environment",
    [
        {"PATH": "/bin"},
        {},
        {"LC_CTYPE": "C.UTF-8"},
        {"LC_CTYPE": "C"},
        {"LANG": "C"},
        {"LC_ALL": "POSIX"},
        {"LANG": "C.UTF-8", "X": "a=b\nc"},
        {"DATABASE_URL": "postgresql://app:p%40w@db/shop", "EMPTY": ""},
    ],
)
def test_the_server_gets_the_environment_as_it_was_given_to_gate(environment: dict[str, str]) -> None:
    assert handed_over(environment) == environment


def test_without_gates_care_python_would_add_to_it() -> None:
    show = "import os; print('LC_CTYPE' in os.environ)"
    done = subprocess.run([sys.executable, "-c", show], env={}, capture_output=True, check=True, timeout=60)
    assert done.stdout.split() == [b"True"]
