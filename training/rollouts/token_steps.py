"""Which weights sampled the tokens of some traces."""

import numpy as np
import pyarrow as pa

from residency.platform.records import PolicyVersion


def token_steps(traces: pa.Table) -> dict[int, int]:
    """Optimizer step of the weights → tokens that they sampled."""
    found: dict[int, int] = {}
    for chunk in traces.column("policy_versions").chunks:
        packed, numbers = np.unique(chunk.flatten().to_numpy(), return_counts=True)
        for version, number in zip(packed.tolist(), numbers.tolist(), strict=True):
            step = PolicyVersion.unpack(version).step
            found[step] = found.get(step, 0) + number
    return found
