"""A process that can open no network or socket connection: the kernel refuses `connect`, also to what it starts."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
from typing import NamedTuple

REFUSED_CONNECTION = errno.ENONET
"""The errno of a refused connection. No network returns it, so an error that carries it has this one cause."""

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
"""linux/prctl.h, linux/seccomp.h; a filter needs no privilege once the process can gain none (seccomp(2))."""

MSG_FASTOPEN = 0x20000000
"""With this flag a send also connects (TCP Fast Open, linux/socket.h)."""

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Instructions of classic BPF (linux/bpf_common.h): load a word, three conditional jumps, and return."""

NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in `struct seccomp_data` (linux/seccomp.h)."""

ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000
"""SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO, to which the errno is added."""

X32 = 0x40000000
"""System call numbers from here on are those of a second ABI on x86-64."""


class CallNumbers(NamedTuple):
    """The numbers of the system calls on one machine; `audit`: its AUDIT_ARCH constant (linux/audit.h)."""

    audit: int
    connect: int
    sendto: int
    sendmsg: int
    sendmmsg: int

    @property
    def sends(self) -> tuple[tuple[int, int], ...]:
        """The calls that send, each with the position of its argument `flags`."""
        return (self.sendto, 3), (self.sendmsg, 2), (self.sendmmsg, 3)


IO_URING_SETUP = 425
"""The same number on every machine. A ring connects without the system call, so no ring may be made."""

GENERIC = (203, 206, 211, 269)
"""asm-generic/unistd.h"""

MACHINES = {
    "x86_64": CallNumbers(0xC000003E, 42, 44, 46, 307),
    "aarch64": CallNumbers(0xC00000B7, *GENERIC),
    "riscv64": CallNumbers(0xC00000F3, *GENERIC),
}
"""`os.uname().machine` -> its numbers; all of them are little-endian, so an argument's lower half comes first."""


def forbid_connections() -> None:
    """Let every further `connect` of this process and its descendants fail with `REFUSED_CONNECTION`, irrevocably.

    Call it while the process has one thread: a filter belongs to the thread, and is inherited. Raises `OSError` where
    the kernel offers no such filter, or ignores it.
    """
    calls = MACHINES.get(os.uname().machine) if sys.maxsize > 1 << 32 else None
    if calls is None:
        raise OSError(errno.ENOSYS, f"gate has no filter for {os.uname().machine}")
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in _filter(calls))
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header)
    _verify()


def _filter(calls: CallNumbers) -> list[tuple[int, int, int, int]]:
    """Return the instructions: code, instructions to skip if true, if false, and the operand."""
    refuse, absent, allow = (
        (RETURN, 0, 0, FAIL_WITH | REFUSED_CONNECTION),
        (RETURN, 0, 0, FAIL_WITH | errno.ENOSYS),
        (RETURN, 0, 0, ALLOW),
    )
    sends = [
        instruction
        for number, flags in calls.sends
        for instruction in (
            (EQUAL, 0, 4, number),
            (LOAD, 0, 0, ARGUMENTS + 8 * flags),
            (ANY_BIT, 0, 1, MSG_FASTOPEN),
            refuse,
            allow,
        )
    ]
    return [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, calls.audit),
        refuse,
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, X32),
        absent,
        (EQUAL, 0, 1, calls.connect),
        refuse,
        (EQUAL, 0, 1, IO_URING_SETUP),
        absent,
        *sends,
        allow,
    ]


def _prctl(option: int, value: int, pointer: bytes | None = None) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_ulong(value), ctypes.c_char_p(pointer), ctypes.c_ulong(0), ctypes.c_ulong(0))
    if library.prctl(ctypes.c_int(option), *arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _verify() -> None:
    """Raise `OSError` unless a connection is refused: an emulated kernel may accept the filter and ignore it."""
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(f"\0gate/{os.getpid()}") != REFUSED_CONNECTION:
            raise OSError(errno.ENOSYS, "the kernel accepts a filter and ignores it")
