"""Which cases of a test wait for ``make test-all``."""

from typing import Any

import pytest


def thorough(*cases: Any) -> list[Any]:
    """Return cases for ``parametrize`` that ``make test`` leaves out, because others of the same test are like them."""
    marks = (pytest.mark.slow, pytest.mark.thorough)
    rows = (case if isinstance(case, tuple) else (case,) for case in cases)
    return [pytest.param(*row, marks=marks) for row in rows]
