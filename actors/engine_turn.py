"""An engine that shares its devices with the learner in turns: whose turn it is, and what it gives up meanwhile."""

from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports vLLM
    from vllm.v1.engine.llm_engine import LLMEngine

WEIGHTS_ASIDE = 1  # vLLM's sleep level: weights to the CPU's memory, the KV cache is given up


class EngineTurn:
    """Used in the engine thread alone. Asleep, an engine admits nothing and steps nothing: its threads are idle.

    ``frees``: on GPUs vLLM's sleep mode also frees their memory (``EngineArgs.enable_sleep_mode``).
    """

    def __init__(self, frees: bool = False) -> None:
        self._frees, self._awake = frees, True
        self._asked: deque[tuple[bool, Future[None]]] = deque()

    @property
    def works(self) -> bool:
        """Whether something new may be begun."""
        return self._awake and not self._asked

    def ask(self, awake: bool, done: "Future[None]") -> None:
        """``done`` is answered once it is so; what runs ends first."""
        self._asked.append((awake, done))

    def settle(self, engine: "LLMEngine") -> None:
        """Falls asleep or wakes as it was asked; nothing may be running."""
        while self._asked:
            awake, done = self._asked.popleft()
            if awake != self._awake and self._frees:
                if awake:
                    engine.wake_up()
                else:
                    engine.sleep(level=WEIGHTS_ASIDE)
            self._awake = awake
            if done.set_running_or_notify_cancel():
                done.set_result(None)

    def fail(self, error: BaseException) -> None:
        """The engine has ended."""
        while self._asked:
            _, done = self._asked.popleft()
            if done.set_running_or_notify_cancel():
                done.set_exception(error)
