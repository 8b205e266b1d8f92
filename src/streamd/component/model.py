"""The base of everything a user writes in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Frozen; unknown fields are refused. Each field has a description, an example, its unit in its type or name.

    `hints`: what to write in place of a key that there is not, and that people may try.
    """

    hints: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
