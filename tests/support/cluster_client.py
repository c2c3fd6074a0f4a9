"""Requests a path all the time until standard input ends, then prints the answers and the failures as JSON.

Each request has a connection of its own, so that each may reach another pod. Before that it waits until the Service
forwards to its pods, which kube-proxy may do some seconds after they are ready, and prints a line.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import count

CONNECTIONS = 4
REQUEST_TIMEOUT = 30.0
"""Seconds. A request that a busy machine answers late is not lost."""

PAUSE = 0.02

ANSWERS_AT_FIRST = 20
"""So many answers in a row show that the Service forwards to all of its pods."""

READY_TIMEOUT = 60.0
"""Seconds."""

FIRST_PORT = 20_000
"""The source port of the first request, below those that the kernel chooses; each that follows has the next one.

A connection that begins before kube-proxy has its rules goes to the default route. The kernel remembers it for the two
minutes of nf_conntrack_tcp_timeout_syn_sent: until then every other one from the same port goes there too, and fails
with EHOSTUNREACH. The kernel chooses a port again after less than a minute here.
"""


def ask(address: str, path: str, ended: threading.Event, answers: Counter[str], failures: list[str]) -> None:
    while not ended.wait(PAUSE):
        began, clock = time.strftime("%H:%M:%S"), time.monotonic()
        status, body = request(address, path)
        if status == HTTPStatus.OK:
            answers[body] += 1
        else:
            failures.append(f"{began}, {time.monotonic() - clock:.1f} s: {status} {body}")


def request(address: str, path: str, port: int = 0) -> tuple[int, str]:
    """Return status and body of an answer, or 0 and the error. `port`: the source port, 0 = the kernel chooses it."""
    connection = HTTPConnection(address, 80, timeout=REQUEST_TIMEOUT, source_address=("", port) if port else None)
    phase = "connecting"
    try:
        connection.connect()
        phase = "connected"
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, HTTPException) as error:
        return 0, f"{phase}: {error!r}"
    finally:
        connection.close()


def await_service(address: str, path: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT
    ports, in_a_row = count(FIRST_PORT), 0
    while in_a_row < ANSWERS_AT_FIRST and time.monotonic() < deadline:
        time.sleep(PAUSE)
        in_a_row = in_a_row + 1 if request(address, path, next(ports))[0] == HTTPStatus.OK else 0


def main() -> None:
    address, path = sys.argv[1:]
    await_service(address, path)
    sys.stdout.write("asks\n")
    sys.stdout.flush()
    ended, answers, failures = threading.Event(), Counter[str](), list[str]()
    threads = [threading.Thread(target=ask, args=(address, path, ended, answers, failures)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    json.dump({"answers": answers, "failures": failures}, sys.stdout)


if __name__ == "__main__":
    main()
