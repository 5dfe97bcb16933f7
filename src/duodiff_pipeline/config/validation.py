"""From what the YAML files say to the typed tree, or one line about what is wrong."""

from types import UnionType
from typing import Any, TypeVar

from pydantic import ValidationError

from ..errors import InputError
from .parameters import Globals, Parameters
from .settings import Settings

Tree = TypeVar("Tree", bound=Settings)


def validate(raw: dict[str, Any]) -> Parameters:
    """The typed tree; raises InputError with one line that names the first wrong key and what is allowed."""
    return _validated(Parameters, raw, "parameters")


def validate_globals(raw: dict[str, Any]) -> Globals:
    """As `validate` does for the parameters."""
    return _validated(Globals, raw, "globals")


def _validated(kind: type[Tree], raw: dict[str, Any], name: str) -> Tree:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first, *others = error.errors()
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            reason = f"unknown parameter; here stand {', '.join(_keys_beside(kind, first['loc']))}"
        else:
            reason = first["msg"].removeprefix("Value error, ") + (
                "" if first["type"] in ("missing", "value_error", "too_short") else f", not {first['input']!r}"
            )
        more = f" (and {len(others)} more)" if others else ""
        raise InputError(f"{name}: {f'{key}: ' if key else ''}{reason}{more}") from None


def _keys_beside(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed in the section of `model` that holds the key at `location`."""
    for part in location[:-1]:
        model = model.model_fields[part].annotation if part in getattr(model, "model_fields", {}) else model.__args__[1]
        if isinstance(model, UnionType):  # a section that may be null
            model, _ = model.__args__
    return sorted(model.model_fields)
