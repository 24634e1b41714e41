"""What a parameter of a control method may be: in words, and as a test.  Knows no method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Param(NamedTuple):
    """One parameter: what is accepted, in words and as a test; ``default`` unless required."""

    expected: str
    accepts: Callable[[Any], bool]
    required: bool = True
    default: object = None
