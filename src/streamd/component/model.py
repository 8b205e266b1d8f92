"""The base of everything a user writes in YAML."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Frozen; unknown fields are refused. Each field has a description, an example, its unit in its type or name."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
