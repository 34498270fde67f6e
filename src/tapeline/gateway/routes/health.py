"""Whether it is alive."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

root = APIRouter()


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"status": "ok"}})

    status: Literal["ok"] = "ok"


@root.get("/healthz", summary="Whether the process answers")
async def alive() -> Alive:
    """Always ``ok`` while the process runs; whether it can work is told by ``/readyz``."""
    return Alive()
