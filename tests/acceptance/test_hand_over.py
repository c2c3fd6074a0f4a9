"""After the hand-over only the server is left: its process, environment, signals and files are its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.embedded_postgres import free_port
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.programs import GATE_COMMAND
from tests.support.projects import Project

PRINT_ARGUMENTS = "import json, sys; print(json.dumps(sys.argv[1:]))"
LIST_DESCRIPTORS = (
    "import json, os; print(json.dumps({n: os.path.exists(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')}))"
)
ODD_ARGUMENTS = ["", " ", "--", "-c", "--timeout", "3", "--help", "*", "$HOME", "%s", "a\nb", "ü", "'\"\\"]

IGNORE_AND_BLOCK = (
    "import os, signal, sys\n"
    "for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1): signal.signal(each, signal.SIG_IGN)\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR2, signal.SIGCHLD})\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
"""A caller that leaves signals ignored (nohup) and blocked, which both survive an exec."""


@pytest.fixture(autouse=True)
def _current(database: TestDatabase) -> None:
    database.stamp("a3")


def bytes_of(gate: GateRunner, *server: str, stdin: bytes = b"", **environment: str) -> bytes:
    """What the server printed, byte for byte."""
    return subprocess.run(
        [*GATE_COMMAND, "run", "--", *server],
        input=stdin,
        capture_output=True,
        cwd=gate.folder,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": gate.url, **environment},
        check=True,
        timeout=60,
    ).stdout


@pytest.mark.parametrize("migrating", ["", "1"])
def test_the_server_has_gates_process_id_and_no_children(gate: GateRunner, project: Project, migrating: str) -> None:
    if migrating:
        project.add("a4", "a3")
    server = gate.start("run", "--", "sh", "-c", 'echo "$$"; cat "/proc/$$/task/$$/children"', RUN_MIGRATIONS=migrating)
    ended = server.wait()
    process, *kin = ended.out.split()
    assert int(process) == server.pid
    assert len(kin) == 1  # `cat` itself, and no child of gate's


@pytest.mark.parametrize("locale", [(), ("LANG=C.UTF-8",), ("LC_ALL=C",), ("LC_CTYPE=C",)])
def test_the_server_gets_the_environment_byte_for_byte(gate: GateRunner, locale: tuple[str, ...]) -> None:
    variables: list[str | bytes] = [
        f"PATH={os.environ['PATH']}",
        f"DATABASE_URL={gate.url}",
        "EMPTY=",
        "LINES=a\nb=c",
        "GATE_TIMEOUT=60",
        "odd-name.1=ü",
        b"NOT_UTF_8=\xff\xfe",
        *locale,
    ]

    def env(*program: str) -> bytes:
        command: list[str | bytes] = ["env", "-i", *variables, *program, "env", "-0"]
        return subprocess.run(command, cwd=gate.folder, capture_output=True, check=True, timeout=60).stdout

    assert env(*GATE_COMMAND, "run", "--") == env()


def test_the_servers_arguments_are_untouched(gate: GateRunner) -> None:
    command = [sys.executable, "-c", PRINT_ARGUMENTS, *ODD_ARGUMENTS]
    ended = gate("run", "--timeout", "30", "--", *command)
    assert json.loads(ended.out) == ODD_ARGUMENTS


def test_the_servers_folder_and_file_mask_are_untouched(gate: GateRunner) -> None:
    ended = gate("run", "--", "sh", "-c", "pwd; umask", prefix=("sh", "-c", 'umask 027; exec "$@"', "sh"))
    assert ended.out.split() == [str(gate.folder), "0027"]


def test_standard_input_and_output_pass_byte_for_byte(gate: GateRunner) -> None:
    content = bytes(range(256)) * 1000
    assert bytes_of(gate, "cat", stdin=content) == content


def test_a_migration_does_not_read_the_servers_standard_input(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a4", "a3", "import sys\nassert sys.stdin.read() == ''")
    assert bytes_of(gate, "cat", stdin=b"for the server", RUN_MIGRATIONS="1") == b"for the server"
    assert database.stamped() == {"a4"}


def test_buffered_output_is_not_lost(gate: GateRunner, project: Project) -> None:
    # Printed into a pipe it is buffered until the process that printed it ends.
    project.add("a4", "a3", "print('printed by the migration')")
    printed = bytes_of(gate, "echo", "printed by the server", RUN_MIGRATIONS="1")
    assert printed == b"printed by the migration\nprinted by the server\n"


@pytest.mark.parametrize("prefix", [(), (sys.executable, "-c", IGNORE_AND_BLOCK)], ids=["plain", "ignored and blocked"])
@pytest.mark.parametrize("migrating", ["", "1"])
def test_the_server_has_default_signal_dispositions(
    gate: GateRunner, project: Project, prefix: tuple[str, ...], migrating: str
) -> None:
    if migrating:
        project.add("a4", "a3")
    ended = gate("run", "--", "cat", "/proc/self/status", prefix=prefix, RUN_MIGRATIONS=migrating)
    masks = dict(line.split(":\t") for line in ended.out.splitlines() if line.startswith(("Sig", "ShdPnd")))
    # 32 and 33 are glibc's own: no program can set them, and its posix_spawn (make's) hands them over ignored.
    set_by_programs = ~(0b11 << 31)
    assert {name: int(masks[name], 16) & set_by_programs for name in ("SigIgn", "SigBlk", "SigCgt", "SigPnd")} == {
        "SigIgn": 0,
        "SigBlk": 0,
        "SigCgt": 0,
        "SigPnd": 0,
    }


CLOSED = ["0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"]
LIST_OPEN_STREAMS = """
import os, sys
open_ = []
for number in range(3):
    try:
        os.fstat(number)
        open_.append(str(number))
    except OSError:
        pass
with open(sys.argv[1], "w") as file:
    file.write(" ".join(open_))
"""


@pytest.mark.parametrize("closed", CLOSED)
def test_the_server_finds_closed_what_was_closed_and_gate_migrates_all_the_same(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path, closed: str
) -> None:
    project.add("a4", "a3", "print('printed by the migration')")
    report, close = tmp_path / "open", ("sh", "-c", f'exec "$@" {closed}', "sh")
    server = (sys.executable, "-c", LIST_OPEN_STREAMS, str(report))
    ended = gate("run", "--", *server, prefix=close, RUN_MIGRATIONS="1", GATE_PLACEHOLDER=f"127.0.0.1:{free_port()}")
    assert ended.code == 0, ended.err
    assert database.stamped() == {"a4"}
    assert report.read_text().split() == [number for number in "012" if number not in closed.replace("&-", "")]


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("command", ["check", "heads", "wait", "migrate", "fly"])
def test_closed_standard_streams_change_no_exit_code(gate: GateRunner, command: str, closed: str) -> None:
    ended = gate(command, prefix=("sh", "-c", f'exec "$@" {closed}', "sh"))
    assert ended.code == (2 if command == "fly" else 0)
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("migrating", ["", "1"])
def test_no_file_descriptor_leaks_to_the_server(gate: GateRunner, project: Project, migrating: str) -> None:
    if migrating:
        project.add("a4", "a3")
    ended = gate("run", "--", sys.executable, "-c", LIST_DESCRIPTORS, RUN_MIGRATIONS=migrating)
    # The descriptor by which the folder itself was listed is closed by the time it is checked.
    assert {number for number, is_open in json.loads(ended.out).items() if is_open} == {"0", "1", "2"}


def test_no_connection_stays_while_the_server_runs(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    project.add("a4", "a3")
    server = gate.start("run", "--", "sh", "-c", "echo up; exec sleep 60", RUN_MIGRATIONS="1")
    server.await_output("up")
    assert database.backends() == []


def test_nothing_of_gate_stays_in_memory(gate: GateRunner) -> None:
    ended = gate("run", "--", "cat", "/proc/self/maps")
    assert "python" not in ended.out


@pytest.mark.parametrize("code", [1, 42, 255])
def test_the_servers_exit_code_arrives(gate: GateRunner, code: int) -> None:
    assert gate("run", "--", "sh", "-c", f"exit {code}").code == code


def test_the_signal_that_kills_the_server_arrives(gate: GateRunner) -> None:
    assert gate("run", "--", "sh", "-c", "kill -9 $$").code == -signal.SIGKILL


def test_a_signal_after_the_hand_over_is_the_servers(gate: GateRunner) -> None:
    server = gate.start("run", "--", "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done")
    server.await_output("up")
    server.signal(signal.SIGTERM)
    assert server.wait().code == 9


@pytest.mark.parametrize("command", ["no-such-command", "/no/such/command", ""])
def test_a_command_that_does_not_exist_is_127(gate: GateRunner, command: str) -> None:
    ended = gate("run", "--", command)
    assert ended.code == 127
    assert repr(command) in ended.failure
    assert "not found" in ended.failure


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/etc/passwd", 126)])
def test_nothing_is_migrated_for_a_command_that_cannot_be_started(
    gate: GateRunner, database: TestDatabase, command: str, code: int
) -> None:
    database.stamp("a1")
    ended = gate("run", "--", command, RUN_MIGRATIONS="1")
    assert ended.code == code
    assert ended.names() == ["gate.failed"]
    assert database.stamped() == {"a1"}


@pytest.mark.parametrize("words", [["gate", "migrate"], ["gate", "check"], ["alembic", "upgrade", "heads"]])
def test_a_command_that_manages_the_schema_is_started_at_once(
    gate: GateRunner, database: TestDatabase, words: list[str]
) -> None:
    # `docker run IMAGE gate migrate` in an image whose entrypoint is gate: waiting would be for itself.
    database.stamp("a1")
    ended = gate("run", "--", *words, PATH=OWN_PATH)
    assert ended.names()[0] == "gate.starting"
    assert ended.code == (1 if "check" in words else 0)
    assert database.stamped() == ({"a1"} if "check" in words else {"a3"})


OWN_PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
"""A PATH that leads to the console script of this gate."""


@pytest.mark.parametrize("own_name", ["gate", "entry"])
@pytest.mark.parametrize("options", [[], ["-n", "alembic"], ["--name=alembic"]])
def test_gate_knows_itself_by_its_file_whatever_link_or_option_comes_before(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, own_name: str, options: list[str]
) -> None:
    database.stamp("a1")
    link = tmp_path / own_name
    link.symlink_to(Path(sys.executable).parent / "gate")
    ended = gate("run", "--", str(link), *options, "heads")
    assert (ended.code, ended.out, ended.names()) == (0, "a3\n", ["gate.starting"])


@pytest.mark.parametrize("words", [["run", "--", *SERVER], ["wait"], ["-n", "alembic", "run", "--", *SERVER]])
def test_a_nested_gate_that_starts_or_admits_a_server_is_checked_first(
    gate: GateRunner, database: TestDatabase, words: list[str]
) -> None:
    database.stamp("a1")
    ended = gate("run", "--", "gate", *words, PATH=OWN_PATH, GATE_TIMEOUT="0.5")
    assert (ended.code, ended.out) == (124, "")
    assert "gate.starting" not in ended.names()


def test_each_of_two_nested_gates_checks_its_own_history(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    ini = (project.folder / "alembic.ini").read_text()
    (project.folder / "alembic.ini").write_text(ini.replace("[alembic]", "[a]") + ini.replace("[alembic]", "[b]"))
    words = ("run", "-n", "a", "--", "gate", "run", "-n", "b", "--", *SERVER)
    database.stamp("a3")
    passed = gate(*words, PATH=OWN_PATH)
    assert (passed.code, passed.out) == (0, "server started\n")
    assert passed.names().count("gate.current") == passed.names().count("gate.starting") == 2
    database.stamp("a1")
    behind = gate(*words, PATH=OWN_PATH, GATE_TIMEOUT="0.5")
    assert (behind.code, behind.out, behind.names().count("gate.starting")) == (124, "", 0)


@pytest.mark.parametrize("name", ["gate", "alembic-server"])
@pytest.mark.parametrize("word", ["serve", "migrate", "check"])
@pytest.mark.parametrize("on_path", [True, False])
def test_another_program_of_that_name_is_a_server_like_any_other(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, name: str, word: str, *, on_path: bool
) -> None:
    database.stamp("a1")
    program = script(tmp_path / name, "#!/bin/sh\necho server started\n", 0o755)
    path = f"{tmp_path}:{OWN_PATH}"
    ended = gate("run", "--", name if on_path else program, word, PATH=path, GATE_TIMEOUT="0.5")
    assert (ended.code, ended.out) == (124, "")


def test_a_command_is_found_as_exec_finds_it(gate: GateRunner, database: TestDatabase, tmp_path: Path) -> None:
    database.stamp("a3")
    for folder in ("first", "second", "third"):
        (tmp_path / folder).mkdir()
    (tmp_path / "first" / "serve").mkdir()
    script(tmp_path / "second" / "serve", "no right to execute it", 0o644)
    script(tmp_path / "third" / "serve", "#!/bin/sh\necho served\n", 0o755)
    path = ":".join(str(tmp_path / folder) for folder in ("first", "second", "third"))
    assert gate("run", "--", "serve", PATH=path).out == "served\n"
    assert gate("run", "--", "serve", PATH=path.rpartition(":")[0]).code == 126


def test_a_folder_that_may_not_be_searched_is_126_and_not_a_wrong_path(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    if os.geteuid():
        pytest.skip("only root can give a folder away and start gate without its rights over it")
    database.stamp("a3")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    program = script(hidden / "serve", "#!/bin/sh\n", 0o755)
    hidden.chmod(0o700)
    os.chown(hidden, 65534, 65534)
    ordinary = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    for command, path in ((program, os.environ["PATH"]), ("serve", f"{hidden}:{os.environ['PATH']}")):
        ended = gate("run", "--", command, prefix=ordinary, PATH=path)
        assert (ended.code, "Permission denied" in ended.failure) == (126, True)


def script(path: Path, text: str, mode: int) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_command_that_cannot_be_executed_is_126(gate: GateRunner, tmp_path: Path) -> None:
    commands = {
        script(tmp_path / "no_right", "#!/bin/sh\n", 0o644): "Permission denied",
        script(tmp_path / "no_interpreter", "#!/no/such/interpreter\n", 0o755): "interpreter",
        script(tmp_path / "no_format", "neither script nor program", 0o755): "Exec format error",
        str(tmp_path): "Permission denied",
    }
    for command, why in commands.items():
        ended = gate("run", "--", command)
        assert ended.code == 126, command
        assert command in ended.failure
        assert why in ended.failure
