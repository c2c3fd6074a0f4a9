"""env.py in every common form works unchanged, and somebody else's upgrade under the same lock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.docs import PAGES, blocks, dockerfile_recipes
from tests.support.projects import SYNC_ENV, Project, make_project

OPTIONS = ["", ", transaction_per_migration=True", ", transactional_ddl=False", ", compare_type=True, as_sql=False"]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
@pytest.mark.parametrize("options", OPTIONS[:3])
def test_driver_and_transactions(
    gate: GateRunner, tmp_path: Path, database: TestDatabase, driver: str, options: str
) -> None:
    project = make_project(tmp_path / "formed", driver=driver, options=options).chain("a1", "a2")
    block = 'op.execute("CREATE INDEX CONCURRENTLY t_a1_id ON t_a1 (id)")'
    if options != ", transactional_ddl=False":  # Alembic begins no transaction there that a block could leave
        project.add("a3", "a2", f"with op.get_context().autocommit_block():\n    {block}")
    gate.folder = project.folder
    ended = gate("migrate")
    assert ended.code == 0, ended.err
    assert gate("check").code == 0


STOCK = """
from logging.config import fileConfig
from alembic import context
from sqlalchemy import engine_from_config, pool

config = context.config
fileConfig(config.config_file_name)


def run_migrations_offline():
    context.configure(url=config.get_main_option("sqlalchemy.url"), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online():
    section = config.get_section(config.config_ini_section, {})
    connectable = engine_from_config(section, prefix="sqlalchemy.", poolclass=pool.NullPool)
    with connectable.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
"""
LOGGING = """
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = INFO
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic
[formatter_generic]
format = %(levelname)s %(message)s
"""


def test_the_stock_env_with_its_file_config_and_url_from_alembic_ini(
    gate: GateRunner, tmp_path: Path, database: TestDatabase
) -> None:
    project = make_project(tmp_path / "stock", environment=STOCK).chain("a1", "a2")
    project.add("a3", "a2", "import logging\nlogging.getLogger('app').warning('from the migration')\nprint('printed')")
    url = database.url.replace("postgresql://", "postgresql+psycopg://")
    ini = f"[alembic]\nscript_location = %(here)s/migrations\nsqlalchemy.url = {url}\n{LOGGING}"
    (project.folder / "alembic.ini").write_text(ini)
    gate.folder = project.folder
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1", DATABASE_URL="")
    assert ended.code == 0, ended.err
    assert "from the migration" in ended.err
    assert "printed" in ended.out
    assert {"gate.revision_applied", "gate.migrated", "gate.current", "gate.starting"} <= set(ended.names())


def test_x_arguments_reach_env_py(gate: GateRunner, tmp_path: Path, database: TestDatabase) -> None:
    environment = SYNC_ENV.format(driver="psycopg", options="").replace(
        "with create_engine",
        "assert context.get_x_argument(as_dictionary=True) == {'tenant': 'a', 'y': 'b'}\nwith create_engine",
    )
    gate.folder = make_project(tmp_path / "x", environment=environment).chain("a1").folder
    assert gate("migrate").code == 65
    assert gate("migrate", "-x", "tenant=a", "-x", "y=b").code == 0


def test_sections_of_one_file_each_have_their_gate(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    (project.folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = nowhere\n[shop]\nscript_location = %(here)s/migrations\n"
    )
    assert gate("check").code == 78
    assert gate("migrate", "-n", "shop").code == 0
    assert gate("check", "--name", "shop").code == 0


def test_the_multidb_template_is_refused_with_the_advice(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    with (project.folder / "alembic.ini").open("a") as ini:
        ini.write("databases = one, two\n")
    ended = gate("migrate")
    assert ended.code == 78
    assert "gate -n SECTION" in ended.event("gate.failed")["message"]
    assert database.tables() == set()


def test_an_upgrade_command_that_fails_is_reported_with_its_exit_code(gate: GateRunner, database: TestDatabase) -> None:
    ended = gate("migrate", GATE_UPGRADE_COMMAND="sh -c 'echo said by the command; exit 7'")
    assert ended.code == 65
    assert "exit code 7" in ended.event("gate.failed")["message"]
    assert "said by the command" in ended.out
    assert database.tables() == set()


FLASK_APP = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
db = SQLAlchemy(app)
Migrate(app, db)
"""


def test_the_env_py_of_alembic_init_with_the_readmes_lines_migrates(
    gate: GateRunner, tmp_path: Path, database: TestDatabase
) -> None:
    gate.folder = tmp_path / "new"
    gate.folder.mkdir()
    subprocess.run(
        [sys.executable, "-m", "alembic", "init", "migrations"], cwd=gate.folder, check=True, capture_output=True
    )
    Project(gate.folder).chain("a1")
    before = gate("migrate")
    assert (before.code, "take its URL from DATABASE_URL" in before.failure) == (65, True)
    [lines] = blocks(PAGES["images"], "python")
    env = gate.folder / "migrations" / "env.py"
    env.write_text(env.read_text().replace("config = context.config\n", f"config = context.config\n{lines}"))
    ended = gate("migrate")
    assert ended.code == 0, ended.err
    assert database.stamped() == {"a1"}


def test_flask_migrate_by_the_readmes_lines_upgrades_by_its_own_command(
    gate: GateRunner, tmp_path: Path, database: TestDatabase
) -> None:
    lines = next(recipe for recipe in dockerfile_recipes() if "flask" in recipe).splitlines()
    heads = lines[0].partition(" && ")[0].removeprefix("RUN gate ").split()
    entrypoint = json.loads(lines[1].removeprefix("ENTRYPOINT "))
    gate.folder = tmp_path / "flask"
    gate.folder.mkdir()
    (gate.folder / "app.py").write_text(FLASK_APP)
    flask = tmp_path / "flask-of-this-python" / "flask"
    flask.parent.mkdir()
    flask.write_text(f'#!/bin/sh\nexec {sys.executable} -m flask "$@"\n')
    flask.chmod(0o755)
    variables = {"DATABASE_URL": database.url, "PATH": f"{flask.parent}:{os.environ['PATH']}"}
    for words in (["init"], ["revision", "-m", "one"]):
        command = ["flask", "--app", "app", "db", *words]
        subprocess.run(command, cwd=gate.folder, env=variables, check=True, capture_output=True)
    ended = gate(*heads, **variables)
    assert (ended.code, "script_location" in ended.err) == (78, True)
    ini = gate.folder / "migrations" / "alembic.ini"
    ini.write_text(ini.read_text().replace("[alembic]", "[alembic]\nscript_location = %(here)s"))
    assert gate(*heads, **variables).code == 0
    failed = gate("migrate", "-c", "migrations/alembic.ini", **variables)
    assert (failed.code, "GATE_UPGRADE_COMMAND" in failed.failure) == (65, True), failed.failure
    ended = gate(*entrypoint[1:], "true", RUN_MIGRATIONS="1", **variables)
    assert (ended.code, ended.names()[-1]) == (0, "gate.starting"), ended.err
    assert gate("check", "-c", "migrations/alembic.ini").code == 0
