"""Drawn histories of revisions, the states that Alembic itself reaches with them, and Alembic's plans."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from alembic.script.revision import Revision as AlembicRevision
from alembic.script.revision import RevisionError, RevisionMap
from alembic.util import CommandError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine

from gate.image.revision_graph import Revision, RevisionGraph

EXAMPLES = int(os.environ.get("GATE_TEST_EXAMPLES", "100"))
drawn = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Draft(AlembicRevision):
    """A revision with an `upgrade` and a `downgrade` that do nothing."""

    module = SimpleNamespace(upgrade=lambda **_: None, downgrade=lambda **_: None)


def directory(revisions: Sequence[Revision]) -> ScriptDirectory:
    found = ScriptDirectory(os.curdir)
    found.revision_map = RevisionMap(lambda: [Draft(r.id, r.down, r.depends_on, r.labels) for r in revisions])
    return found


@contextmanager
def database() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def rows(connection: Connection) -> tuple[str, ...]:
    return tuple(sorted(MigrationContext.configure(connection).get_current_heads()))


def run(connection: Connection, steps: Sequence[RevisionStep]) -> bool:
    """Let Alembic run these steps and write its version table; return False and roll back if it fails."""
    context = MigrationContext.configure(connection, opts={"fn": lambda *_: steps})
    try:
        with context.begin_transaction():
            context.run_migrations()
    except (CommandError, RevisionError, AssertionError, KeyError, IndexError):
        # Alembic itself fails on some entangled branches: its merge deletes a row that does not exist.
        connection.rollback()
        return False
    connection.commit()
    return True


def plan(script: ScriptDirectory, stamped: tuple[str, ...], target: str | tuple[str, ...] = "heads") -> list[str]:
    return [step.revision.revision for step in upgrade_steps(script, stamped, target)]


def upgrade_steps(
    script: ScriptDirectory, stamped: tuple[str, ...], target: str | tuple[str, ...] = "heads"
) -> list[RevisionStep]:
    return script._upgrade_revs(target, stamped)  # type: ignore[arg-type] # Alembic itself passes tuples


@dataclass(frozen=True)
class History:
    """All revisions of a project, parents before children; `old` are those of an earlier image."""

    new: tuple[Revision, ...]
    old: tuple[Revision, ...]


IDS = st.text("ab01", min_size=1, max_size=7)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Chains, branches, merges, dependencies by id and by label, added later too, in any order of files."""
    ids = draw(st.lists(IDS, min_size=1, max_size=9, unique=True))
    labels = draw(st.lists(st.text("lm", min_size=3, max_size=6), max_size=2, unique=True))
    labelled = {label: draw(st.sampled_from(ids)) for label in labels}
    revisions: list[Revision] = []
    for n, id_ in enumerate(ids):
        earlier = ids[:n]
        down = draw(st.lists(st.sampled_from(earlier), max_size=2, unique=True)) if earlier else []
        names = [*earlier, *(label for label, at in labelled.items() if at in earlier)]
        depends_on = draw(st.lists(st.sampled_from(names), max_size=2, unique=True)) if names else []
        own = tuple(label for label, at in labelled.items() if at == id_)
        revisions.append(Revision(id_, tuple(down), tuple(depends_on), own))
    old = revisions[: draw(st.integers(1, len(revisions)))]
    known = {name for r in old for name in (r.id, *r.labels)}
    if draw(st.booleans()):
        old = [r._replace(depends_on=tuple(d for d in r.depends_on if draw(st.booleans()))) for r in old]
    assert all(name in known for r in old for name in (*r.down, *r.depends_on))
    order = draw(st.permutations(range(len(revisions))))
    return History(
        tuple(revisions[n] for n in order),
        tuple(old[n] for n in order if n < len(old)),
    )


@dataclass(frozen=True)
class Command:
    """An upgrade or a downgrade to a target, killed after some steps."""

    target: int
    down: bool
    steps: int


COMMANDS = st.lists(
    st.builds(Command, st.integers(0, 9), st.sampled_from([False, False, True]), st.integers(0, 9)), max_size=4
)


def reach(connection: Connection, script: ScriptDirectory, commands: Sequence[Command]) -> None:
    """Run the commands on the database; skip those that Alembic refuses to plan."""
    ids = [key for key in script.revision_map._revision_map if key]
    for command in commands:
        target = ids[command.target % len(ids)] if command.target else "heads"
        stamped: Any = rows(connection)
        try:
            if command.down:
                steps = script._downgrade_revs("base" if target == "heads" else target, stamped)
            else:
                steps = script._upgrade_revs(target, stamped)
        except (CommandError, RevisionError, AssertionError, KeyError, IndexError):
            continue
        run(connection, steps[: command.steps])


def entangled(revisions: Sequence[Revision]) -> bool:
    """Whether the order of Alembic depends on the hashes of strings: it keeps dependencies in a set."""
    return any(len(r.depends_on) > 1 for r in revisions)


def assert_runnable(image: RevisionGraph, pending: tuple[str, ...]) -> None:
    for n, id_ in enumerate(pending):
        assert set(image.parents[id_]).isdisjoint(pending[n:])
