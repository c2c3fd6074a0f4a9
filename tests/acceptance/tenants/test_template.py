"""The process from which upgrades are forked: what it imports, and when it must not be forked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import GateRunner, TestDatabase
from tests.support.programs import await_true, descendants
from tests.support.projects import Project
from tests.support.tenants import add_logged, applied, create_tenants, migrated, use_cookbook_env

TENANTS = [f"t{number}" for number in range(8)]

MODULES = {
    "plain": "",
    "thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()\n",
    "socket": "import socket\nkept = socket.create_connection((HOST, PORT))\n",
    "event loop": "import asyncio\nloop = asyncio.new_event_loop()\n",
    "variable": "import os\nTENANT = os.environ.get('GATE_TENANT')\n",
    "text with the variable": "import os\nSETTINGS = {'options': ['-c search_path=' + os.environ['GATE_TENANT']]}\n",
    "error": "raise RuntimeError('cannot be imported outside of env.py')\n",
    "exit": "raise SystemExit(3)\n",
    "output": "print('imported', flush=True)\n",
    "argv": "import sys\nassert sys.argv[:2] == ['alembic', 'upgrade'], sys.argv\n",
}
"""What a module that env.py imports may do."""

REASONS = {
    "thread": "thread",
    "socket": "connection or an event loop",
    "event loop": "connection or an event loop",
    "variable": "GATE_TENANT",
    "text with the variable": "GATE_TENANT",
}
"""Why the template is not forked then."""

IMPORT = """
import pathlib
try:
    import shop
    with open({imports!r}, "a") as file: file.write(getattr(shop, "TENANT", None) or "-")
except BaseException as error:
    assert "cannot be imported" in str(error) or isinstance(error, SystemExit)
"""


@pytest.mark.parametrize("kind", MODULES)
def test_whatever_a_module_does_each_schema_is_migrated_with_its_own_name(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path, kind: str
) -> None:
    create_tenants(database, TENANTS, "a1")
    address = f"HOST, PORT = '127.0.0.1', {database.server.port}\n"
    (project.folder / "shop.py").write_text(address + MODULES[kind])
    imports = tmp_path / "imports"
    check = "assert shop.TENANT == tenant" if kind == "variable" else "pass"
    use_cookbook_env(project, imports=IMPORT.format(imports=str(imports)), before=check)
    done = gate("migrate", "--schemas", "t*", "--jobs", "2", PYTHONPATH=str(project.folder))
    assert done.code == 0, done.err
    assert applied(database) == [("a2", name) for name in TENANTS]
    lost = [event["message"] for event in done.events if event["event"] == "gate.template_lost"]
    assert len(lost) == (1 if kind in REASONS else 0), lost
    if kind in REASONS:
        assert REASONS[kind] in lost[0]
        assert "gate imports the modules that env.py imports for each schema anew" in lost[0]


def test_modules_are_imported_once_for_many_schemas(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    many = [f"t{number:02}" for number in range(40)]
    create_tenants(database, many, "a1")
    log = tmp_path / "imports"
    (project.folder / "shop.py").write_text(f"import os\nopen({str(log)!r}, 'a').write(f'{{os.getpid()}}\\n')\n")
    use_cookbook_env(project, imports="import shop")
    done = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert (done.code, len(migrated(done))) == (0, 40)
    assert len(log.read_text().splitlines()) < 30  # some upgrades begin before the template has imported it


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
