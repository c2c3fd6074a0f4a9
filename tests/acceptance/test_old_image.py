"""An old image while a newer one expands, deploys and contracts: it fits exactly while what its code uses is there."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import DBAPIError

from demo.embedded_postgres import free_port
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.projects import make_project

ENV = """
import os
from alembic import context
from shop import Base
from sqlalchemy import create_engine, make_url, pool

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            context.run_migrations()
"""

MODELS = """
from sqlalchemy import Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    {column}: Mapped[str] = mapped_column(Text)
"""

TAG = """

class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
"""

OLD_MODELS = MODELS.format(column="name") + TAG
NEW_MODELS = MODELS.format(column="title")

CREATE = "CREATE TABLE items (id serial PRIMARY KEY, name text NOT NULL, unused int); CREATE TABLE tags (id serial)"
FILL = """
CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.title := coalesce(NEW.title, NEW.name);
  NEW.name := NEW.title;
  RETURN NEW;
END $$;
CREATE TRIGGER fill BEFORE INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION fill()
"""
REQUIRED = {
    "r1": CREATE,
    "r2": f"ALTER TABLE items ADD title text; {FILL}",
    "r3": "UPDATE items SET title = name",
}
POST_DEPLOY = {
    "r4": "ALTER TABLE items DROP COLUMN unused, ALTER title SET NOT NULL",
    "r5": "DROP TRIGGER fill ON items; ALTER TABLE items ALTER name DROP NOT NULL",
    "r6": "ALTER TABLE items DROP COLUMN name",
    "r7": "DROP TABLE tags",
}
MISSING_IN_OLD_IMAGE = {
    "r2": [],
    "r3": [],
    "r4": [],
    "r5": ["items.title"],
    "r6": ["items.name", "items.title"],
    "r7": ["items.name", "items.title", "tags"],
}
"""What the old image misses after each revision: r5 leaves title NULL in its INSERTs, and title may not be NULL."""


@dataclass(frozen=True)
class Image:
    """A release: its models and its migration scripts, and what `gate expect` has recorded at build time."""

    gate: GateRunner

    def check(self) -> tuple[int, str, list[str]]:
        """Return exit code, verdict and what is missing."""
        ended = self.gate("check", "--json")
        found = json.loads(ended.out)
        missing = [".".join(filter(None, (item["table"], item["column"]))) for item in found["missing"]]
        return ended.code, found["verdict"], sorted(missing)

    def can_use(self, database: TestDatabase) -> bool:
        """Whether its models can be selected from and inserted into, tried for real and rolled back."""
        metadata = runpy.run_path(str(self.gate.folder / "shop.py"))["Base"].metadata
        engine = create_engine(make_url(database.url).set(drivername="postgresql+psycopg"))
        try:
            with engine.connect() as connection:
                for table in metadata.sorted_tables:
                    connection.execute(table.select())
                    connection.execute(table.insert().values({c: "text" for c in table.c if c.name != "id"}))
        except DBAPIError:
            return False
        finally:
            engine.dispose()
        return True


def build(folder: Path, models: str, revisions: dict[str, str], url: str, running: ExitStack) -> Image:
    """Write the files of a release, and run `gate expect` as its Dockerfile does."""
    project = make_project(folder, environment=ENV)
    (folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\npath_separator = os\n"
    )
    (folder / "shop.py").write_text(models)
    down = None
    for revision, sql in revisions.items():
        path = project.add(revision, down, f"op.execute({sql!r})")
        if revision in POST_DEPLOY:
            path.write_text(path.read_text().replace("depends_on =", "post_deploy = True\ndepends_on =", 1))
        down = revision
    gate = GateRunner(folder, url, running)
    assert gate("expect", DATABASE_URL="").code == 0
    return Image(gate)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as started:
        yield started


@pytest.fixture
def old(tmp_path: Path, database: TestDatabase, running: ExitStack) -> Image:
    """The release that serves; its database is the one that it has migrated."""
    image = build(tmp_path / "old", OLD_MODELS, {"r1": REQUIRED["r1"]}, database.url, running)
    assert image.gate("migrate").code == 0
    return image


@pytest.fixture
def new(tmp_path: Path, database: TestDatabase, running: ExitStack) -> Image:
    return build(tmp_path / "new", NEW_MODELS, REQUIRED | POST_DEPLOY, database.url, running)


def test_an_old_image_is_ahead_exactly_while_what_it_uses_is_there(
    old: Image, new: Image, database: TestDatabase
) -> None:
    assert old.check() == (0, "CURRENT", [])
    assert new.check() == (1, "BEHIND", ["items.name", "items.title"])
    for revision, missing in MISSING_IN_OLD_IMAGE.items():
        options = ["--post-deploy"] if revision in POST_DEPLOY else []
        ended = new.gate("migrate", "--target", revision, *options)
        assert (ended.code, database.stamped()) == (0, {revision}), ended.err
        assert old.check() == ((1, "INCOMPLETE", missing) if missing else (0, "AHEAD", []))
        assert old.can_use(database) is not bool(missing), revision
        deferred = "CURRENT" if revision == "r7" else "DEFERRED"
        assert new.check() == ((1, "BEHIND", []) if revision == "r2" else (0, deferred, []))
        assert new.can_use(database), revision
        assert new.gate("migrate", "--target", revision).code == 0  # it goes no further


def test_the_three_commands_take_an_old_image_from_current_to_incomplete(
    old: Image, new: Image, database: TestDatabase
) -> None:
    assert new.gate("migrate").code == 0
    assert database.stamped() == {"r3"}
    started = old.gate("run", "--", *SERVER)
    assert started.out == "server started\n"
    assert started.event("gate.ahead")["level"] == "info"
    assert new.gate("run", "--", *SERVER, RUN_MIGRATIONS="1").event("gate.deferred")["level"] == "info"
    assert new.gate("migrate", "--post-deploy").code == 0
    waiting = old.gate.start("run", "--", *SERVER)
    event = waiting.await_event("gate.waiting")
    assert (event["verdict"], event["level"]) == ("INCOMPLETE", "critical")
    assert event["missing"] == ["items.name", "items.title(NOT NULL)", "tags"]
    assert "deploy the image that contains the stamped revisions" in event["message"]
    waiting.end()
    # An old container that still serves stays in service, and says what its queries miss.
    port = free_port()
    old.gate.start("serve", "--listen", f"127.0.0.1:{port}").await_event("gate.serving")
    answer = httpx.get(f"http://127.0.0.1:{port}/health/ready")
    assert (answer.status_code, answer.json()["verdict"]) == (200, "INCOMPLETE")
    assert answer.json()["missing"] == ["items.name", "items.title(NOT NULL)", "tags"]
    assert new.gate("check").out.startswith("CURRENT ")


def test_a_rollback_after_expand_migrates_nothing_and_serves(old: Image, new: Image, database: TestDatabase) -> None:
    assert new.gate("migrate").code == 0
    for option in ((), ("--post-deploy",)):
        ended = old.gate("run", *option, "--", *SERVER, RUN_MIGRATIONS="1")
        assert (ended.code, ended.out) == (0, "server started\n")
        assert "nothing migrated" in ended.err.lower()
    assert database.stamped() == {"r3"}
    assert old.can_use(database)
