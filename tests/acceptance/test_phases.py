"""Zero downtime: revisions that may wait until after the deployment, and the target that an image needs."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import httpx
import pytest

from demo.embedded_postgres import free_port
from gate import async_fits, drift_of, fits
from gate.errors import BadScripts
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.projects import Project, make_project

STARTED = "server started\n"


def add(project: Project, revision: str, down: str | None, *, post_deploy: object = None, **options: str) -> Path:
    """Add a revision that creates a table, and say in its script whether it may wait."""
    path = project.add(revision, down, f'op.execute("CREATE TABLE t_{revision} (id int)")', **options)
    if post_deploy is not None:
        path.write_text(path.read_text().replace("depends_on =", f"post_deploy = {post_deploy}\ndepends_on =", 1))
    return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two revisions that the image requires, and two above them that may wait."""
    project = make_project(tmp_path / "project")
    add(project, "a1", None)
    add(project, "a2", "a1")
    add(project, "a3", "a2", post_deploy=True)
    add(project, "a4", "a3", post_deploy=True)
    return project


MAY_WAIT = "2 revisions may wait until after the deployment (a3, a4)"


@pytest.mark.parametrize("command", [("migrate",), ("run", "--", *SERVER)])
def test_what_is_required_is_applied_and_what_may_wait_is_left(
    gate: GateRunner, database: TestDatabase, command: tuple[str, ...]
) -> None:
    ended = gate(*command, RUN_MIGRATIONS="1")
    assert ended.code == 0, ended.err
    assert database.stamped() == {"a2"}
    assert ended.event("gate.migrating")["next_revisions"] == ["a1", "a2"]
    assert MAY_WAIT in ended.event("gate.migrated")["message"]
    passed = ended.event("gate.deferred")
    assert (passed["level"], passed["verdict"], passed["deferred"]) == ("info", "DEFERRED", ["a3", "a4"])
    assert MAY_WAIT in passed["message"]
    assert "gate.migrating" not in gate(*command, RUN_MIGRATIONS="1").names()
    assert database.stamped() == {"a2"}


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        (("migrate", "--post-deploy"), {}),
        (("migrate",), {"GATE_POST_DEPLOY": "1"}),
        (("run", "--post-deploy", "--", *SERVER), {"RUN_MIGRATIONS": "1"}),
    ],
)
@pytest.mark.parametrize("stamped", [(), ("a2",), ("a3",)])
def test_with_post_deploy_everything_is_applied(
    gate: GateRunner, database: TestDatabase, command: tuple[str, ...], setting: dict[str, str], stamped: tuple[str]
) -> None:
    database.stamp(*stamped)
    ended = gate(*command, **setting)
    assert ended.code == 0, ended.err
    assert database.stamped() == {"a4"}
    assert ended.event("gate.migrated")["message"].startswith("The schema is current")
    assert ended.event("gate.current")["verdict"] == "CURRENT"


@pytest.mark.parametrize("command", [("wait",), ("run", "--", *SERVER)])
def test_what_may_wait_keeps_no_server_from_starting(
    gate: GateRunner, database: TestDatabase, command: tuple[str, ...]
) -> None:
    database.stamp("a2")
    ended = gate(*command, GATE_POST_DEPLOY="1")
    assert ended.code == 0
    assert {event["level"] for event in ended.events} == {"info"}
    assert database.stamped() == {"a2"}


def test_what_is_required_does(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1")
    waiting = gate.start("wait")
    line = waiting.await_event("gate.waiting")
    assert (line["verdict"], line["pending"], line["deferred"]) == ("BEHIND", 1, ["a3", "a4"])
    assert f"lacks 1 revision (a2) of this image; {MAY_WAIT}." in line["message"]
    assert "alembic upgrade heads" not in line["message"]
    database.stamp("a2")
    assert waiting.wait().code == 0


def test_check_names_what_may_wait(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a2")
    shown = gate("check")
    assert shown.code == 0
    assert shown.out.splitlines()[0] == "DEFERRED drift: db=a2 expected=a2"
    assert MAY_WAIT in shown.out
    assert "  a3  make a3\n  a4  make a4\n" in shown.out
    assert "gate migrate --post-deploy" in shown.out
    found = json.loads(gate("check", "--json").out)
    assert (found["verdict"], found["pending"], found["deferred"]) == ("DEFERRED", [], ["a3", "a4"])
    assert found["messages"] == {"a3": "make a3", "a4": "make a4"}


def test_heads_name_what_may_wait(gate: GateRunner) -> None:
    shown = gate("heads")
    assert shown.out.splitlines() == ["a2", MAY_WAIT]
    found = json.loads(gate("heads", "--json").out)
    assert (found["heads"], found["may_wait"], found["revisions"]) == (["a2"], ["a3", "a4"], 4)


def test_heads_warn_of_a_post_deploy_revision_that_a_required_one_needs(gate: GateRunner, project: Project) -> None:
    add(project, "a5", "a4")
    shown = gate("heads")
    assert (shown.code, shown.out) == (0, "a5\n")
    assert "revision a3 is post_deploy, but a5 needs it" in shown.err
    assert "revision a4 is post_deploy, but a5 needs it" in shown.err


def test_a_required_revision_takes_what_it_needs_along(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    add(project, "a5", "a3")
    assert gate("migrate").code == 0
    assert database.stamped() == {"a5"}
    assert json.loads(gate("check", "--json").out)["deferred"] == ["a4"]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("False", 0),
        ("str('yes') == 'yes'", 0),
        ("'yes'", 78),
        ("1", 78),
        ("None", 78),
        ("('a3',)", 78),
        ("str('yes')", 78),
    ],
)
def test_only_true_and_false_say_whether_a_revision_may_wait(
    gate: GateRunner, project: Project, database: TestDatabase, value: str, code: int
) -> None:
    path = add(project, "a4", "a3", post_deploy=value)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("post_deploy"))
    database.stamp("a4")
    shown = gate("check", "--json")
    assert shown.code == code, shown.err
    if code:
        assert f"{path}, line {line}: post_deploy is of type " in json.loads(shown.out)["error"]
        assert "must be True or False" in shown.err


def test_an_image_that_requires_nothing_never_passes(gate: GateRunner, project: Project) -> None:
    for revision, down in (("a1", None), ("a2", "a1")):
        add(project, revision, down, post_deploy=True)
    for command in (("check",), ("heads",), ("migrate",), ("wait",)):
        ended = gate(*command)
        assert ended.code == 78
        assert "require nothing" in ended.err
    assert gate("migrate", "--post-deploy").code == 0


@pytest.mark.parametrize("target", ["a1", "a2-1", "a1+0"])
def test_a_target_is_what_every_command_needs_and_goes_to(
    gate: GateRunner, database: TestDatabase, target: str
) -> None:
    assert gate("check", "--target", target).code == 1
    assert gate("migrate", GATE_TARGET=target).code == 0
    assert database.stamped() == {"a1"}
    assert gate("wait", "--target", target).code == 0
    assert gate("run", "--target", target, "--", *SERVER, RUN_MIGRATIONS="1").out == STARTED
    assert gate("heads", "--target", target).out == "a1\n"
    checked = gate("check", "--target", target)
    assert (checked.code, checked.out.splitlines()[0]) == (0, "CURRENT drift: db=a1 expected=a1")
    assert gate("check").code == 1
    assert fits(database.url, config=str(gate.folder / "alembic.ini"), target=target)
    assert not fits(database.url, config=str(gate.folder / "alembic.ini"))


def test_python_takes_a_target(gate: GateRunner, database: TestDatabase) -> None:
    config = str(gate.folder / "alembic.ini")
    database.stamp("a1")
    assert asyncio.run(async_fits(database.url, config=config, target="a1"))
    assert drift_of(database.url, config=config).deferred == ("a3", "a4")
    with pytest.raises(BadScripts, match="names nothing"):
        drift_of(database.url, config=config, target="gone")


@pytest.mark.parametrize("target", ["gone", "+1", "a1,a2", "a1:a2", "base", "gone@head"])
@pytest.mark.parametrize("command", [("check",), ("migrate",), ("wait",), ("heads",), ("run", "--", *SERVER)])
def test_a_target_that_names_nothing_is_refused(
    gate: GateRunner, database: TestDatabase, target: str, command: tuple[str, ...]
) -> None:
    ended = gate(*command, GATE_TARGET=target)
    assert (ended.code, ended.out) == (78, "")
    assert f"The target {target} (GATE_TARGET) " in ended.err
    assert database.tables() == set()


def test_a_stamp_beyond_the_target_is_current(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    ended = gate("migrate", GATE_TARGET="a2")
    assert (ended.code, ended.names()) == (0, ["gate.current"])
    assert "has all revisions up to a2 (GATE_TARGET)" in ended.event("gate.current")["message"]


@pytest.fixture
def branches(project: Project) -> Project:
    """Phases as branches: `expand` and `contract`, which depends on it, and a third one."""
    for path in project.versions.iterdir():
        path.unlink()
    add(project, "e1", None, labels="expand")
    add(project, "e2", "e1")
    add(project, "c1", None, labels="contract", depends_on="e1")
    add(project, "d1", None)
    return project


@pytest.mark.usefixtures("branches")
def test_branches_can_be_the_phases(gate: GateRunner, database: TestDatabase) -> None:
    assert gate("migrate", GATE_TARGET="expand@head").code == 0
    assert database.stamped() == {"e2"}
    assert gate("check", GATE_TARGET="expand@head").code == 0
    assert gate("check", GATE_TARGET="contract@head").code == 1
    assert gate("migrate", GATE_TARGET="contract@head").code == 0
    assert database.tables() == {"alembic_version", "t_e1", "t_e2", "t_c1"}
    assert gate("check", GATE_TARGET="expand@head").code == 0
    refused = gate("check", GATE_TARGET="head")
    assert refused.code == 78
    assert "this image has 3" in refused.err


def test_several_required_heads_are_applied_together(
    gate: GateRunner, branches: Project, database: TestDatabase
) -> None:
    add(branches, "e3", "e2", post_deploy=True)
    add(branches, "c1", None, labels="contract", depends_on="e1", post_deploy=True)
    ended = gate("migrate")
    assert ended.code == 0, ended.err
    assert database.stamped() == {"e2", "d1"}
    assert gate("migrate", "--post-deploy").code == 0
    assert database.stamped() == {"e3", "c1", "d1"}


def test_a_post_deploy_branch_can_be_applied_by_its_name(
    gate: GateRunner, branches: Project, database: TestDatabase
) -> None:
    add(branches, "c1", None, labels="contract", depends_on="e1", post_deploy=True)
    assert gate("migrate").code == 0
    assert gate("check", "--target", "contract@head").out.startswith("DEFERRED ")
    assert gate("migrate", "--post-deploy", "--target", "contract@head").code == 0
    assert "t_c1" in database.tables()


FAILS = 'raise RuntimeError("broken")'


@pytest.mark.parametrize("option", [(), ("--post-deploy",)])
def test_a_failure_names_what_the_upgrade_left(
    gate: GateRunner, project: Project, database: TestDatabase, option: tuple[str, ...]
) -> None:
    broken = "a4" if option else "a2"
    path = next(path for path in project.versions.iterdir() if path.stem == broken)
    path.write_text(path.read_text().replace("op.execute", "raise RuntimeError('broken')\n    op.execute"))
    database.stamp("a2" if option else "a1")
    ended = gate("migrate", *option)
    assert ended.code == 65
    assert f"Still pending: {'a3, a4' if option else 'a2'}." in ended.failure


ALEMBIC = f"{sys.executable} -m alembic upgrade"


def test_a_command_that_cannot_leave_out_what_may_wait_is_refused_before_it_runs(
    gate: GateRunner, database: TestDatabase
) -> None:
    refused = gate("migrate", GATE_UPGRADE_COMMAND=f"{ALEMBIC} heads")
    assert refused.code == 78
    assert MAY_WAIT in refused.failure
    assert "`alembic upgrade {target}`" in refused.failure
    assert database.tables() == set()
    assert gate("migrate", GATE_UPGRADE_COMMAND=f"{ALEMBIC} {{target}}").code == 0
    assert database.stamped() == {"a2"}
    # Nothing required is pending now, so the command does not run.
    assert gate("migrate", GATE_UPGRADE_COMMAND="false").code == 0
    assert gate("migrate", "--post-deploy", GATE_UPGRADE_COMMAND=f"{ALEMBIC} heads").code == 0
    assert database.stamped() == {"a4"}


def test_a_command_that_stops_short_is_told_what_is_pending_and_where_to_go(
    gate: GateRunner, database: TestDatabase
) -> None:
    ended = gate("migrate", "--post-deploy", GATE_UPGRADE_COMMAND=f"{ALEMBIC} a2")
    assert ended.code == 65
    assert "the database is DEFERRED" in ended.failure
    assert "Still pending: 2 revisions (a3, a4)." in ended.failure
    assert "Check that GATE_UPGRADE_COMMAND upgrades to heads, that env.py commits" in ended.failure
    assert database.stamped() == {"a2"}


def test_a_misspelled_post_deploy_is_refused_before_it_drops_what_old_servers_use(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    path = add(project, "a3", "a2", post_deploy=True)
    path.write_text(path.read_text().replace("post_deploy", "post_depoly"))
    for command in ("heads", "migrate", "plan"):
        ended = gate(command)
        assert ended.code == 78
        assert f"{path}, line 8: post_depoly is not a name that gate reads; did you mean post_deploy?" in ended.err
    # The same where Alembic has to load the scripts.
    computed = add(project, "a2", "a1")
    computed.write_text(computed.read_text().replace("depends_on = None", "depends_on = (None or None)"))
    ended = gate("heads")
    assert ended.code == 78
    assert f"{path}, line 8: post_depoly is not a name that gate reads" in ended.err
    assert database.tables() == set()


def test_a_command_gets_the_target(gate: GateRunner, database: TestDatabase) -> None:
    refused = gate("migrate", GATE_TARGET="a1", GATE_UPGRADE_COMMAND=f"{ALEMBIC} heads")
    assert refused.code == 78
    assert "GATE_UPGRADE_COMMAND does not name GATE_TARGET (a1)" in refused.failure
    assert database.tables() == set()
    command = f"sh -c '{ALEMBIC} {{target}}'"
    assert gate("migrate", GATE_TARGET="a1", GATE_UPGRADE_COMMAND=command).code == 0
    assert database.stamped() == {"a1"}


def test_a_command_is_told_one_revision_only(gate: GateRunner, branches: Project, database: TestDatabase) -> None:
    add(branches, "e3", "e2", post_deploy=True)
    add(branches, "c1", None, labels="contract", depends_on="e1", post_deploy=True)
    command = f"{ALEMBIC} {{target}}"
    refused = gate("migrate", GATE_UPGRADE_COMMAND=command)
    assert refused.code == 78
    assert "goes to 2 revisions" in refused.failure
    assert database.tables() == set()
    assert gate("migrate", GATE_UPGRADE_COMMAND=command, GATE_TARGET="e2").code == 0
    assert gate("migrate", GATE_UPGRADE_COMMAND=command).code == 0
    assert database.stamped() == {"e2", "d1"}


def test_the_sidecar_is_ready_and_counts_what_may_wait(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a2")
    port = free_port()
    serving = gate.start("serve", "--listen", f"127.0.0.1:{port}")
    serving.await_event("gate.serving")
    answer = httpx.get(f"http://127.0.0.1:{port}/health/ready")
    assert answer.status_code == 200
    assert (answer.json()["verdict"], answer.json()["pending"], answer.json()["deferred"]) == ("DEFERRED", 0, 2)
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'gate_schema_verdict{verdict="DEFERRED"} 1.0' in metrics
    assert "gate_deferred_revisions 2.0" in metrics
    assert "gate_pending_revisions 0.0" in metrics


def test_env_py_sees_the_revision_that_gate_upgrades_to(gate: GateRunner, project: Project) -> None:
    env_py = project.folder / "migrations" / "env.py"
    env_py.write_text(
        env_py.read_text()
        + "\nimport sys\nprint(sys.argv, context.config.cmd_opts.revision, context.get_revision_argument())\n"
    )
    assert "['alembic', 'upgrade', 'a2'] a2 a2" in gate("migrate").out
    assert "['alembic', 'upgrade', 'heads'] heads ('a4',)" in gate("migrate", "--post-deploy").out


OFFLINE_ENV = """
from alembic import context

context.configure(dialect_name="postgresql")
with context.begin_transaction():
    context.run_migrations()
"""


def test_the_plan_shows_the_phase_of_each_revision(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    (project.folder / "migrations" / "env.py").write_text(OFFLINE_ENV)
    database.stamp("a1")
    shown = gate("plan")
    assert (shown.code, MAY_WAIT in shown.out, "gate migrate would apply 1 revision:" in shown.out) == (0, True, True)
    assert [line.split()[1] for line in shown.out.splitlines() if line.startswith("  ")] == ["a2:"]
    whole = json.loads(gate("plan", "--post-deploy", "--json").out)
    assert [(r["revision"], r["phase"]) for r in whole["revisions"]] == [
        ("a2", "required"),
        ("a3", "post_deploy"),
        ("a4", "post_deploy"),
    ]
    assert whole["deferred"] == ["a3", "a4"]
    sql = gate("plan", "--sql", "--post-deploy").out
    assert [f"CREATE TABLE t_{id_}" in sql for id_ in ("a1", "a2", "a3", "a4")] == [False, True, True, True]
    assert "CREATE TABLE t_a3" not in gate("plan", "--sql").out
    assert "gate migrate would apply nothing" in gate("plan", "--target", "a1").out
    database.stamp("a2")
    assert "gate migrate would apply 2 revisions:" in gate("plan", "--post-deploy").out
    assert "gate migrate would apply nothing" in gate("plan").out
    assert database.stamped() == {"a2"}


def test_the_plan_refuses_what_migrate_refuses(gate: GateRunner) -> None:
    assert gate("plan", GATE_UPGRADE_COMMAND="alembic upgrade heads").code == 78
    assert gate("plan", GATE_UPGRADE_COMMAND="alembic upgrade heads", GATE_TARGET="a1").code == 78
    assert gate("plan", GATE_TARGET="gone").code == 78
    assert "(alembic upgrade a2)" in gate("plan", GATE_UPGRADE_COMMAND="alembic upgrade {target}").out
