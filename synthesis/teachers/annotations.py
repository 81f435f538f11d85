"""The annotations as a teacher: an item's own facts in words, at once and for nothing."""

from residency.synthesis.annotations_teacher import TEACHER_NAME, write_trace
from residency.synthesis.teachers.teacher import TeacherReply, TeacherRequest


class AnnotationsTeacher:
    """Factual by construction. Raises DataError for an item that carries no facts."""

    name = TEACHER_NAME
    in_flight = 256  # there is nothing to wait for, but many share one sync

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        trace = write_trace(request.item, request.seed, request.sample)
        return TeacherReply(text=trace.text, finish_reason=trace.finish_reason, model=TEACHER_NAME)

    async def close(self) -> None:
        """Holds nothing."""
