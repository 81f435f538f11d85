"""What a mode changes in a request, and what a request may not say."""

import copy
import importlib
import json
from typing import Any

import jsonschema
import pytest

from residency.platform.prompts import DIRECT_INSTRUCTION, THINK_INSTRUCTION
from residency.platform.serving.answer_modes import AnswerMode, read_request
from residency.platform.serving.clinical_answer import clinical_grammar, clinical_schema, is_clinical_answer
from residency.platform.serving.refusals import Refusal

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}


def body(content: Any = "which side?", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


def content(asked: Any) -> Any:
    return asked.body["messages"][-1]["content"]


def test_without_a_mode_nothing_is_changed() -> None:
    asked = read_request(body(temperature=0.5, store=True))
    assert asked.body == body(temperature=0.5)
    assert (asked.mode, asked.consent) == (AnswerMode.RAW, False)


def test_a_mode_says_how_to_answer_as_in_training_and_only_once() -> None:
    given = body("which side?\n", residency={"mode": "think"})
    kept = copy.deepcopy(given)
    assert content(read_request(given)) == f"which side?\n{THINK_INSTRUCTION}"
    assert given == kept
    again = body(f"which side?\n{THINK_INSTRUCTION}", residency={"mode": "think"})
    assert content(read_request(again)) == f"which side?\n{THINK_INSTRUCTION}"
    parts = [IMAGE, {"type": "text", "text": "which side?"}]
    asked = read_request(body(parts, residency={"mode": "direct"}))
    assert content(asked) == [IMAGE, {"type": "text", "text": f"which side?\n{DIRECT_INSTRUCTION}"}]
    assert content(read_request(body([IMAGE], residency={"mode": "direct"})))[-1]["text"] == DIRECT_INSTRUCTION


def test_the_last_question_gets_the_instruction() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    asked = read_request({"messages": turns, "residency": {"mode": "direct"}})
    assert [message["content"] for message in asked.body["messages"]] == ["a", "b", f"c\n{DIRECT_INSTRUCTION}"]


def test_a_structured_answer_is_constrained_by_the_grammar() -> None:
    asked = read_request(body(residency={"mode": "structured", "consent": True}))
    assert asked.body["structured_outputs"] == {"grammar": clinical_grammar()}
    assert asked.consent
    assert "residency" not in asked.body


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ([], None),
        ("text", None),
        ({"model": "m"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages"),
        (body(chat_template="{{ x }}"), "chat_template"),
        (body(mm_processor_kwargs={}), "mm_processor_kwargs"),
        (body(structured_outputs={}), "structured_outputs"),
        (body(tools=[]), "tools"),
        (body(n=9), "n"),
        (body(n=True), "n"),
        (body(n="1"), "n"),
        (body(residency=[1]), "residency"),
        (body(residency={"more": 1}), "residency"),
        (body(residency={"mode": "loud"}), "residency.mode"),
        (body(residency={"mode": ["think"]}), "residency.mode"),
        (body(residency={"consent": "yes"}), "residency.consent"),
        (body(n=2, residency={"mode": "structured"}), "residency.mode"),
        (body(response_format={"type": "text"}, residency={"mode": "structured"}), "residency.mode"),
        (body(7, residency={"mode": "think"}), "messages"),
        (body(["x"], residency={"mode": "think"}), "messages"),
        ({"messages": [{"role": "system", "content": "x"}], "residency": {"mode": "think"}}, "messages"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_field(document: Any, param: str | None) -> None:
    with pytest.raises(Refusal) as refused:
        read_request(document)
    assert refused.value.status == 400
    assert refused.value.param == param
    json.loads(refused.value.body())


def test_the_schema_and_the_reader_agree() -> None:
    good = {"findings": ["a"], "reasoning_steps": [], "differential": ["b"], "answer": "left", "confidence": 0.875}
    bad: list[dict[str, Any]] = [
        {**good, "confidence": 2},
        {**good, "answer": ""},
        {**good, "findings": "a"},
        {**good, "findings": ["a"] * 9},
        {**good, "more": 1},
        {name: value for name, value in good.items() if name != "answer"},
    ]
    validator = jsonschema.Draft202012Validator(clinical_schema())
    assert validator.is_valid(good)
    assert is_clinical_answer(json.dumps(good))
    for one in bad:
        assert not validator.is_valid(one)
        assert not is_clinical_answer(json.dumps(one))
    assert not is_clinical_answer(json.dumps(good)[:-3])
    assert not is_clinical_answer("[" * 100_000)


def test_the_grammar_takes_what_the_schema_takes_and_no_control_character() -> None:
    xgrammar = importlib.import_module("xgrammar")  # vLLM's own decoder, which it brings along
    tokens = xgrammar.TokenizerInfo([bytes([byte]) for byte in range(1, 256)])
    grammar = xgrammar.GrammarCompiler(tokens).compile_grammar(clinical_grammar())

    def taken(answer: str = "left", findings: Any = ("a",), confidence: Any = 0.875) -> bool:
        document = {"findings": list(findings), "reasoning_steps": [], "differential": ["b", ""]}
        text = json.dumps(
            document | {"answer": answer, "confidence": confidence}, separators=(",", ":"), ensure_ascii=False
        )
        assert not xgrammar.GrammarMatcher(grammar).accept_string(text) or is_clinical_answer(text)
        return xgrammar.GrammarMatcher(grammar).accept_string(text)

    assert taken()
    assert taken(answer="é漢")
    assert taken(findings=())
    assert taken(findings=["a" * 240] * 8)
    assert not taken(answer="")
    assert not taken(answer="a" * 241)
    assert not taken(answer="\n")
    assert not taken(findings=["a"] * 9)
    assert not taken(confidence=0.3)
    raw = '{"findings":[],"reasoning_steps":[],"differential":[],"answer":"\x16","confidence":1}'
    assert not xgrammar.GrammarMatcher(grammar).accept_string(raw)
