"""A teacher at work: its prompts, what waits for it, and the requests that are on disk and about to be asked."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from residency.platform.prompts import prompt_hash, render_prompt
from residency.platform.records import Item, PromptMode
from residency.synthesis.pipeline.lives import Job
from residency.synthesis.routing.masking import mask_answer
from residency.synthesis.routing.samples import Strategy
from residency.synthesis.teachers.prompt_files import PromptFile, load_prompt
from residency.synthesis.teachers.structured import REASONING_SCHEMA
from residency.synthesis.teachers.teacher import Teacher, TeacherRequest

STUDENT_PROMPT = "student"  # the prompt's name in the ledger where the student's own is asked
AHEAD = 4  # a quarter of what is in flight is on disk ahead, so that no place waits for the disk


@dataclass(kw_only=True)
class Seat:
    """``student_prompt``: asked in the student's own words, as its policy must be. ``structured``: replies in JSON.

    ``prompt`` (name, version) is asked in place of the teachers' own, its replies by ``schema`` if any.
    """

    teacher: Teacher
    student_prompt: bool = False
    structured: bool = False
    prompt: tuple[str, int] | None = None
    schema: Mapping[str, Any] | None = None
    ready: deque[Job] = field(default_factory=deque)
    inbox: "asyncio.Queue[Job]" = field(default_factory=asyncio.Queue)

    @property
    def most_ahead(self) -> int:
        return max(self.teacher.in_flight // AHEAD, 2)

    @property
    def is_short(self) -> bool:
        """Whether half of what is kept ahead is gone; asked in halves, many requests share one sync."""
        return 2 * self.inbox.qsize() <= self.most_ahead

    def prompt_file(self, strategy: Strategy) -> PromptFile | None:
        """None where the student's own prompt is asked."""
        if strategy is Strategy.REANSWER:
            return load_prompt("reanswer", 1)
        if strategy is Strategy.WITH_REFERENCE:
            return load_prompt("reason-with-reference", 1)
        if self.prompt is not None:
            return load_prompt(*self.prompt)
        if self.student_prompt:
            return None
        return load_prompt("reason-json", 1) if self.structured else load_prompt("reason", 1)

    def is_structured(self, strategy: Strategy) -> bool:
        return self.structured and strategy in (Strategy.SAMPLED, Strategy.EXTENDED)

    def prompt_name(self, item: Item, strategy: Strategy) -> tuple[str, str]:
        """(name and version, hash) for the ledger."""
        file = self.prompt_file(strategy)
        if file is None:
            return STUDENT_PROMPT, prompt_hash(render_prompt(item, PromptMode.THINK))
        return f"{file.name}-{file.version}", file.prompt_hash

    def request(self, job: Job, max_tokens: int) -> TeacherRequest:
        """What the teacher is asked; raises DataError where the item does not fill the prompt."""
        item, file = job.life.item, self.prompt_file(job.strategy)
        if file is None:
            text, digest = render_prompt(item, PromptMode.THINK), ""
        else:
            values: dict[str, Any] = {"item": item}
            if job.strategy is Strategy.REANSWER:
                values["reasoning"] = mask_answer(item, job.life.text(job.of))
            text, digest = file.render(values), file.prompt_hash
        return TeacherRequest(
            key=job.key,
            item=item,
            sample=job.number,
            prompt=text,
            prompt_hash=digest,
            media=item.media,
            temperature=job.temperature,
            seed=job.seed,
            max_tokens=max_tokens,
            schema=REASONING_SCHEMA if self.is_structured(job.strategy) else self.schema,
        )
