"""Whatever is killed at whatever moment: nothing is applied twice, nothing stays locked, the next migrator finishes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from tests.conftest import GateRunner, new_database
from tests.support.kill_rounds import AIMS, VICTIMS, KillRound, make_harness_project
from tests.support.programs import KILL_ROUNDS, kill_seed


@pytest.fixture(scope="module")
def restartable() -> Iterator[EmbeddedPostgres]:
    """A server that only these tests use, since some of them stop it."""
    server = EmbeddedPostgres().start()
    yield server
    server.remove()


@pytest.mark.parametrize("number", range(KILL_ROUNDS))
@pytest.mark.parametrize("victim", VICTIMS)
def test_after_a_kill_at_any_moment_every_revision_is_applied_once(
    tmp_path: Path,
    restartable: EmbeddedPostgres,
    victim: str,
    number: int,
    record_property: Callable[[str, object], None],
) -> None:
    dice = random.Random(f"{kill_seed()} {victim} {number}")
    begin = 2 * (list(VICTIMS).index(victim) % 2)  # so that two rounds of each victim reach every aim
    aim = AIMS[(begin + number) % len(AIMS)]
    with new_database(restartable) as database:
        gate = GateRunner(make_harness_project(tmp_path / "harness").folder, database.url)
        with gate.running:
            phase = KillRound(victim, aim, dice, database, gate).run()
    record_property("kill", [victim, phase])
