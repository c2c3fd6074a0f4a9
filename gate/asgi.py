"""`GET /health/ready` for any ASGI application, without a framework.

FastAPI::

    ready = Ready(engine)
    app = FastAPI(lifespan=ready.lifespan)
    app.router.routes.append(Route("/health/ready", ready))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gate.readiness.answer import PATH, Application, Readiness, Receive, Scope, Send
from gate.readiness.endpoint import ReadinessEndpoint


class Ready(ReadinessEndpoint):
    """An ASGI endpoint that answers 200, or 503 with `drift: db=… expected=…`."""

    async def refreshed(self) -> Readiness:
        """The verdict, after a look if one is due."""
        if self.inspector.is_async:
            return await self.cache.afresh_by(self.inspector.ainspect)
        return await self.cache.afresh(self.inspector.inspect)

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Answer one request, on whatever path this is mounted."""
        if scope["type"] != "http":
            return
        readiness = await self.refreshed()
        accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
        found = self.answer(readiness, scope["method"], accept)
        headers = [(name.encode(), value.encode()) for name, value in found.headers]
        await send({"type": "http.response.start", "status": int(found.status), "headers": headers})
        await send({"type": "http.response.body", "body": found.body})

    def in_front_of(self, application: Application, path: str = PATH) -> Application:
        """Wrap any ASGI application: this path is answered here, all else goes on."""

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            here = scope["type"] == "http" and scope["path"] == path
            await (self if here else application)(scope, receive, send)

        return wrapped

    async def startup(self) -> None:
        """Look once and log CRITICAL on drift; never raises, never takes longer than `startup_timeout`."""
        try:
            seen = await asyncio.wait_for(self.inspector.ainspect(detach=True), self.startup_timeout)
            self.told_at_start(seen)
        except Exception as error:  # noqa: BLE001 - advisory: the application starts whatever this finds
            self.failed_at_start(error)

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """A lifespan that does nothing but `startup`."""
        await self.startup()
        yield
