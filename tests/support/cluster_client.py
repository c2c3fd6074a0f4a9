"""Requests a path all the time until standard input ends, then prints the answers and the failures as JSON.

Each request has a connection of its own, so that each may reach another pod.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

CONNECTIONS = 4
REQUEST_TIMEOUT = 30.0
"""Seconds. A request that a busy machine answers late is not lost."""

PAUSE = 0.02


def ask(address: str, path: str, ended: threading.Event, answers: Counter[str], failures: list[str]) -> None:
    while not ended.wait(PAUSE):
        began = time.strftime("%H:%M:%S")
        connection = HTTPConnection(address, 80, timeout=REQUEST_TIMEOUT)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read().decode()
        except (OSError, HTTPException) as error:
            failures.append(f"{began} {error!r}")
        else:
            if answer.status == HTTPStatus.OK:
                answers[body] += 1
            else:
                failures.append(f"{began} {answer.status} {body}")
        finally:
            connection.close()


def main() -> None:
    address, path = sys.argv[1:]
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
