"""Identifying DICOM attributes in metadata."""

from collections.abc import Callable

import pytest
from pydicom.datadict import keyword_for_tag, tag_for_keyword

from residency.platform.records import Item
from residency.synthesis.gates.decision import Outcome
from residency.synthesis.gates.dicom_tags import IDENTIFYING, dicom_tags_gate

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("keyword", "tag"), sorted(IDENTIFYING.items()))
def test_keywords_and_tags_are_those_of_the_dictionary(keyword: str, tag: str) -> None:
    assert tag_for_keyword(keyword) == int(tag, 16), keyword_for_tag(int(tag, 16))


@pytest.mark.parametrize("key", ["PatientName", "patient_name", "(0010,0010)", "0x00100010", "00100010"])
def test_an_attribute_is_found_however_it_is_written(key: str, make_item: Callable[..., Item]) -> None:
    assert dicom_tags_gate(make_item(metadata={key: "x"})).outcome is Outcome.REFUSED
    assert dicom_tags_gate(make_item(metadata={"dicom": [{"tags": {key: "x"}}]})).outcome is Outcome.REFUSED


def test_technical_attributes_and_empty_ones_pass(make_item: Callable[..., Item]) -> None:
    metadata = {"Modality": "CT", "Rows": 512, "BodyPartExamined": "CHEST", "PatientName": "", "row": "17"}
    assert dicom_tags_gate(make_item(metadata=metadata)).outcome is Outcome.PASSED
