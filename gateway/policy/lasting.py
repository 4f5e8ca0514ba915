"""What of a policy goes on holding for what was said under it, once that is stored and a later request goes on from it.

Whom a request kept its texts from must not get them with the next one, whose own policy may be another. Bounds on cost,
time and quality are of one request and end with it.
"""

from __future__ import annotations

from schemas.policy import Policy, Rules

LASTING = (
    "local_only",
    "self_hosted_only",
    "no_training",
    "zero_retention",
    "regions",
    "pii",
    "allow_providers",
    "deny_providers",
    "allow_models",
    "deny_models",
)
"""The rules about who may see a text."""


def lasting(rules: Rules) -> Policy:
    return Policy(**{name: getattr(rules, name) for name in LASTING})
