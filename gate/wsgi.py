"""`GET /health/ready` for any WSGI application.

Flask::

    ready = Ready(engine)
    app.wsgi_app = ready.in_front_of(app.wsgi_app)
    ready.startup()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gate.process.threads import BackgroundCall
from gate.readiness.endpoint import ReadinessEndpoint

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

PATH = "/health/ready"


class Ready(ReadinessEndpoint):
    """A WSGI endpoint that answers 200, or 503 with `drift: db=… expected=…`."""

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, on whatever path this is mounted."""
        readiness = self.cache.fresh(self.inspector.inspect)
        found = self.answer(readiness, environ["REQUEST_METHOD"], environ.get("HTTP_ACCEPT", ""))
        start_response(f"{int(found.status)} {found.status.phrase}", list(found.headers))
        return [found.body]

    def in_front_of(self, application: Application, path: str = PATH) -> Application:
        """Wrap any WSGI application: this path is answered here, all else goes on."""

        def wrapped(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            here = environ.get("PATH_INFO") == path
            return (self if here else application)(environ, start_response)

        return wrapped

    def startup(self) -> None:
        """Look once and log CRITICAL on drift; never raises, never takes longer than `startup_timeout`."""
        try:
            looking = BackgroundCall(lambda: self.inspector.inspect(detach=True))
            self.told_at_start(looking.result(self.startup_timeout))
        except Exception as error:  # noqa: BLE001 - advisory: the application starts whatever this finds
            self.failed_at_start(error)
