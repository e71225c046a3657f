"""The OpenAPI document for the fuzzer, loaded before any service runs: each call has its own test."""

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings

from service.app import create_app
from service.lifespan import lifespan
from service.server import ROUTERS
from service.settings import load_settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 0)
"""How many new examples to take of each kind; 0 takes few, always the same."""

APPLICATION = create_app(load_settings(), lifespan, ROUTERS)
DOCUMENT: dict[str, Any] = APPLICATION.openapi()

_config = schemathesis.Config.from_dict(
    {
        "generation": {"deterministic": not EXAMPLES},
        "checks": {
            "positive_data_acceptance": {"enabled": False},  # see test_api
            "negative_data_rejection": {"expected-statuses": ["4xx"]},
        },
    }
)
calls = schemathesis.openapi.from_dict(DOCUMENT, config=_config)


def looked_for(examples: int, steps: int = 6) -> settings:
    """Return the settings of a test with so many examples, unless EXAMPLES is set, and `steps` per story."""
    return settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=steps,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
