"""Small applications with SQLAlchemy models, for the tests of `gate expect`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.programs import GATE_COMMAND, ProgramResult, start
from tests.support.projects import make_project

ENV = """
from alembic import context
from sqlalchemy import create_engine
{before}
{models}

def offline():
    context.configure(url="postgresql://", target_metadata=target_metadata{both}{offline})
    with context.begin_transaction():
        context.run_migrations()

def online():
    with create_engine("postgresql://nobody@127.0.0.1:1/none").connect() as connection:
        context.configure(connection=connection, target_metadata=target_metadata{both}{online})
        with context.begin_transaction():
            context.run_migrations()

offline() if context.is_offline_mode() else online()
"""

BASE = """
from sqlalchemy import *
from sqlalchemy.orm import *

class Base(DeclarativeBase):
    pass
"""

ITEM = (
    BASE
    + """
class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    stock: Mapped[int]
"""
)


@dataclass(frozen=True)
class Application:
    """A folder with the package `shop` and its migrations, of which the only revision is a1."""

    folder: Path

    def models(self, text: str) -> None:
        """Write shop/models.py."""
        (self.folder / "shop" / "models.py").write_text(text)

    def env_py(self, before: str = "", both: str = "", offline: str = "", online: str = "", models: str = "") -> None:
        """Write an env.py with both branches; `both`, `offline` and `online` are further arguments of `configure`."""
        models = models or "from shop.models import Base\ntarget_metadata = Base.metadata"
        text = ENV.format(before=before, both=both, offline=offline, online=online, models=models)
        (self.folder / "migrations" / "env.py").write_text(text)

    def expect(self, *arguments: str, **environment: str) -> ProgramResult:
        """Run `gate expect`, without a database."""
        return self.gate("expect", *arguments, **environment)

    def gate(self, *arguments: str, **environment: str) -> ProgramResult:
        """Run gate in the folder of the application."""
        return start([*GATE_COMMAND, *arguments], environment, self.folder).wait()

    @property
    def file(self) -> Path:
        """The file that `gate expect` writes."""
        return self.folder / "gate-expected.json"

    @property
    def recorded(self) -> dict[str, Any]:
        """The content of the file."""
        return dict(json.loads(self.file.read_text()))

    @property
    def tables(self) -> dict[str, list[str]]:
        """The recorded tables, with their schema if they have one, and their columns."""
        return {".".join(filter(None, (t["schema"], t["name"]))): t["columns"] for t in self.recorded["tables"]}


def make_application(folder: Path) -> Application:
    """Create the application with one model, `items`."""
    project = make_project(folder).chain("a1", table=False)
    (folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\npath_separator = os\n"
    )
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    application = Application(project.folder)
    application.models(ITEM)
    application.env_py()
    return application
