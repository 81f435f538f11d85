"""DICOM attributes that identify a person, and the gate that finds one in an item's metadata.

Keywords and tags of attributes that the Basic Application Level Confidentiality Profile removes, empties or replaces
(DICOM PS3.15, table E.1-1), as far as they name a person, a place, a time or an identifier. An importer may keep
technical attributes (modality, rows, spacing); these never.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from residency.platform.records import Item
from residency.synthesis.gates.decision import GateDecision, passed, refused

GATE = "dicom_tags"
IDENTIFYING: Mapping[str, str] = {
    "AccessionNumber": "00080050", "AcquisitionDate": "00080022", "AcquisitionDateTime": "0008002A",
    "AcquisitionTime": "00080032", "AdditionalPatientHistory": "001021B0", "AdmissionID": "00380010",
    "AdmittingDate": "00380020", "AdmittingDiagnosesDescription": "00081080", "AdmittingTime": "00380021",
    "AuthorObserverSequence": "0040A078", "BranchOfService": "00101081", "ContentCreatorName": "00700084",
    "ContentDate": "00080023", "ContentTime": "00080033", "CountryOfResidence": "00102150",
    "CurrentPatientLocation": "00380300", "DeviceSerialNumber": "00181000", "EthnicGroup": "00102160",
    "ImageComments": "00204000", "InstanceCreationDate": "00080012", "InstanceCreationTime": "00080013",
    "InstitutionAddress": "00080081", "InstitutionName": "00080080", "InstitutionalDepartmentName": "00081040",
    "IssuerOfPatientID": "00100021", "LastMenstrualDate": "001021D0", "MedicalAlerts": "00102000",
    "MedicalRecordLocator": "00101090", "MilitaryRank": "00101080", "NameOfPhysiciansReadingStudy": "00081060",
    "Occupation": "00102180", "OperatorsName": "00081070", "OtherPatientIDs": "00101000",
    "OtherPatientIDsSequence": "00101002", "OtherPatientNames": "00101001", "PatientAddress": "00101040",
    "PatientBirthDate": "00100030", "PatientBirthName": "00101005", "PatientBirthTime": "00100032",
    "PatientComments": "00104000", "PatientID": "00100020", "PatientInsurancePlanCodeSequence": "00100050",
    "PatientMotherBirthName": "00101060", "PatientName": "00100010", "PatientReligiousPreference": "001021F0",
    "PatientTelecomInformation": "00102155", "PatientTelephoneNumbers": "00102154", "PerformedLocation": "00400243",
    "PerformedProcedureStepStartDate": "00400244", "PerformedProcedureStepStartTime": "00400245",
    "PerformedStationName": "00400242", "PerformingPhysicianName": "00081050", "PersonAddress": "00401102",
    "PersonName": "0040A123", "PersonTelephoneNumbers": "00401103", "PhysiciansOfRecord": "00081048",
    "PregnancyStatus": "001021C0", "ReferringPhysicianAddress": "00080092", "ReferringPhysicianName": "00080090",
    "ReferringPhysicianTelephoneNumbers": "00080094", "RegionOfResidence": "00102152",
    "RequestingPhysician": "00321032", "RequestingService": "00321033", "ResponsibleOrganization": "00102299",
    "ResponsiblePerson": "00102297", "ScheduledPerformingPhysicianName": "00400006",
    "ScheduledProcedureStepStartDate": "00400002", "SeriesDate": "00080021", "SeriesInstanceUID": "0020000E",
    "SeriesTime": "00080031", "SOPInstanceUID": "00080018", "StationName": "00081010", "StudyComments": "00324000",
    "StudyDate": "00080020", "StudyID": "00200010", "StudyInstanceUID": "0020000D", "StudyTime": "00080030",
    "VerifyingObserverName": "0040A075",
}  # fmt: skip
BY_NAME = {name.casefold(): name for name in IDENTIFYING} | {tag.casefold(): name for name, tag in IDENTIFYING.items()}
MARKS = re.compile(r"[\s,_()-]+|^0x")


def identifying_attribute(key: str) -> str | None:
    """The keyword that a metadata key stands for, however it is written; None for a technical one.

    ``PatientName``, ``patient_name``, ``(0010,0010)`` and ``0x00100010`` are one.
    """
    return BY_NAME.get(MARKS.sub("", key.strip()).casefold())


def identifying_keys(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Paths of identifying attributes that have a value, at any depth."""
    for key, value in metadata.items():
        if value not in (None, "", (), [], {}) and identifying_attribute(str(key)):
            yield str(key)
        for each in _mappings(value):
            yield from (f"{key}.{inner}" for inner in identifying_keys(each))


def _mappings(value: Any) -> Iterable[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        return (value,)
    return (each for each in value if isinstance(each, Mapping)) if isinstance(value, list | tuple) else ()


def dicom_tags_gate(item: Item) -> GateDecision:
    """Refuses an item whose metadata carry an identifying attribute."""
    found = list(identifying_keys(item.metadata))
    return refused(GATE, "an identifying DICOM attribute", ", ".join(found[:5])) if found else passed(GATE)
