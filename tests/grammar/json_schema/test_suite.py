"""The official JSON Schema Test Suite, all groups whose keywords are supported, through the evaluator."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from grammar.errors import ConstraintError, UnsatisfiableConstraint, UnsupportedConstraint
from grammar.json_schema.normal import Normal
from grammar.json_schema.strings import Strings
from grammar.json_schema.values import accepts

DATA = Path(__file__).parents[3].parent / "shared" / "data"
SUITE = DATA / "json_schema_test_suite.jsonl.gz"
REMOTES = DATA / "json_schema_test_suite_remotes.json.gz"
SCHEMAS = {
    "draft4": "http://json-schema.org/draft-04/schema#",
    "draft6": "http://json-schema.org/draft-06/schema#",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
NOT_ASKED = (
    "optional/format",  # formats are annotations here
    "format",
    "optional/dependencies-compatibility",  # the drafts that dropped the keyword read it as an annotation
    "optional/content",  # annotations, as later drafts say
    "optional/zeroTerminatedFloats",  # about spellings, which a decoded value has lost
)
pytestmark = pytest.mark.skipif(not SUITE.exists(), reason=f"the JSON Schema Test Suite is not at {SUITE}")


@pytest.mark.parametrize("draft", SCHEMAS)
def test_suite(draft: str) -> None:
    remotes = json.loads(gzip.open(REMOTES, "rt", encoding="utf-8").read())
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    for line in gzip.open(SUITE, "rt", encoding="utf-8"):
        group = json.loads(line)
        if group["draft"] != draft or group["file"].startswith(NOT_ASKED):
            continue
        outcome = judge(draft, group, remotes, wrong)
        outcomes[outcome] += 1
    print(draft, dict(outcomes))
    assert not wrong, "\n".join(wrong)
    assert outcomes["right"] > 100


def judge(draft: str, group: dict[str, Any], remotes: dict[str, Any], wrong: list[str]) -> str:
    """How the group fares; every verdict that is not the suite's is added to ``wrong``, unless a valid value is left
    out for a reason that the form gives."""
    schema, tests, name = group["schema"], group["tests"], f"{group['file']}: {group['group']}"
    if isinstance(schema, dict) and "$schema" not in schema:
        schema = {"$schema": SCHEMAS[draft], **schema}
    strings = Strings([True] * 256, fuel=100_000)
    try:
        form = Normal(
            schema, formats="annotate", registry=remotes, string_productive=strings.productive, matches=strings.matches
        )
    except UnsupportedConstraint:
        return "refused"
    except UnsatisfiableConstraint as error:
        wrong += [f"{name}: refused, {error}" for test in tests if test["valid"]]
        return "unsatisfiable"
    except ConstraintError as error:
        wrong.append(f"{name}: {error}")
        return "malformed"
    narrowed = False
    for test in tests:
        verdict = accepts(form, form.root, test["data"])
        if test["valid"] and not verdict and form.reasons:
            narrowed = True
        elif verdict != test["valid"]:
            wrong.append(f"{name}: {test['description']} should be {test['valid']}")
    return "narrowed" if narrowed else "right"
