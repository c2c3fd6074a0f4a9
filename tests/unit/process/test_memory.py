"""Memory is named as the cause only where the kernel's counters show it: of cgroup v2, of v1, or of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.process.memory import OomKills, count_oom_kills, explain_oom_kill

LIMIT = 64 << 20
V2 = "30 24 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"
V1 = "35 24 0:30 {top} /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
OTHER = "36 24 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
UNIFIED = "37 24 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"

GROUPS = {
    "v2 in a container": ("0::/\n", V2.format(top="/"), ""),
    "v2 on a host": ("0::/system.slice/x.service\n", V2.format(top="/"), "system.slice/x.service"),
    "v2 in a container that sees the host's paths": ("0::/pod/c1\n", V2.format(top="/pod/c1"), ""),
    "v2 with a path outside its mount": ("0::/../other\n", V2.format(top="/pod/c1"), ""),
    "v1 on a host": ("4:memory:/pod/c1\n0::/\n", OTHER + V1.format(top="/") + UNIFIED, "memory/pod/c1"),
    "v1 in a container": ("4:memory:/pod/c1\n0::/pod/c1\n", V1.format(top="/pod/c1"), "memory"),
    "v1 with two controllers": ("4:cpu,memory:/c1\n", V1.format(top="/"), "memory/c1"),
}


def machine(root: Path, name: str, kills: int | None) -> str:
    """A folder with what the kernel would show below /."""
    cgroup, mounts, folder = GROUPS[name]
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"1:name=systemd:/\n{cgroup}")
    (root / "proc/self/mountinfo").write_text(f"22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n{mounts}")
    (root / "proc/vmstat").write_text("nr_free_pages 1\noom_kill 7\n")
    own = root / "sys/fs/cgroup" / folder
    own.mkdir(parents=True)
    if kills is not None and name.startswith("v2"):
        (own / "memory.events").write_text(f"low 0\nmax 3\noom 1\noom_kill {kills}\noom_group_kill 0\n")
        (own / "memory.max").write_text(f"{LIMIT}\n")
    elif kills is not None:
        (own / "memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")
        (own / "memory.limit_in_bytes").write_text(f"{LIMIT}\n")
    return str(root)


@pytest.mark.parametrize("name", GROUPS)
def test_the_counter_of_the_own_cgroup_is_found(tmp_path: Path, name: str) -> None:
    assert count_oom_kills(machine(tmp_path, name, 2)) == OomKills(2, 7, LIMIT)


@pytest.mark.parametrize("name", GROUPS)
def test_without_a_counter_of_the_cgroup_the_machines_is_left(tmp_path: Path, name: str) -> None:
    assert count_oom_kills(machine(tmp_path, name, None)) == OomKills(None, 7, None)


@pytest.mark.parametrize("limit", ["max\n", "9223372036854771712\n", "", "x"])
def test_no_limit_is_none(tmp_path: Path, limit: str) -> None:
    root = machine(tmp_path, "v2 in a container", 0)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(limit)
    assert count_oom_kills(root) == OomKills(0, 7, None)


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert count_oom_kills(str(tmp_path)) == OomKills()


@pytest.mark.parametrize("line", ["", "0:", "nonsense\n", "1 2 3\n", "1 2 3 4 5 - cgroup2\n", "\x00\n"])
def test_no_form_of_proc_is_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    for name in ("cgroup", "mountinfo"):
        (tmp_path / "proc/self" / name).write_text(line)
    (tmp_path / "proc/vmstat").write_text("oom_kill\n")
    assert count_oom_kills(str(tmp_path)) == OomKills()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (OomKills(0, 3, LIMIT), OomKills(1, 4, LIMIT), "Raise the memory limit of the container, which is 64 MiB now."),
        (OomKills(0, 3), OomKills(2, 5), "Memory was the cause"),
        (OomKills(1, 3, LIMIT), OomKills(1, 3, LIMIT), ""),
        (OomKills(1, 3, LIMIT), OomKills(1, 4, LIMIT), ""),
        (OomKills(None, 3), OomKills(None, 4), "Memory is the likely cause"),
        (OomKills(None, 3), OomKills(None, 3), ""),
        (OomKills(), OomKills(), ""),
    ],
    ids=repr,
)
def test_memory_is_the_cause_only_where_a_counter_has_risen(before: OomKills, after: OomKills, expected: str) -> None:
    text = explain_oom_kill(before, after)
    assert bool(text) == bool(expected)
    assert expected in text
