"""A password with every character that means something in a URL works, and appears in no output of any kind."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.programs import ProgramResult, children
from tests.support.projects import Project, make_project

PASSWORD = "s3%cr@t:/w0rd?#&"
SPACED = "s3cr et'%@\\w0rd"
"""With what other programs write differently: SQLAlchemy leaves a space as it is, `repr` doubles a backslash."""

WRONG = "wr0ng%@:/gu3ss"
MAY_MIGRATE = ("GRANT CREATE ON SCHEMA public TO {role}",)
COMMANDS = (("check",), ("check", "--json"), ("wait",), ("migrate",), ("run", "--", *SERVER))


def spellings(password: str) -> set[str]:
    """What a log would show of it, in whichever form."""
    encoded = {quote(password, safe=safe) for safe in ("", "/", " +")} | {quote_plus(password)}
    return {password, *encoded, *(e.lower() for e in encoded), repr(password)[1:-1]}


def betrayed(texts: Iterable[str], password: str) -> list[str]:
    """The texts in which the password can be read."""
    return [text for text in texts if any(spelt in text for spelt in spellings(password))]


def as_parameter(url: str) -> str:
    """The same URL with the password as `?password=`."""
    before, _, place = url.rpartition("@")
    user, _, password = before.rpartition(":")
    return f"{user}@{place}?password={password}"


def lower_case(url: str) -> str:
    """The same URL, its percent encoding in small letters."""
    before, _, place = url.rpartition("@")
    user, _, password = before.rpartition(":")
    return f"{user}:{password.lower()}@{place}"


def run_all(gate: GateRunner, url: str, **environment: str) -> list[ProgramResult]:
    """Every command with this URL, at the same time."""
    told = {"DATABASE_URL": url, "RUN_MIGRATIONS": "1", "GATE_TIMEOUT": "4", "GATE_LOG_LEVEL": "debug", **environment}
    return [each.wait() for each in [gate.start(*command, **told) for command in COMMANDS]]


@pytest.mark.parametrize("password", [PASSWORD, SPACED])
@pytest.mark.parametrize("form", [str, lower_case, as_parameter])
def test_a_password_full_of_url_characters_works_and_is_shown_nowhere(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, password: str, form: type[str]
) -> None:
    url = form(database.create_role(password, *MAY_MIGRATE))
    message = tmp_path / "termination-log"
    message.touch()
    first = gate("migrate", DATABASE_URL=url)
    assert first.code == 0, first.err
    assert database.stamped() == {"a3"}
    ended = [first, *run_all(gate, url, GATE_TERMINATION_LOG=str(message))]
    assert [e.code for e in ended] == [0] * 6
    assert betrayed([t for e in ended for t in (e.out, e.err)] + [message.read_text()], password) == []


@pytest.mark.parametrize("variable", ["DATABASE_URL_FILE", "MIGRATION_DATABASE_URL_FILE"])
def test_a_password_in_a_mounted_secret_works_and_is_shown_nowhere(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, variable: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(database.create_role(PASSWORD, *MAY_MIGRATE) + "\n")
    unprivileged = "" if variable == "DATABASE_URL_FILE" else gate.url
    ended = gate("run", "--", *SERVER, DATABASE_URL=unprivileged, RUN_MIGRATIONS="1", **{variable: str(secret)})
    assert (ended.code, ended.out) == (0, "server started\n"), ended.err
    assert database.stamped() == {"a3"}
    assert betrayed([ended.err], PASSWORD) == []


@pytest.mark.parametrize("form", [str, as_parameter])
def test_a_wrong_password_is_told_and_shown_nowhere(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, form: type[str]
) -> None:
    right = database.create_role(PASSWORD)
    url = form(right.replace(quote(PASSWORD, safe=""), quote(WRONG, safe="")))
    message = tmp_path / "termination-log"
    ended = run_all(gate, url, GATE_TERMINATION_LOG=str(message))
    assert [e.code for e in ended] == [69, 69, 124, 124, 124]
    assert all("refuses the password" in e.err for e in ended)
    assert "refuses the password" in message.read_text()
    assert betrayed([t for e in ended for t in (e.out, e.err)] + [message.read_text()], WRONG) == []


LEAKS = {
    "the URL": 'os.environ["DATABASE_URL"]',
    "what SQLAlchemy makes of it": 'make_url(os.environ["DATABASE_URL"]).render_as_string(hide_password=False)',
    "the password": 'make_url(os.environ["DATABASE_URL"]).password',
    "the password's repr": 'repr(make_url(os.environ["DATABASE_URL"]).password)',
    "a driver's arguments": 'repr(dict(password=make_url(os.environ["DATABASE_URL"]).password))',
}


@pytest.mark.parametrize("password", [PASSWORD, SPACED])
@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS.keys())
def test_a_migration_that_raises_the_url_does_not_show_the_password(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path, password: str, leak: str
) -> None:
    project.add("a4", "a3", f"import os\nfrom sqlalchemy import make_url\nraise RuntimeError('no way to ' + {leak})")
    url, message = database.create_role(password, *MAY_MIGRATE), tmp_path / "termination-log"
    ended = gate("run", "--", *SERVER, DATABASE_URL=url, RUN_MIGRATIONS="1", GATE_TERMINATION_LOG=str(message))
    assert ended.code == 65
    assert "no way to" in ended.failure
    assert betrayed([ended.err, ended.out, message.read_text()], password) == []


def test_a_statement_that_holds_the_password_is_not_shown_with_it(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    statement = f"ALTER ROLE nobody_here PASSWORD '{PASSWORD}'".replace(":", "\\:")  # no bound parameter of text()
    project.add("a4", "a3", f"op.execute({statement!r})")
    ended = gate("migrate", DATABASE_URL=database.create_role(PASSWORD, *MAY_MIGRATE))
    assert ended.code == 65
    assert "nobody_here" in ended.failure
    assert betrayed([ended.err], PASSWORD) == []


@pytest.mark.parametrize("literal", ["'{}'", "E'{}'", "$${}$$"])
def test_somebody_elses_password_in_a_statement_is_not_shown(gate: GateRunner, project: Project, literal: str) -> None:
    wrong = f"CREATE ROLE nobody_here LOGIN PASSWORD {literal.format(PASSWORD)} NONSENSE".replace(":", "\\:")
    project.add("a4", "a3", f"op.execute({wrong!r})")
    ended = gate("migrate")
    assert ended.code == 65
    assert "nobody_here" in ended.failure
    assert betrayed([ended.err], PASSWORD) == []


def test_a_rotated_password_is_used_at_the_next_connect_and_shown_nowhere(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    leak = LEAKS["the password"]
    project.add("a4", "a3", f"import os\nfrom sqlalchemy import make_url\nraise RuntimeError({leak})")
    secret = tmp_path / "secret"
    right = database.create_role(PASSWORD, *MAY_MIGRATE)
    secret.write_text(right.replace(quote(PASSWORD, safe=""), "yesterdays"))
    migrating = gate.start("migrate", DATABASE_URL="", DATABASE_URL_FILE=str(secret))
    migrating.await_event("gate.waiting", lambda e: "refuses the password" in e["message"])
    secret.write_text(right)
    ended = migrating.wait()
    assert ended.code == 65
    assert "RuntimeError" in ended.failure
    assert betrayed([ended.err], PASSWORD) == []


@pytest.mark.parametrize("password", ["p@ss/w0rdX", "pa/ss@w0rdX", "pa:ss#w0rd?X", "100%w0rdX", "p@ssw0rdX"])
@pytest.mark.parametrize("command", [("check",), ("check", "--json"), ("wait",)])
def test_a_password_that_was_not_encoded_is_shown_nowhere_either(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, password: str, command: tuple[str, ...]
) -> None:
    url = database.url.replace("postgres@", f"postgres:{password}@")
    message = tmp_path / "termination-log"
    message.touch()
    ended = gate(*command, DATABASE_URL=url, GATE_TIMEOUT="0.5", GATE_TERMINATION_LOG=str(message))
    assert "w0rdX" not in ended.out + ended.err + message.read_text()


def test_the_password_is_in_no_process_list_while_migrating(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(60)")')
    migrating = gate.start("migrate", DATABASE_URL=database.create_role(PASSWORD, *MAY_MIGRATE))
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    child = children(migrating.pid)
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in (migrating.pid, *child)]
    assert len(lines) == 2
    assert all("gate" in line for line in lines)
    assert betrayed(lines, PASSWORD) == []
    assert betrayed([str(row) for row in database.backends()], PASSWORD) == []
    migrating.process.terminate()
    assert betrayed([migrating.wait().err], PASSWORD) == []


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_a_migration_that_may_not_connect_does_not_show_the_password(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, driver: str
) -> None:
    # gate's own connections succeed, and the migration's own, which env.py makes with a wrong database, does not.
    project = make_project(tmp_path / driver, driver=driver).chain("a1")
    env = project.folder / "migrations" / "env.py"
    env.write_text(env.read_text().replace(".set(", ".set(database='nowhere', "))
    gate.folder = project.folder
    ended = gate("migrate", DATABASE_URL=database.create_role(PASSWORD, *MAY_MIGRATE))
    assert ended.code == 65
    assert "nowhere" in ended.failure
    assert betrayed([ended.err], PASSWORD) == []


def test_a_password_in_libpqs_variable_beside_the_url_is_shown_nowhere(gate: GateRunner, project: Project) -> None:
    project.add("a1", None, "import os\nraise RuntimeError('it is ' + os.environ['PGPASSWORD'])")
    ended = gate("migrate", PGPASSWORD=PASSWORD)
    assert (ended.code, betrayed([ended.err], PASSWORD)) == (65, [])


def test_a_password_in_libpqs_own_variable_is_shown_nowhere(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    url = database.create_role(PASSWORD)
    user = url.split("//")[1].split(":")[0]
    place = {"PGHOST": "127.0.0.1", "PGPORT": str(database.server.port), "PGDATABASE": database.name, "PGUSER": user}
    right = gate("check", DATABASE_URL="", PGPASSWORD=PASSWORD, **place)
    assert right.code == 1, right.err
    wrong = gate("check", DATABASE_URL="", PGPASSWORD=WRONG, **place)
    assert wrong.code == 69
    assert "refuses the password" in wrong.err
    project.add("a1", None, "import os\nraise RuntimeError(os.environ['PGPASSWORD'])")
    migrated = gate("migrate", DATABASE_URL="", PGPASSWORD=PASSWORD, **place)
    assert migrated.code == 65
    texts = [t for e in (right, wrong, migrated) for t in (e.out, e.err)]
    assert betrayed(texts, PASSWORD) == betrayed(texts, WRONG) == []


CUT = "Tr0ub4dor-and-3-horses"


def parts_shown(text: str) -> int:
    """How many characters of a beginning or an end of CUT a text shows."""
    return max((n for n in range(4, len(CUT) + 1) if CUT[:n] in text or CUT[-n:] in text), default=0)


@pytest.mark.parametrize("length", range(0, 130, 13))
def test_no_part_of_a_password_is_shown_where_a_statement_is_cut(
    gate: GateRunner, project: Project, database: TestDatabase, length: int
) -> None:
    statement = f"select '{'x' * length}', 'postgresql://web:{CUT}@h/db' from nowhere"
    project.add("a4", "a3", f'op.get_bind().exec_driver_sql("{statement}")')
    ended = gate("migrate", DATABASE_URL=database.url.replace("postgres@", f"postgres:{CUT}@"))
    assert (ended.code, "nowhere" in ended.failure) == (65, True)
    assert parts_shown(ended.out + ended.err) == 0


def test_no_part_of_an_unknown_password_in_a_url_is_shown_where_a_statement_is_cut(
    gate: GateRunner, project: Project
) -> None:
    statement = f"CREATE SUBSCRIPTION s CONNECTION 'postgresql://web:{CUT}@127.0.0.1:1/db' PUBLICATION p"
    project.add("a4", "a3", f'op.execute("COMMIT"); op.get_bind().exec_driver_sql("{statement}")')
    ended = gate("migrate")
    assert (ended.code, parts_shown(ended.err)) == (65, 0)


def test_a_password_that_only_the_alembic_configuration_holds_is_shown_nowhere(
    gate: GateRunner, project: Project
) -> None:
    with (project.folder / "alembic.ini").open("a") as ini:
        ini.write(f"\nsqlalchemy.url = postgresql://app:{CUT}@db/shop\n")
    leak = "context.config.get_main_option('sqlalchemy.url').split(':')[2]"
    project.add("a4", "a3", f"from alembic import context\nraise RuntimeError('it is ' + {leak})")
    ended = gate("migrate")
    assert (ended.code, "it is ***" in ended.failure, parts_shown(ended.err)) == (65, True, 0), ended.err


@pytest.mark.parametrize("variable", ["PGPASSFILE", "PGSERVICEFILE", "HOME"])
def test_a_password_in_a_file_of_libpq_is_shown_nowhere(
    gate: GateRunner, project: Project, tmp_path: Path, variable: str
) -> None:
    names = {"PGPASSFILE": "pass", "PGSERVICEFILE": "services", "HOME": ".pgpass"}
    path = tmp_path / names[variable]
    path.write_text(f"[s]\npassword={CUT}\n" if variable == "PGSERVICEFILE" else f"*:*:*:*:{CUT}\n")
    path.chmod(0o600)
    project.add("a4", "a3", f"raise RuntimeError('it is ' + open({str(path)!r}).read()[-{len(CUT) + 1}:])")
    ended = gate("migrate", **{variable: str(tmp_path if variable == "HOME" else path)})
    assert (ended.code, "it is ***" in ended.failure, parts_shown(ended.err)) == (65, True, 0), ended.err


@pytest.mark.parametrize(
    "command",
    [
        f"mysql-nowhere -p{CUT}",
        f"nowhere --password={CUT}",
        f"sh -c 'PGPASSWORD={CUT} nowhere'",
        f"mysql -p{CUT} 'open",
    ],
)
def test_a_password_in_the_upgrade_command_is_shown_nowhere(gate: GateRunner, command: str) -> None:
    ended = gate("migrate", GATE_UPGRADE_COMMAND=command)
    assert (ended.code, "GATE_UPGRADE_COMMAND" in ended.err, parts_shown(ended.out + ended.err)) in {
        (65, True, 0),
        (78, True, 0),
    }


@pytest.mark.parametrize("word", ["gate", "starting", "info", "password", "CURRENT", "applied", "Database"])
def test_a_password_that_is_a_word_changes_no_line_of_gate(gate: GateRunner, database: TestDatabase, word: str) -> None:
    def lines(url: str) -> list[tuple[str, ...]]:
        database.execute("DROP TABLE IF EXISTS alembic_version, t_a1, t_a2, t_a3")
        ended = gate("run", "--", *SERVER, DATABASE_URL=url, RUN_MIGRATIONS="1")
        return [(e["event"], e["level"], e["message"].partition(" in ")[0]) for e in ended.events]

    assert lines(database.url.replace("postgres@", f"postgres:{word}@")) == lines(database.url)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--", "nosuch-S3cr3t-W0rd"),
        ("migrate", "--passwrd=S3cr3t-W0rd"),
        ("check", "S3cr3t-W0rd"),
        ("S3cr3t-W0rd",),
    ],
)
def test_a_password_of_a_variable_is_hidden_in_an_error_before_any_setting_is_read(
    gate: GateRunner, arguments: tuple[str, ...]
) -> None:
    ended = gate(*arguments, DB_PASSWORD="S3cr3t-W0rd", OTHER="S3cr3t-W0rd")
    assert ended.code in {2, 127}
    assert "***" in ended.err
    assert "S3cr3t" not in ended.err + ended.out


NAMED = "s3cr@t-w0rd"
"""A password that a file, a table and a schema can be called."""

RESULTS = (("heads",), ("check",), ("check", "--json"), ("plan",), ("plan", "--json"), ("plan", "--sql"))


@pytest.mark.parametrize("command", RESULTS, ids=" ".join)
def test_a_password_that_is_also_a_name_is_shown_in_no_result(
    gate: GateRunner, database: TestDatabase, project: Project, command: tuple[str, ...]
) -> None:
    project.add("a4", "a3", message=f"as {NAMED}").rename(project.versions / f"{NAMED}.py")
    table = {"schema": NAMED, "name": NAMED, "columns": [NAMED]}
    content = {"version": 1, "heads": ["a4"], "version_table": None, "tables": [table]}
    (project.folder / "gate-expected.json").write_text(json.dumps(content))
    result = gate(*command, DATABASE_URL=database.create_role(NAMED, *MAY_MIGRATE))
    assert result.code == (1 if command[0] == "check" else 0)
    assert betrayed([result.out, result.err], NAMED) == []
