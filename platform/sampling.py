"""How a generator samples: the part of a request that is the same for all rows of a batch."""

from dataclasses import dataclass

from residency.platform.errors import RecipeError


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """Temperature 0 is greedy; ``top_p`` 1 and ``top_k`` 0 are off; ``max_new_tokens`` counts the end token.

    Raises RecipeError for a value outside its range.
    """

    temperature: float
    max_new_tokens: int
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        for name, good, wanted in (
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("max_new_tokens", self.max_new_tokens > 0, "1 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 (off) or more"),
        ):
            if not good:
                raise RecipeError(f"sampling {name} is {getattr(self, name)}", wanted)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0
