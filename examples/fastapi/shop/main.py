"""A small shop. Run it with `uvicorn shop.main:app`."""

from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.routing import Route

from gate.asgi import Ready
from shop.database import engine
from shop.models import Item

ready = Ready(engine())
app = FastAPI(title="shop", lifespan=ready.lifespan)
app.router.routes.append(Route("/health/ready", ready))


@app.get("/health")
def health() -> dict[str, str]:
    """Liveness: the process answers. It must not query the database, whose restart would kill every container."""
    return {"status": "ok"}


@app.get("/items")
def items() -> list[dict[str, object]]:
    with Session(engine()) as session:
        rows = session.scalars(select(Item).order_by(Item.id))
        return [{"name": item.name, "price": str(item.price), "stock": item.stock} for item in rows]
