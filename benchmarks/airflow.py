"""`airflow db check-migrations`, which many charts let their containers wait by, beside a look at the same database."""

from __future__ import annotations

from importlib.metadata import Distribution
from pathlib import Path

from benchmarks.chapter import Chapter, milliseconds, times
from benchmarks.measure import cpu, memory, middle, ratio, wall
from benchmarks.stage import Stage
from benchmarks.start import CHECK

HOME = Path(__file__).resolve().parent.parent / "build" / "airflow"
"""Where `make airflow` puts it: an environment of its own, since it wants other versions of everything."""

TITLE = "(d) airflow db check-migrations"


def measure(stage: Stage) -> Chapter:
    program, ini = HOME / "bin" / "airflow", next(HOME.glob("lib/python*/site-packages/airflow/alembic.ini"), None)
    if ini is None:
        return Chapter(TITLE, "Airflow is not installed (`make airflow` does it), so this was not measured.", [], [])
    database = stage.database()
    environment = stage.environment(
        database,
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=database.url.replace("postgresql:", "postgresql+psycopg2:"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW_HOME=str(stage.folder / "airflow"),
    )
    words = {
        TITLE: [str(program), "db", "check-migrations"],
        CHECK: [*stage.gate("check"), "-c", str(ini)],
    }
    stage.stopwatch.run(stage.command(stage.small, environment, str(program), "db", "migrate"))
    commands = {name: stage.command(stage.small, environment, *each) for name, each in words.items()}
    costs = stage.stopwatch.alternate(commands, 3 if stage.quick else 7)
    return Chapter(
        TITLE,
        f"Airflow {_version(ini.parent.parent)} and gate with the same scripts, Airflow's own"
        f" {len(list((ini.parent / 'migrations' / 'versions').glob('*.py')))}, on the same current database, with"
        " bytecode caches.",
        ["command", "time", "× (d)", "CPU", "CPU × (d)", "peak memory"],
        [
            [
                name,
                milliseconds(middle(costs[name], wall)),
                times(ratio(costs, name, TITLE)),
                milliseconds(middle(costs[name], cpu)),
                times(ratio(costs, name, TITLE, cpu)),
                f"{middle(costs[name], memory):.1f} MB",
            ]
            for name in costs
        ],
    )


def _version(packages: Path) -> str:
    return next(iter(Distribution.discover(name="apache-airflow", path=[str(packages)]))).version
