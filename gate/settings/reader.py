"""The text of one variable -> its value, or an error that says which values are valid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from gate import redaction
from gate.errors import BadSettings
from gate.settings import database_url
from gate.settings.database_url import UrlSource
from gate.settings.variables import KNOWN, SETTINGS, similar_settings
from gate.text import is_text

if TYPE_CHECKING:
    from gate.settings.schema_source import SchemaSource

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})

MAX_SECONDS = 10.0**9
"""Seconds, about 31 years: within the range of every clock and of `threading.TIMEOUT_MAX`."""

MAX_QUERY_SECONDS = 86400.0
"""Seconds, one day: `tcp_user_timeout` and `statement_timeout` are numbers of milliseconds with 31 bits."""

MAX_COUNT = 1_000_000
"""The largest number of repetitions."""

MAX_PORT_DIGITS = 5
MAX_SHOWN_LENGTH = 40
"""Characters of an invalid value that an error message shows."""

_T = TypeVar("_T")


class Reader:
    """Reads one variable at a time and collects the errors, so that `raise_errors` reports all of them together."""

    def __init__(self, environment: Mapping[str, str], flags: Mapping[str, str]) -> None:
        self._environment = environment
        self._flags = flags
        self._errors: list[str] = []

    def text(self, variable: str) -> str | None:
        """Return the stripped text, None if it is unset or empty; a flag overrides the variable."""
        value = self._flags.get(variable, self._environment.get(variable, ""))
        return value.strip() or None

    def identifier(self, variable: str) -> str | None:
        """Return the name of a database object."""
        name = self.text(variable)
        if name is not None and not is_text(name):
            self._add_error(variable, "must be UTF-8 text")
        return name

    def boolean(self, variable: str) -> bool:
        """Return whether a switch is on; unset means off."""
        value = (self.text(variable) or "off").lower()
        if value not in TRUE | FALSE:
            self._add_error(variable, "must be one of 1, true, yes, on, 0, false, no, off")
        return value in TRUE

    def seconds(self, variable: str, default: _T, minimum: float = 0, maximum: float = MAX_SECONDS) -> float | _T:
        """Return a number of seconds from `minimum` to `maximum`."""
        text = self.text(variable)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (minimum <= value <= maximum):
            bounds = f"at least {minimum:g}" if maximum == MAX_SECONDS else f"from {minimum:g} to {maximum:.0f}"
            self._add_error(variable, f"must be a number of seconds, {bounds}")
        return value

    def count(self, variable: str, default: int) -> int:
        """Return a whole number from 0 to `MAX_COUNT`."""
        text = self.text(variable)
        if text is None:
            return default
        if text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_COUNT)) and int(text) <= MAX_COUNT:
            return int(text)
        self._add_error(variable, f"must be a whole number from 0 to {MAX_COUNT}")
        return default

    def choice(self, variable: str, words: str) -> str:
        """Return one of the words, in lower case; the first is the default."""
        choices = words.split()
        value = (self.text(variable) or choices[0]).lower()
        if value not in choices:
            self._add_error(variable, f"must be one of {', '.join(choices)}")
            return choices[0]
        return value

    def address(self, variable: str) -> tuple[str, int] | None:
        """Return the host ("" = all addresses) and the port of `[host]:port`."""
        text = self.text(variable)
        if text is None:
            return None
        address = parse_address(text)
        if address is None:
            self._add_error(variable, "must be [host]:port, such as :8000 or 127.0.0.1:8000")
        return address

    def url_path(self, variable: str, default: str) -> str:
        """Return the path of a URL."""
        path = self.text(variable) or default
        if not path.startswith("/"):
            self._add_error(variable, "must be a path that begins with /")
        return path

    def schemas(self, variable: str) -> SchemaSource | None:
        """Return which schemas the setting asks for."""
        text = self.identifier(variable)
        if text is None:
            return None
        from gate.settings.schema_source import SchemaSource  # noqa: PLC0415 - most images have one version table

        try:
            return SchemaSource.parse(text)
        except ValueError as error:
            self._errors.append(f"{self._name(variable)} {redaction.hide(str(error))}.")
            return None

    def argument_name(self, variable: str, default: str) -> str:
        """Return the name of an argument of the form NAME=VALUE."""
        name = self.text(variable) or default
        if "=" in name or any(map(str.isspace, name)):
            self._add_error(variable, "must be a name without `=` and spaces")
        return name

    def command(self, variable: str) -> tuple[str, ...]:
        """Return a command, split into words with the rules of a POSIX shell."""
        text = self.text(variable)
        if text is None:
            return ()
        import shlex  # noqa: PLC0415 - few deployments set a command

        from gate.settings.secret_sources import secrets_in_command  # noqa: PLC0415 - likewise

        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            redaction.remember(secrets_in_command(text.split()))
            self._add_error(variable, f"cannot be split into words as a shell does ({error})")
            return ()
        redaction.remember(secrets_in_command(words))
        return words

    def url(self, variable: str) -> UrlSource | None:
        """Return a database URL, or the path of the file that contains it (`…_FILE`)."""
        text, path = self.text(variable), self.text(f"{variable}_FILE")
        if text and path:
            self._errors.append(f"{variable} and {variable}_FILE are both set; unset one of them.")
        elif path:
            return UrlSource(f"{variable}_FILE", path=path)
        elif text:
            return self._checked_url(variable, text)
        return None

    def _checked_url(self, variable: str, text: str) -> UrlSource:
        try:
            database_url.parse(text, variable)
        except BadSettings as error:
            self._errors.append(str(error))
        return UrlSource(variable, text)

    def reject_both(self, one: str, other: str) -> None:
        """Add an error if two settings are given that exclude each other."""
        if self.text(one) and self.text(other):
            self._errors.append(f"{self._name(one)} and {self._name(other)} exclude each other; unset one of them.")

    def reject_misspelled(self) -> None:
        """Add an error for each unknown GATE_ variable that is one edit away from a setting.

        Other unknown variables are ignored: Kubernetes sets GATE_PORT and others for a Service that is called `gate`.
        """
        for variable in sorted(self._environment):
            if variable.startswith("GATE_") and variable not in KNOWN and self._environment[variable].strip():
                similar = similar_settings(variable)
                self._errors.extend(f"{variable} is not a setting; did you mean {name}?" for name in similar)

    def raise_errors(self) -> None:
        """Raise `BadSettings` with one line for each error."""
        if self._errors:
            raise BadSettings(*self._errors)

    def _add_error(self, variable: str, rule: str) -> None:
        value = redaction.hide(self.text(variable) or "")[:MAX_SHOWN_LENGTH]
        self._errors.append(f"{self._name(variable)} {rule}; got {value!r}.")

    def _name(self, variable: str) -> str:
        """Return the flag if the setting is given by one, else the variable."""
        flag = next((setting.flag for setting in SETTINGS if setting.variable == variable), "")
        return flag if variable in self._flags else variable


def parse_address(text: str) -> tuple[str, int] | None:
    """Parse `[host]:port` into host ("" = all addresses) and port; return None if the text is invalid."""
    host, _, port = text.strip().rpartition(":")
    is_port = port.isdecimal() and len(port) <= MAX_PORT_DIGITS and 0 < int(port) < 1 << 16
    return (host.strip("[]"), int(port)) if is_port else None
