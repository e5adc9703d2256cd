"""Plain values, as files hold them, into checked dataclasses.

In: a mapping from TOML or JSON. Out: a dataclass, or one line on the field that is wrong.
"""

import dataclasses
import math
from typing import Any

from tinymemorylm.errors import InputError, shown

FORBID_UNKNOWN = {"extra": "forbid"}  # pydantic: a misspelt field is an error, not a default


def check_finite(values: Any) -> None:
    """Raises InputError for a field of dataclass `values` that is infinite or no number."""
    for field_ in dataclasses.fields(values):
        value = getattr(values, field_.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{field_.name} must be a finite number, not {value}")


def from_mapping(kind: type, values: dict[str, Any], where: str) -> Any:
    """Build dataclass `kind` from plain values. Raises InputError naming the bad field."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = shown(".".join(str(part) for part in first["loc"]))
        if first["type"] == "value_error":  # our own checks, which name the value themselves
            raise InputError(f"{where}: {first.get('ctx', {}).get('error')}") from None
        given = repr(first["input"])
        raise InputError(f"{where}: {name}: {first['msg']}, not {shown(given)}") from None
