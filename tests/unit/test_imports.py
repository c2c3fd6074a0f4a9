"""What a command loads: a look that stands before every start pays for nothing that it does not need."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.conftest import GateRunner, TestDatabase

ROOMS = {
    "gate",
    *(
        f"gate.{room}"
        for room in (
            "__main__ assembly cli configuration database decision drift errand errors explanation foreign look "
            "migrator plain_script report revisions script_directory script_text settings stamp urls"
        ).split()
    ),
}
"""All that a `gate check` of a current database may load of gate."""

LIBRARIES = {"psycopg", "psycopg_binary", "typing_extensions"}
"""And of others: psycopg and what it loads itself."""

MEASURED = {"PYTHONPROFILEIMPORTTIME": "1"}
"""The same as `python -X importtime`."""


def imported(report: str) -> set[str]:
    """The modules in what `-X importtime` wrote."""
    lines = (line.split("|") for line in report.splitlines() if line.startswith("import time:"))
    return {fields[-1].strip() for fields in lines}


def of_others(modules: set[str]) -> set[str]:
    """The packages that some installed distribution brought, gate's own left out."""
    return {module.split(".")[0] for module in modules} & packages_distributions().keys() - {"gate"}


@pytest.fixture
def at_every_start() -> set[str]:
    """What this installation loads before any program."""
    nothing = [sys.executable, "-X", "importtime", "-P", "-c", ""]
    done = subprocess.run(nothing, capture_output=True, text=True, check=True, timeout=60)
    return imported(done.stderr)


def test_a_current_check_loads_only_what_it_needs(
    gate: GateRunner, database: TestDatabase, at_every_start: set[str]
) -> None:
    database.stamp("a3")
    ended = gate("check", **MEASURED)
    assert (ended.code, ended.out.split()[0]) == (0, "CURRENT")
    loaded = imported(ended.err) - at_every_start
    assert {m for m in loaded if m.split(".")[0] == "gate"} - ROOMS == set(), "is it worth its cost at every start?"
    assert "gate.look" in loaded
    assert {"psycopg"} <= of_others(loaded) <= LIBRARIES


def test_telling_the_heads_loads_no_library_at_all(gate: GateRunner, at_every_start: set[str]) -> None:
    ended = gate("heads", **MEASURED)
    assert (ended.code, ended.out) == (0, "a3\n")
    loaded = imported(ended.err) - at_every_start
    assert "gate.script_directory" in loaded
    assert of_others(loaded) == set()
    assert "tomllib" not in loaded
