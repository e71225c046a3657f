"""The OpenAPI document as the fuzzer wants it before any service runs: there is one test for each call."""

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings

from service.app import create_app
from service.lifespan import lifespan
from service.server import ROUTERS
from service.settings import load_settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 0)
"""How many of each kind to take, and new ones each time; 0: few, and always the same."""

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
    """Settings of a test with `examples`, or as many as were asked for, and `steps` in a story."""
    return settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=steps,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
