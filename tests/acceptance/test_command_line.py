"""The command line, the settings and the files as users get them wrong, and what `check` and `heads` print."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gate.cli.arguments import parse
from gate.cli.parser import parse_options
from gate.settings.arguments import COMMANDS
from gate.settings.variables import SETTINGS
from tests.conftest import GateRunner, TestDatabase
from tests.support.programs import start
from tests.support.projects import Project

MALFORMED = (
    "fly",
    "--no-such-flag",
    "run",
    "run --",
    "run server",
    "run --timeout -- true",
    "run --time 3 -- true",
    "wait -- true",
    "wait surplus",
    "wait --timeout",
    "wait -x a",
    "wait --migration-lock-timeout 3",
    "wait --on-failure stay",
    "migrate -- true",
    "migrate --json",
    "migrate --on-failure stay",
    "check --jsn",
    "check --timeout 3",
    "check -x a",
    "check -c",
    "heads --busy",
    "heads --version-table x",
)


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_command_line_is_one_sentence_and_2(gate: GateRunner, line: str) -> None:
    ended = gate(*line.split())
    assert (ended.code, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("gate: ")
    assert ended.err.endswith(".\n")


def test_without_arguments_it_prints_the_help_and_passes_nothing(gate: GateRunner) -> None:
    ended = gate()
    assert (ended.code, ended.err) == (2, "")
    assert ended.out == gate("--help").out
    assert {*COMMANDS} <= {*ended.out.split()}


def test_a_flag_says_the_unit_of_its_value(gate: GateRunner) -> None:
    usage = gate("run", "--help").out
    assert "--timeout SECONDS" in usage
    flags = {line.split()[0]: line.split()[1] for line in usage.splitlines() if line.startswith("  --")}
    with_value = [setting for setting in SETTINGS if setting.flag and setting.metavar]
    assert {flags[s.flag] for s in with_value} == {s.metavar for s in with_value}


@pytest.mark.parametrize("line", ["check --jsn", "wait surplus", "serve --ttl 3"])
def test_a_mistake_names_the_help_of_its_own_command(gate: GateRunner, line: str) -> None:
    command, *more = line.split()
    ended = gate(*line.split())
    assert f"gate {command} does not understand {' '.join(more)!r}" in ended.err
    assert f"`gate {command} --help`" in ended.err
    assert "after `--`" not in ended.err


def test_a_server_without_the_dashes_before_it_is_answered_with_the_right_command(gate: GateRunner) -> None:
    for words in (
        ["uvicorn", "app:app"],
        ["gunicorn", "-c", "conf.py", "app:app"],
        ["uvicorn", "app:app", "--timeout", "4"],
    ):
        assert f"gate run -- {' '.join(words)}." in gate("run", *words).err


def test_no_password_in_a_mistaken_argument_is_printed(gate: GateRunner) -> None:
    for words in (
        ["check", "postgresql://u:sesame@h/shop"],
        ["postgresql://u:sesame@h"],
        ["check", "--password=sesame"],
    ):
        ended = gate(*words)
        assert (ended.code, "sesame" in ended.err, ended.err.endswith("shows the options.\n")) == (2, False, True)
        assert "***" in ended.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_variables_that_have_no_flag(gate: GateRunner, command: str) -> None:
    variables = gate(command, "--help").out.partition("Variables without a flag: ")[2]
    named = {name.strip(" .") for name in " ".join(variables.split()).split(",")} - {""}
    assert named <= {s.variable for s in SETTINGS if not s.flag}
    assert ("DATABASE_URL" in named) is (command not in {"heads", "expect"})
    assert ("RUN_MIGRATIONS" in named) is (command == "run")
    assert ("GATE_LOCK" in named) is (command in {"run", "migrate"})


@pytest.mark.parametrize("command", ["run", "wait", "migrate", "plan", "check", "heads", "expect"])
def test_help_shows_each_flag_with_meaning_default_and_variable_in_one_line(gate: GateRunner, command: str) -> None:
    ended = gate(command, "--help")
    assert (ended.code, ended.err) == (0, "")
    shown = [s for s in SETTINGS if s.flag and f"  {s.flag} {s.metavar} " in ended.out]
    assert shown
    for setting in shown:
        line = next(text for text in ended.out.splitlines() if text.startswith(f"  {setting.flag} "))
        assert setting.variable in line
        assert setting.default.replace("`", "") in line


def test_no_flag_takes_a_url(gate: GateRunner) -> None:
    for command in ("run", "wait", "migrate", "plan", "check", "heads", "expect"):
        assert "url" not in gate(command, "--help").out.lower().replace("database_url", "")


def test_the_version_is_printed(gate: GateRunner) -> None:
    ended = gate("--version")
    assert (ended.code, ended.out) == (0, "gate 0.1.0\n")


MISTAKES = {
    "RUN_MIGRATIONS": "maybe",
    "GATE_TIMEOUT": "soon",
    "GATE_POLL_MAX": "0",
    "GATE_CONNECT_TIMEOUT": "-1",
    "GATE_QUERY_TIMEOUT": "nan",
    "GATE_MIGRATION_LOCK_TIMEOUT": "1e999",
    "GATE_LOCK": "maybe",
    "GATE_ON_UNKNOWN": "ignore",
    "GATE_ON_UNSTAMPED": "stamp",
    "GATE_ON_INCOMPLETE": "ignore",
    "GATE_ON_FAILURE": "restart",
    "GATE_UPGRADE_COMMAND": "sh -c 'alembic",
    "GATE_LOG_FORMAT": "xml",
    "GATE_LOG_LEVEL": "loud",
    "GATE_BYPASS": "perhaps",
    "GATE_TIMEOT": "3",
    "DATABASE_URL": "mydatabase",
}


@pytest.mark.parametrize("command", [("check",), ("wait",), ("migrate",), ("run", "--", "true")])
def test_all_wrong_settings_are_reported_together(gate: GateRunner, command: tuple[str, ...]) -> None:
    both = {"MIGRATION_DATABASE_URL": "postgresql://h/d", "MIGRATION_DATABASE_URL_FILE": "/x"}
    ended = gate(*command, **both, **MISTAKES)
    assert (ended.code, ended.out) == (78, "")
    for variable in (*MISTAKES, "MIGRATION_DATABASE_URL_FILE"):
        assert variable in ended.err, variable
    assert "did you mean GATE_TIMEOUT?" in ended.err
    assert "Traceback" not in ended.err


def test_a_wrong_flag_is_reported_by_its_own_name(gate: GateRunner) -> None:
    ended = gate("wait", "--timeout", "soon")
    assert ended.code == 78
    assert "--timeout must be" in ended.failure


def test_what_kubernetes_injects_for_a_service_called_gate_is_no_mistake(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.stamp("a3")
    injected = {"GATE_PORT": "tcp://10.0.0.1:80", "GATE_SERVICE_HOST": "10.0.0.1", "GATE_PORT_80_TCP": "x"}
    assert gate("check", **injected).code == 0


def test_an_empty_variable_is_an_unset_one(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    empty = {s.variable: "" for s in SETTINGS if s.variable != "DATABASE_URL"}
    assert gate("wait", **empty).code == 0


def no_ini(project: Project) -> str:
    (project.folder / "alembic.ini").unlink()
    return "No Alembic configuration"


def garbled_ini(project: Project) -> str:
    (project.folder / "alembic.ini").write_text("script_location = x")
    return "alembic.ini is not a valid ini file"


def no_location(project: Project) -> str:
    (project.folder / "alembic.ini").write_text("[alembic]\n")
    return "no script_location"


def missing_folder(project: Project) -> str:
    (project.folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/nowhere\n")
    return "nowhere, which does not exist"


def syntax_error(project: Project) -> str:
    path = project.versions / "a2.py"
    path.write_text("revision = 'a2'\ndown_revision = (")
    return f"{path}, line 2"


def missing_parent(project: Project) -> str:
    (project.versions / "a1.py").unlink()
    return "'a1'"


def cycle(project: Project) -> str:
    project.add("a1", "a3")
    return "cycle"


def twice(project: Project) -> str:
    (project.versions / "copy.py").write_text((project.versions / "a2.py").read_text())
    return "two files"


def no_id(project: Project) -> str:
    (project.versions / "a2_x.py").write_text("down_revision = 'a1'\n")
    return "a2_x.py, line 1"


BROKEN_FILES = [no_ini, garbled_ini, no_location, missing_folder, syntax_error, missing_parent, cycle, twice, no_id]


@pytest.mark.parametrize("breaking", BROKEN_FILES)
@pytest.mark.parametrize("command", [("heads",), ("migrate",)])
def test_a_broken_file_is_one_plain_sentence_with_its_name(
    gate: GateRunner, project: Project, database: TestDatabase, breaking: object, command: tuple[str, ...]
) -> None:
    assert callable(breaking)
    mistake = breaking(project)
    ended = gate(*command)
    assert (ended.code, ended.out) == (78, "")
    assert mistake in ended.err
    assert len(ended.err.splitlines()) == 1
    assert database.tables() == set()


def test_no_database_named_is_a_mistake_and_says_what_to_set(gate: GateRunner) -> None:
    ended = gate("check", DATABASE_URL="")
    assert ended.code == 78
    assert "set DATABASE_URL" in ended.err


def test_a_url_of_the_alembic_configuration_with_a_plain_percent_sign_is_reported(
    gate: GateRunner, project: Project
) -> None:
    with (project.folder / "alembic.ini").open("a") as ini:
        ini.write("sqlalchemy.url = postgresql://u:p%40ss@h/shop\n")
    ended = gate("check", DATABASE_URL="")
    assert ended.code == 78
    assert "the % in sqlalchemy.url of [alembic] cannot be interpolated; write %% for a plain %" in ended.err
    assert "40ss" not in ended.err


def test_the_url_of_the_alembic_configuration_is_the_last_resort(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    with (project.folder / "alembic.ini").open("a") as ini:
        ini.write(f"sqlalchemy.url = {database.url}\n")
    assert json.loads(gate("check", "--json", DATABASE_URL="").out)["database"] == database.name


@pytest.mark.parametrize("content", [None, "", "\n", "nonsense", b"\xff\xfe"])
def test_a_url_file_that_holds_no_url_is_reported_by_name(
    gate: GateRunner, tmp_path: Path, content: str | bytes | None
) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content.encode() if isinstance(content, str) else content)
    ended = gate("check", DATABASE_URL="", DATABASE_URL_FILE=str(secret))
    assert ended.code == 78
    assert "DATABASE_URL_FILE" in ended.err
    assert "Traceback" not in ended.err


def test_heads_needs_no_database(gate: GateRunner, project: Project) -> None:
    assert (gate("heads", DATABASE_URL="").code, gate("heads", DATABASE_URL="").out) == (0, "a3\n")
    project.add("b1", None)
    ended = gate("heads", "--json", DATABASE_URL="")
    assert json.loads(ended.out) == {
        "heads": ["a3", "b1"],
        "may_wait": [],
        "target": "heads",
        "revisions": 4,
    }


def test_check_as_json_is_one_object_with_the_whole_inspection(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1")
    ended = gate("check", "--json")
    assert (ended.code, ended.err) == (1, "")
    assert json.loads(ended.out) == {
        "verdict": "BEHIND",
        "drift": "drift: db=a1 expected=a3",
        "stamped": ["a1"],
        "expected": ["a3"],
        "pending": ["a2", "a3"],
        "messages": {"a2": "make a2", "a3": "make a3"},
        "unknown": [],
        "redundant": [],
        "deferred": [],
        "target": "heads",
        "missing": [],
        "missing_total": 0,
        "database": database.name,
        "schema": "public",
        "migrating": None,
    }


def test_check_as_json_is_one_object_for_errors_too(gate: GateRunner) -> None:
    for url, code in (("postgresql://postgres@127.0.0.1:1/shop", 69), ("nonsense", 78)):
        ended = gate("check", "--json", DATABASE_URL=url)
        found = json.loads(ended.out)
        assert (ended.code, found["verdict"]) == (code, None)
        assert found["error"] in ended.err


@pytest.mark.parametrize(
    "words", [["-c", "shop.ini", "heads"], ["--config=shop.ini", "heads"], ["-n", "shop", "heads"], ["-nshop", "heads"]]
)
def test_options_may_come_before_the_command_as_in_alembic(
    gate: GateRunner, project: Project, words: list[str]
) -> None:
    text = (project.folder / "alembic.ini").read_text()
    (project.folder / "shop.ini").write_text(text)
    (project.folder / "alembic.ini").write_text(text.replace("[alembic]", "[shop]"))
    assert gate(*words).out == "a3\n"


UNBUFFERED = pytest.mark.parametrize("unbuffered", ["1", ""])
"""Images set PYTHONUNBUFFERED: then printing fails, else flushing at the end does."""


def into(where: str) -> tuple[str, ...]:
    return ("sh", "-c", f'exec "$@" {where}', "sh")


@UNBUFFERED
def test_a_verdict_that_cannot_be_written_is_reported_and_stays_the_exit_code(
    gate: GateRunner, database: TestDatabase, unbuffered: str
) -> None:
    for stamp, code in (("a3", 0), ("a2", 1)):
        database.stamp(stamp)
        ended = gate("check", prefix=into(">/dev/full"), PYTHONUNBUFFERED=unbuffered)
        assert (ended.code, ended.err) == (code, "gate: standard output cannot be written: No space left on device.\n")


@UNBUFFERED
def test_heads_that_cannot_be_written_are_a_failure(gate: GateRunner, unbuffered: str) -> None:
    ended = gate("heads", prefix=into(">/dev/full"), PYTHONUNBUFFERED=unbuffered)
    assert (ended.code, ended.err) == (70, "gate: standard output cannot be written: No space left on device.\n")


@UNBUFFERED
def test_a_pipe_that_its_reader_closed_is_no_error(gate: GateRunner, database: TestDatabase, unbuffered: str) -> None:
    database.stamp("a2")
    reader_gone = ("bash", "-c", '"$@" | exec 0<&-; exit "${PIPESTATUS[0]}"', "bash")
    ended = gate("check", prefix=reader_gone, PYTHONUNBUFFERED=unbuffered)
    assert (ended.code, ended.err) == (1, "")


def test_a_full_standard_error_changes_no_exit_code(gate: GateRunner) -> None:
    for command, settings in {"check": {"GATE_TIMEOUT": "soon"}, "wait": {"GATE_TIMEOUT": "soon"}, "fly": {}}.items():
        ended = gate(command, prefix=into("2>/dev/full"), **settings)
        assert (ended.code, ended.out, ended.err) == (2 if command == "fly" else 78, "", "")


def test_messages_of_pending_revisions_come_in_the_order_of_the_upgrade(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("b2", "b1", message="second of b")
    project.add("b1", None, depends_on="a2", message="first of b")
    project.add("m", ("a3", "b2"), message="all in one")
    found = json.loads(gate("check", "--json").out)
    ended = gate("migrate")
    applied = [e["revision"] for e in ended.events if e["event"] == "gate.revision_applied"]
    assert found["pending"] == applied
    assert list(found["messages"]) == applied
    assert found["messages"]["b1"] == "first of b"
    assert database.stamped() == {"m"}


def test_every_log_line_is_one_json_object_and_goes_to_standard_error(gate: GateRunner) -> None:
    ended = gate("migrate")
    assert ended.out == ""
    for line in ended.err.splitlines():
        assert {"event", "level", "message", "timestamp"} <= json.loads(line).keys()
    assert all(event["event"].startswith("gate.") for event in ended.events)


def test_console_lines_are_for_people(gate: GateRunner) -> None:
    ended = gate("migrate", "--log-format", "console")
    assert "INFO     gate.revision_applied: Applied 1/3 a1 make a1 in " in ended.err
    assert "{" not in ended.err


def test_the_level_silences_what_is_below(gate: GateRunner) -> None:
    assert gate("migrate", GATE_LOG_LEVEL="critical").err == ""


def test_the_installed_command_is_gate(project: Project) -> None:
    installed = Path(sys.executable).parent / "gate"
    assert start([str(installed), "heads"], {}, project.folder).wait().out == "a3\n"


def test_a_terminal_that_knows_few_characters_gets_the_others_escaped(gate: GateRunner, project: Project) -> None:
    project.add("größe_😀", "a3")
    ended = gate("heads", PYTHONIOENCODING="ascii")
    assert (ended.code, ended.out, ended.err) == (0, "gr\\xf6\\xdfe_\\U0001f600\n", "")
    assert gate("--help", PYTHONIOENCODING="ascii").code == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bare_command_is_read_as_by_the_parser(name: str) -> None:
    server = ["--", "true"] if name == "run" else []
    assert parse([name, *server]) == parse_options([name])._replace(server=tuple(server[1:]))
