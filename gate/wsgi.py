"""The readiness endpoint for any WSGI application; needs no framework.

With Flask::

    from gate.wsgi import Ready

    ready = Ready(engine)
    app.wsgi_app = ready.in_front_of(app.wsgi_app)
    ready.startup()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gate.process.threads import BackgroundCall
from gate.readiness.answer import READINESS_PATH
from gate.readiness.endpoint import ReadinessEndpoint

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
"""The types of WSGI (PEP 3333)."""


class Ready(ReadinessEndpoint):
    """A WSGI application that answers 200 if the schema fits, else 503 with `drift: db=… expected=…`.

    Its parameters are those of `ReadinessEndpoint`: the database, the Alembic configuration, and time-outs in seconds.
    An `AsyncEngine` needs `gate.asgi.Ready`.
    """

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, on any path."""
        try:
            readiness = self.cache.refresh(self.inspector.inspect)
            self.report_failed_check()
            answer = self.answer(readiness, environ["REQUEST_METHOD"], environ.get("HTTP_ACCEPT", ""))
        except Exception as error:  # noqa: BLE001 - a bug of gate never reaches the application
            answer = self.answer_bug(error)
        start_response(f"{int(answer.status)} {answer.status.phrase}", list(answer.headers))
        return [answer.body]

    def in_front_of(self, application: Application, path: str = READINESS_PATH) -> Application:
        """Return a WSGI application that answers `path` itself and passes all other requests on."""

        def wrapped(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            is_own = environ.get("PATH_INFO") == path
            return (self if is_own else application)(environ, start_response)

        return wrapped

    def startup(self) -> None:
        """Check once and log CRITICAL on drift. Raises nothing, and takes at most `startup_timeout` seconds.

        A server that forks its workers may do so afterwards: the check leaves no connection in the engine's pool.
        """
        try:
            check = BackgroundCall(lambda: self.inspector.inspect(detach=True))
            self.record_startup(check.result(self.startup_timeout))
        except Exception as error:  # noqa: BLE001 - the application starts, whatever the check raises
            self.record_startup_failure(error)
