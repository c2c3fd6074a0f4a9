"""Generates an application for env.py to import: FastAPI with fifty models, their schemas and routes."""

from __future__ import annotations

MODELS = 50

HEAD = '''"""A generated application."""
from datetime import datetime
from decimal import Decimal
from typing import Optional

from fastapi import APIRouter, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ForeignKey, Numeric, String, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


app = FastAPI()
'''

MODEL = """

class Model{n}(Base):
    __tablename__ = "model_{n}"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    title: Mapped[str] = mapped_column(String(200), index=True)
    amount: Mapped[Optional[Decimal]] = mapped_column(Numeric(12, 2))
    note: Mapped[Optional[str]] = mapped_column(Text)
    parent_id: Mapped[Optional[int]] = mapped_column(ForeignKey("model_{parent}.id", ondelete="CASCADE"))
    parent: Mapped[Optional["Model{parent}"]] = relationship(remote_side="Model{parent}.id")


class New{n}(BaseModel):
    title: str = Field(max_length=200)
    amount: Optional[Decimal] = None
    note: Optional[str] = None


class Read{n}(New{n}):
    model_config = ConfigDict(from_attributes=True)
    id: int
    created_at: datetime


router_{n} = APIRouter(prefix="/model-{n}", tags=["model-{n}"])


@router_{n}.get("/", response_model=list[Read{n}])
def list_{n}(limit: int = 50, offset: int = 0) -> list[Model{n}]:
    return []


@router_{n}.post("/", response_model=Read{n}, status_code=201)
def create_{n}(new: New{n}) -> Model{n}:
    return Model{n}(**new.model_dump())


@router_{n}.get("/{{id}}", response_model=Read{n})
def read_{n}(id: int) -> Model{n}:
    raise HTTPException(404)


app.include_router(router_{n})
"""


def source() -> str:
    """Return the source of the module."""
    return HEAD + "".join(MODEL.format(n=n, parent=max(n - 1, 0)) for n in range(MODELS))
