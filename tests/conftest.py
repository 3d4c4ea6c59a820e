"""Hypothesis profiles: `ci` for every run, `fuzz` for `make fuzz`; HYPOTHESIS_PROFILE names one.

No deadline in either: tests do not time (the machine is shared), pytest-timeout ends what hangs. A failure prints the blob that
repeats it.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

CI_EXAMPLES = 150
FUZZ_EXAMPLES = 10 * CI_EXAMPLES

# too_slow: building a mutated vector of some kilobytes is the test, not an accident.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("ci", max_examples=CI_EXAMPLES, deadline=None, print_blob=True, suppress_health_check=_SLOW)
settings.register_profile("fuzz", max_examples=FUZZ_EXAMPLES, deadline=None, print_blob=True, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
