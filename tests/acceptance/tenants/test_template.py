"""The process from which upgrades are forked: what it imports, and when it must not be forked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import GateRunner, TestDatabase
from tests.support.programs import await_true, descendants
from tests.support.projects import Project
from tests.support.tenants import add_logged, applied, create_tenants, migrated, use_cookbook_env

TENANTS = [f"t{number}" for number in range(8)]


@pytest.mark.parametrize("reading", ["os.environ.get('GATE_TENANT')", "os.environ['GATE_TENANT']"])
def test_a_module_that_reads_the_schema_when_it_is_imported_gets_that_of_each_upgrade(
    gate: GateRunner, project: Project, database: TestDatabase, reading: str
) -> None:
    many = [f"t{number}" for number in range(6)]
    create_tenants(database, many, "a1")
    (project.folder / "shop.py").write_text(f"import os\nTENANT = {reading}\n")
    use_cookbook_env(project, imports="import shop", before="assert shop.TENANT == tenant, shop.TENANT")
    done = gate("migrate", "--schemas", "t*", "--jobs", "2", PYTHONPATH=str(project.folder))
    assert done.code == 0, done.err
    assert applied(database) == [("a2", name) for name in many]


def test_modules_are_imported_once_for_many_schemas(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    many = [f"t{number:02}" for number in range(12)]
    create_tenants(database, many, "a1")
    log = tmp_path / "imports"
    (project.folder / "shop.py").write_text(f"import os\nopen({str(log)!r}, 'a').write(f'{{os.getpid()}}\\n')\n")
    use_cookbook_env(project, imports="import shop")
    done = gate("migrate", "--schemas", "t*", "--jobs", "2", PYTHONPATH=str(project.folder))
    assert (done.code, len(migrated(done))) == (0, 12)
    # By the first upgrade, which runs env.py twice, and by the process from which the others are forked.
    assert len(set(log.read_text().splitlines())) == 3


def test_revisions_may_have_any_global_state_of_their_own(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    path = project.versions / "a2.py"
    add_logged(project, "a2", "a1", "RUNS.append(1)\nassert len(RUNS) == 1")
    path.write_text(path.read_text() + "\nRUNS = []\n")
    done = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert (done.code, sorted(migrated(done))) == (0, TENANTS)


def test_no_template_is_left_running(gate: GateRunner, database: TestDatabase) -> None:
    create_tenants(database, TENANTS, "a1")
    running = gate.start("run", "--schemas", "t*", "--jobs", "2", "--", "sleep", "1000", RUN_MIGRATIONS="1")
    running.await_event("gate.starting")
    await_true(lambda: Path(f"/proc/{running.pid}/cmdline").read_bytes().startswith(b"sleep"), lambda: "no server")
    assert descendants(running.pid) == []
