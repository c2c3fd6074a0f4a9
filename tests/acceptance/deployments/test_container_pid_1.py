"""gate as process 1 of a real container: signals, exit codes, and what a rollback does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.containers import Containers, await_podman, podman, podman_output

pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.timeout(600)]

SAYS_GOODBYE = (
    "import signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: (print('the server got it', flush=True), sys.exit(7)))\n"
    "print('the server is up', flush=True)\n"
    "signal.pause()\n"
)
LEAVES_AN_ORPHAN = (
    "import os, signal, time\n"
    "child = os.fork()\n"
    "if child == 0:\n"
    "    if os.fork() == 0:\n"
    "        while os.getppid() != 1: time.sleep(0.01)\n"
    "        print('orphan', os.getpid(), flush=True)\n"
    "    os._exit(0)\n"
    "os.waitpid(child, 0)\n"
    "signal.pause()\n"
)
SLEEPS = 'op.execute("SELECT pg_sleep(600)")'


@pytest.fixture(scope="module")
def current(containers: Containers) -> str:
    url = containers.create_database()
    containers.migrate(url)
    return url


def test_after_the_hand_over_the_server_is_process_1_and_gets_the_signal(containers: Containers, current: str) -> None:
    web = containers.start(current, "python3", "-c", SAYS_GOODBYE)
    web.await_log("the server is up")
    assert "gate" not in podman_output("exec", web.name, "cat", "/proc/1/cmdline")
    assert web.stop() == 7
    assert "the server got it" in web.logs()


def test_uvicorn_shuts_down_in_order_on_podman_stop(containers: Containers, current: str) -> None:
    web = containers.start(current)
    web.await_log("Uvicorn running")
    web.stop()
    assert "Application shutdown complete" in web.logs()


def test_with_an_init_in_front_a_waiting_gate_and_a_server_end_as_well(containers: Containers, current: str) -> None:
    waiting = containers.start(containers.create_database(), options=("--init",))
    waiting.await_event("gate.waiting")
    assert waiting.stop() == 143
    web = containers.start(current, "python3", "-c", SAYS_GOODBYE, options=("--init",))
    web.await_log("the server is up")
    assert web.stop() == 7


@pytest.mark.parametrize(("options", "left"), [((), "Z"), (("--init",), "")])
def test_orphans_of_the_server_are_reaped_with_an_init_in_front_and_only_then(
    containers: Containers, current: str, options: tuple[str, ...], left: str
) -> None:
    web = containers.start(current, "python3", "-c", LEAVES_AN_ORPHAN, options=options)
    web.await_log("orphan")
    pid = web.logs().partition("orphan ")[2].split()[0]
    state = ("exec", web.name, "sed", "-E", r"s/.*\) (.).*/\1/", f"/proc/{pid}/stat")
    await_podman(lambda: podman(*state).stdout.strip() == left, lambda: podman(*state).stdout)


@pytest.mark.parametrize(
    ("command", "limit", "code"),
    [
        (("sh", "-c", "exit 7"), "", 7),
        (("no-such-server",), "", 127),
        (("/etc/passwd",), "", 126),
        (("true",), "soon", 78),
    ],
)
def test_exit_codes_arrive(
    containers: Containers, current: str, command: tuple[str, ...], limit: str, code: int
) -> None:
    assert containers.start(current, *command, GATE_TIMEOUT=limit).wait() == code


def test_time_limit_and_refusal_arrive_as_exit_codes(containers: Containers) -> None:
    assert containers.start(containers.create_database(), GATE_TIMEOUT="1").wait() == 124
    unstamped = containers.create_database()
    containers.execute(unstamped, "CREATE TABLE somebody_elses (id int)")
    assert containers.start(unstamped, GATE_ON_UNSTAMPED="refuse").wait() == 76


def test_podman_stop_cancels_a_running_migration_in_the_database(containers: Containers, tmp_path: Path) -> None:
    url = containers.create_database()
    web = containers.start(url, image=containers.build_changed(SLEEPS, tmp_path), RUN_MIGRATIONS="1")
    web.await_event("gate.revision_started", lambda event: event["revision"] == "0003")
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%'"
    assert web.stop() == 143
    assert containers.execute(url, f"{asleep} AND pid <> pg_backend_pid()") == "0"


def test_rollback_an_older_image_goes_on_with_a_newer_database(
    containers: Containers, older_image: str, current: str
) -> None:
    web = containers.start(current, image=older_image)
    assert web.await_event("gate.ahead")["level"] == "info"
    web.get("/health/ready")
    containers.migrate(current, older_image)  # which has nothing to do, and ends well
