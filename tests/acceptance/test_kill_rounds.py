"""Whatever fails at whatever moment: nothing is applied twice, nothing stays locked, the next migrator finishes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from tests.conftest import GateRunner, new_database
from tests.support import network_rounds
from tests.support.failover_rounds import FAILOVERS, FailoverRound, Replication
from tests.support.faulty_proxy import faulty_proxy
from tests.support.kill_rounds import AIMS, VICTIMS, KillRound, make_harness_project
from tests.support.network_rounds import FAULTS, NetworkRound
from tests.support.programs import KILL_ROUNDS, kill_seed

RecordProperty = Callable[[str, object], None]


@pytest.fixture(scope="module")
def restartable() -> Iterator[EmbeddedPostgres]:
    """A server that only these tests use, since some of them stop it."""
    server = EmbeddedPostgres().start()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def replication() -> Iterator[Replication]:
    """A primary that each round replaces by another one."""
    with Replication.start() as replication:
        yield replication


def dice_of(victim: str, number: int) -> random.Random:
    return random.Random(f"{kill_seed()} {victim} {number}")


def aim_of(victims: list[str], victim: str, number: int, aims: tuple[str, ...]) -> str:
    """What a round aims at: two rounds of each victim reach every aim."""
    return aims[(2 * victims.index(victim) + number) % len(aims)]


@pytest.mark.parametrize("number", range(KILL_ROUNDS))
@pytest.mark.parametrize("victim", VICTIMS)
def test_after_a_kill_at_any_moment_every_revision_is_applied_once(
    tmp_path: Path, restartable: EmbeddedPostgres, victim: str, number: int, record_property: RecordProperty
) -> None:
    aim, dice = aim_of(list(VICTIMS), victim, number, AIMS), dice_of(victim, number)
    with new_database(restartable) as database:
        gate = GateRunner(make_harness_project(tmp_path / "harness").folder, database.url)
        with gate.running:
            phase = KillRound(victim, aim, dice, database, gate).run()
    record_property("kill", [victim, phase])


@pytest.mark.parametrize("number", range(KILL_ROUNDS))
@pytest.mark.parametrize("victim", FAULTS)
def test_after_a_fault_of_the_network_at_any_moment_every_revision_is_applied_once(
    tmp_path: Path, restartable: EmbeddedPostgres, victim: str, number: int, record_property: RecordProperty
) -> None:
    aim, dice = aim_of(list(FAULTS), victim, number, network_rounds.AIMS), dice_of(victim, number)
    with new_database(restartable) as database, faulty_proxy(restartable.port) as proxy:
        gate = GateRunner(make_harness_project(tmp_path / "harness").folder, database.url)
        with gate.running:
            phase = NetworkRound(victim, aim, dice, database, gate, proxy=proxy).run()
    record_property("kill", [victim, phase])


@pytest.mark.parametrize("number", range(KILL_ROUNDS))
@pytest.mark.parametrize("victim", FAILOVERS)
def test_after_a_failover_at_any_moment_every_revision_is_applied_once(
    tmp_path: Path, replication: Replication, victim: str, number: int, record_property: RecordProperty
) -> None:
    aim, dice = aim_of(list(FAILOVERS), victim, number, AIMS), dice_of(victim, number)
    gate = GateRunner(make_harness_project(tmp_path / "harness").folder, "")
    database = replication.new_database()
    standby = replication.add_standby(synchronous=FAILOVERS[victim])
    with gate.running:
        phase = FailoverRound(victim, aim, dice, database, gate, standby=standby).run()
    replication.replace(standby)
    record_property("kill", [victim, phase])
