"""What all sections of the parameters have in common."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

Items = TypeVar("Items", bound=Sequence[object])


class Settings(BaseModel):
    """Frozen; unknown keys are refused, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _each_once(items: Items) -> Items:
    for i, item in enumerate(items):
        if item in items[:i]:
            raise ValueError(f"{item} stands twice in {list(items)}")
    return items


Distinct = AfterValidator(_each_once)
"""No item stands twice."""
