"""How random tests draw their cases: without hurry everywhere, and the same ones each time where CI is set.

New cases are hunted for by people: ``pytest tests/decide/test_lives.py --hypothesis-seed=N``.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import engine

# A loaded machine may pause anywhere, which says nothing of what is tested.
settings.register_profile(
    "people", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
# A case that fails there fails everywhere with CI=1, so it is made short by whoever mends it.
settings.register_profile(
    "ci", settings.get_profile("people"), derandomize=True, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("ci" if os.environ.get("CI") else "people")
engine.MAX_SHRINKING_SECONDS = 20  # of five minutes; the whole test is given two
