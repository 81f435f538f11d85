"""Identifying information in text, on sentences written by hand: some name a person, of others clinics are full."""

from collections.abc import Callable

import pytest

from residency.platform.records import Item
from residency.synthesis.gates.decision import Outcome
from residency.synthesis.gates.identifying_text import identifying, identifying_text_gate

pytestmark = pytest.mark.timeout(60)

POSITIVES = """
a date: Chest radiograph taken on 2019-03-14 shows an effusion.
a date: CT of 14/03/2019, is there a mass?
a date: Follow-up on 3/14/2019 was normal.
a date: The study dated March 14, 2019 is shown.
a date: Admitted 14 March 2019 with fever.
a date: She was seen on March 3rd with cough.
a date: 14-Mar-2019 abdominal CT
a date: DOB: 05/12/61
a date: 2019年3月14日胸部CT显示什么?
a date: 患者于3月14日入院。
a name: Mr. Smith presents with chest pain.
a name: Reported by Dr. J. Williams, consultant.
a name: Mrs O'Brien complains of headache.
a name: Patient name: Johnson
a name: What does DOE^JOHN's scan show?
a name: 患者姓名:张伟,男,45岁
a name: 李先生因胸痛就诊。
a name: 主任医师:王建国
a record number: MRN 00483921, CT abdomen.
a record number: Patient ID: A123456
a record number: Accession number 20-4471983
a record number: SSN 123-45-6789
a record number: 住院号:0012345
a record number: 身份证号 110105199003072516
a phone number: Call (555) 123-4567 for results.
a phone number: Tel: +44 20 7946 0958
a phone number: 电话:13812345678
an e-mail or web address: Send to jane.doe@clinic.org
an e-mail or web address: Images at https://pacs.example.org/study/1
an address: Lives at 221 Baker Street with her son.
an address: 家住北京市朝阳区
an age over 89: A 93-year-old woman fell at home.
an age over 89: A man aged 101 with dementia
an age over 89: 患者95岁,女性。
""".strip().splitlines()

NEGATIVES = """
A 45-year-old man presents with chest pain for 3 days.
An 89-year-old woman has a femoral neck fracture.
What is the most likely diagnosis?
The nodule measures 12 x 9 mm in segment 6.
Blood pressure is 120/80 mmHg and heart rate 92/min.
Temperature 38.5 C, respiratory rate 22.
Sodium is 139 mmol/L, potassium 4.1, creatinine 1.2 mg/dL.
The 2017 guideline of the society was updated in 2020.
Since 2015 the patient has had type 2 diabetes.
Is there a T2/FLAIR hyperintensity in the left lobe?
Vertebrae C5/6 and L4/5 are narrowed.
Grade 3/4 toxicity occurred in 12/34 patients.
Gleason score 4+3=7 was found.
What is Dr. Apgar's score for, at 1 and 5 minutes?
Which Murphy sign is positive?
Does the patient have Down syndrome?
Is Crohn disease visible in the terminal ileum?
Mr imaging shows a lesion in the pons.
MR angiography of the circle of Willis is shown.
Patient number two of the series had a relapse.
Ms and stroke are both demyelinating on this list?
Is the survival at 95 years of follow-up plausible?
Sensitivity was 95 %, specificity 91 %.
The dose was 100 mg on day 3 and 150 mg on day 14.
ICD code E11.9 and CPT 71045 were billed.
HbA1c 9.1 %, LDL 130 mg/dl, glucose 96.
Give 5 mg of drug in 100 ml twice a day.
It may be seen on 3 March-like fractures.
The case number is small.
Which of 1.5 T and 3 T gives the better image?
CD4 count 250, CD8 count 900.
The street value of the drug rose.
Name the organ that is marked.
What is the name of the structure at the arrow?
In what phase of the cycle, day 14 of 28, was the scan made?
患者45岁,男性,胸痛3天。
图中显示的是什么器官?
肿块大小约12毫米。
患者有高血压病史10年。
患者高热不退,咳嗽3天。
病人明显消瘦。
医生最可能的诊断是什么?
体温38.5度,白细胞12000。
左肺上叶是否有结节?
""".strip().splitlines()


@pytest.mark.parametrize("line", POSITIVES)
def test_what_identifies_a_person_is_found(line: str) -> None:
    kind, _, text = line.partition(": ")
    assert kind in {finding.kind for finding in identifying(text)}, text


@pytest.mark.parametrize("text", NEGATIVES)
def test_clinical_sentences_pass(text: str) -> None:
    assert [(f.kind, text[f.start : f.end]) for f in identifying(text)] == []


def test_the_evidence_names_the_place_and_not_the_person(make_item: Callable[..., Item]) -> None:
    decision = identifying_text_gate(make_item(metadata={"notes": ["seen by Dr. Miller on 2020-01-05"]}))
    assert decision.outcome is Outcome.REFUSED
    assert "metadata.notes" in decision.evidence
    assert "Miller" not in decision.evidence
    assert "2020" not in decision.evidence


def test_options_and_answers_are_read_too(make_item: Callable[..., Item]) -> None:
    assert identifying_text_gate(make_item(answer="Mr. Jones")).outcome is Outcome.REFUSED
    assert identifying_text_gate(make_item(options=("yes", "call 555-123-4567"))).outcome is Outcome.REFUSED
    assert identifying_text_gate(make_item(metadata={"width": 20190314})).outcome is Outcome.PASSED


def test_it_is_linear_on_a_long_text() -> None:
    assert not list(identifying("a 1 of the " * 40_000))
