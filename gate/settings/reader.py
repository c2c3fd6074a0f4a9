"""One variable's text -> its value, or a mistake that says how it must be written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from gate import redaction
from gate.errors import BadSettings
from gate.settings import database_url
from gate.settings.database_url import UrlSource
from gate.settings.variables import KNOWN, SETTINGS, similar_settings
from gate.text import is_text

_T = TypeVar("_T")
TRUE = frozenset({"1", "true", "yes", "on"})
MAX_SECONDS = 10.0**9
"""Seconds, 31 years: what every clock and thread can count."""

MAX_QUERY_SECONDS = 86400.0
"""Seconds: libpq counts milliseconds in 31 bits."""

MAX_PORT_DIGITS = 5
"""Digits."""

FALSE = frozenset({"0", "false", "no", "off"})


class Reader:
    """Reads variable by variable, and keeps every mistake."""

    def __init__(self, environment: Mapping[str, str], flags: Mapping[str, str]) -> None:
        self._environment = environment
        self._flags = flags
        self._mistakes: list[str] = []

    def text(self, variable: str) -> str | None:
        """The text, None if it is unset or empty; a flag wins over the variable."""
        value = self._flags.get(variable, self._environment.get(variable, ""))
        return value.strip() or None

    def name(self, variable: str) -> str | None:
        """A name that can be sent to a server."""
        name = self.text(variable)
        if name is not None and not is_text(name):
            self._mistake(variable, "must be UTF-8 text")
        return name

    def switch(self, variable: str) -> bool:
        """On or off."""
        value = (self.text(variable) or "off").lower()
        if value not in TRUE | FALSE:
            self._mistake(variable, "must be 1, true, yes or on, or 0, false, no or off")
        return value in TRUE

    def seconds(self, variable: str, default: _T, least: float = 0, most: float = MAX_SECONDS) -> float | _T:
        """A number of seconds within bounds."""
        text = self.text(variable)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (least <= value <= most):
            until = "on" if most == MAX_SECONDS else f"to {most:.0f}"
            self._mistake(variable, f"must be a number of seconds from {least:g} {until}, such as 30 or 2.5")
        return value

    def choice(self, variable: str, words: str) -> str:
        """One of these words, the first if none is given."""
        known = words.split()
        value = (self.text(variable) or known[0]).lower()
        if value not in known:
            self._mistake(variable, f"must be one of {', '.join(known)}")
            return known[0]
        return value

    def address(self, variable: str) -> tuple[str, int] | None:
        """`[host]:port`."""
        text = self.text(variable)
        if text is None:
            return None
        found = listening_address(text)
        if found is None:
            self._mistake(variable, "must be [host]:port, such as :8000 or 127.0.0.1:8000")
        return found

    def path(self, variable: str, default: str) -> str:
        """The path of a URL."""
        path = self.text(variable) or default
        if not path.startswith("/"):
            self._mistake(variable, "must be a path that begins with /")
        return path

    def words(self, variable: str) -> tuple[str, ...]:
        """Words as a shell splits them."""
        text = self.text(variable)
        if text is None:
            return ()
        import shlex  # noqa: PLC0415 - few give any

        try:
            return tuple(shlex.split(text))
        except ValueError as error:
            self._mistake(variable, f"cannot be split into words as a shell does ({error})")
            return ()

    def url(self, variable: str) -> UrlSource | None:
        """A database URL, or the file that holds it."""
        text, path = self.text(variable), self.text(f"{variable}_FILE")
        if text and path:
            self._mistakes.append(f"{variable} and {variable}_FILE are both set; unset one of them.")
        elif path:
            return UrlSource(f"{variable}_FILE", path=path)
        elif text:
            return self._checked_url(variable, text)
        return None

    def _checked_url(self, variable: str, text: str) -> UrlSource:
        try:
            database_url.parse(text, variable)
        except BadSettings as error:
            self._mistakes.append(str(error))
        return UrlSource(variable, text)

    def look_for_misspellings(self) -> None:
        """An unknown GATE_ name that is one edit away from a known one is a mistake."""
        for variable in sorted(self._environment):
            if variable.startswith("GATE_") and variable not in KNOWN and self._environment[variable].strip():
                mistakes = (f"{variable} is no setting; do you mean {meant}?" for meant in similar_settings(variable))
                self._mistakes.extend(mistakes)

    def complain(self) -> None:
        """Raise `BadSettings` with every mistake."""
        if self._mistakes:
            raise BadSettings(*self._mistakes)

    def _mistake(self, variable: str, rule: str) -> None:
        flag = next((s.flag for s in SETTINGS if s.variable == variable), "")
        name = flag if variable in self._flags else variable
        value = self.text(variable) or ""
        self._mistakes.append(f"{name} {rule}; it is {redaction.hide(value)[:40]!r}.")


def listening_address(text: str) -> tuple[str, int] | None:
    """`[host]:port` as host ("" = every address) and port; None if it is not one."""
    host, _, port = text.strip().rpartition(":")
    is_port = port.isdecimal() and len(port) <= MAX_PORT_DIGITS and 0 < int(port) < 1 << 16
    return (host.strip("[]"), int(port)) if is_port else None
