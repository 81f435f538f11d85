"""Licences as people write them."""

from collections.abc import Callable

import pytest

from residency.platform.records import Item
from residency.synthesis.gates.decision import Outcome
from residency.synthesis.gates.licence import licence_gate, licence_name

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("CC BY 4.0", "cc-by-4.0"),
        ("cc-by-sa-3.0", "cc-by-sa-3.0"),
        ("Creative Commons Attribution-NonCommercial-NoDerivatives 4.0 International", "cc-by-nc-nd-4.0"),
        ("CC BY-NC-ND", "cc-by-nc-nd"),
        ("https://creativecommons.org/licenses/by-nd/4.0/", "cc-by-nd-4.0"),
        ("http://creativecommons.org/licenses/by-nc-sa/4.0", "cc-by-nc-sa-4.0"),
        ("CC0 1.0 Universal", "cc0-1.0"),
        ("CC0", "cc0-1.0"),
        ("Public Domain", "public-domain"),
        ("Apache License, Version 2.0", "apache-2.0"),
        ("MIT", "mit"),
        ("BSD-3-Clause", "bsd"),
        ("for research use only", "non-commercial"),
        ("All rights reserved.", "all-rights-reserved"),
        ("", ""),
        ("unknown", ""),
        ("see the paper", ""),
        ("summit by the sea", ""),
    ],
)
def test_a_licence_has_one_name(written: str, name: str) -> None:
    assert licence_name(written) == name


@pytest.mark.parametrize(
    "licence", ["", "unknown", "CC BY-ND 4.0", "CC-BY-NC-ND-4.0", "see the paper", "©, All rights reserved"]
)
def test_unknown_and_no_derivatives_are_refused(licence: str, make_item: Callable[..., Item]) -> None:
    decision = licence_gate(make_item(licence=licence))
    assert decision.outcome is Outcome.REFUSED
    assert decision.reason


def test_the_recipe_allows_by_name(make_item: Callable[..., Item]) -> None:
    item = make_item(licence="Creative Commons Attribution-NoDerivatives 4.0")
    assert licence_gate(item, allowed=("CC-BY-ND-4.0",)).outcome is Outcome.PASSED
    assert licence_gate(item, allowed=("CC-BY-4.0",)).outcome is Outcome.REFUSED
    assert licence_gate(item, allowed=("unknown",)).outcome is Outcome.REFUSED
    assert licence_gate(make_item(licence="see the paper"), allowed=("unknown",)).outcome is Outcome.PASSED


def test_non_commercial_is_marked(make_item: Callable[..., Item]) -> None:
    assert licence_gate(make_item(licence="CC BY-NC 4.0")).outcome is Outcome.MARKED
    assert licence_gate(make_item(licence="CC BY 4.0")).outcome is Outcome.PASSED
