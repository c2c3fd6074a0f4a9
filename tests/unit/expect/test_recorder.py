"""The application's code runs in a child process for a limited time, and reads nothing that spoils gate's answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gate.errors import BadSettings
from gate.expect.recorder import Recording, Request, record
from gate.image import alembic_config
from tests.support.applications import ITEM, Application, make_application

MODELS = ("shop.models:Base",)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Application:
    application = make_application(tmp_path / "app")
    monkeypatch.chdir(application.folder)
    return application


def recorded(shop: Application, request: Request) -> Recording:
    configuration = alembic_config.read([str(shop.folder / "alembic.ini")], None, None)
    return record(request, configuration, ("a1",), "gate-expected.json")


@pytest.mark.parametrize("run_env_py", [True, False])
def test_code_that_waits_is_ended_and_named_with_file_and_line(run_env_py: bool, shop: Application) -> None:  # noqa: FBT001
    shop.models(f"import time\ntime.sleep(300)\n{ITEM}")
    began = time.monotonic()
    with pytest.raises(BadSettings, match="does not end in time") as failure:
        recorded(shop, Request(MODELS, run_env_py, time_limit=3))
    assert str(failure.value).startswith(f"{shop.folder}/shop/models.py, line 2: ")
    assert time.monotonic() - began < 60


def test_code_that_waits_and_forgives_everything_is_killed(shop: Application) -> None:
    shop.models(
        "import time\nwhile True:\n    try:\n        time.sleep(300)\n    except BaseException:\n        pass\n"
    )
    with pytest.raises(BadSettings, match=r"Importing shop\.models did not finish within 9 s"):
        recorded(shop, Request(MODELS, run_env_py=False, time_limit=4))


def test_a_relative_path_in_the_configuration_means_the_current_folder(shop: Application) -> None:
    (shop.folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = migrations\nprepend_sys_path = .\npath_separator = os\n"
    )
    configuration = alembic_config.read(["alembic.ini"], None, None)
    recording = record(Request(), configuration, ("a1",), "gate-expected.json")
    assert [table.name for table in recording.expectations.tables] == ["items"]
    assert recording.doubt == ""


def test_two_databases_in_one_run_leave_the_version_table_unknown(shop: Application) -> None:
    for change, doubt in (
        ("url=name", "configures 2 databases in one run"),
        ("url='postgresql://', version_table_schema=name", "version tables in one run|is passed in one branch"),
    ):
        (shop.folder / "migrations" / "env.py").write_text(
            "from alembic import context\nfrom shop.models import Base\n"
            f"def run(name):\n    context.configure({change}, target_metadata=Base.metadata)\n"
            "    context.run_migrations()\n"
            "def online(connection):\n    context.configure(connection=connection, target_metadata=Base.metadata)\n"
            "for name in ('postgresql://a', 'postgresql://b'):\n    run(name)\n"
        )
        recording = recorded(shop, Request())
        assert recording.expectations.version_table is None
        assert recording.doubt
        if "schema" not in change:
            assert doubt in recording.doubt


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a\nb", "x" * 300], ids=repr)
def test_a_name_that_the_file_cannot_hold_is_refused(name: str, shop: Application) -> None:
    shop.models(f"{ITEM}Table({name!r}, Base.metadata, Column('a', Integer))\n")
    with pytest.raises(BadSettings, match=r"Leave it out with --exclude"):
        recorded(shop, Request(MODELS, run_env_py=False))
    recording = recorded(shop, Request(MODELS, run_env_py=False, exclude=(name,)))
    assert [table.name for table in recording.expectations.tables] == ["items"]
