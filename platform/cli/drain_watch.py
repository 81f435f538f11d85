"""Looks for nodes that are being drained (by the autoscaler, a preemption notice, `ray drain-node`) and says so."""

import asyncio
import time
from collections.abc import Callable

from residency.platform.cli.notices import Notices
from residency.platform.cli.role_pools import RolePools
from residency.platform.placement import draining_nodes

LOOK_SECONDS = 1.0  # between two looks: what a notice of 30 s can spare
SPARE_SECONDS = 2.0  # of a node's last seconds, for what comes after the last answer


class DrainWatch:
    """Pools let go of workers on such a node; ``notices`` tell whoever else is on it. The driver's own ends the run."""

    def __init__(self, pools: RolePools, notices: Notices, event: Callable[..., None], grace_seconds: float) -> None:
        self._pools, self._notices, self._event, self._grace = pools, notices, event, grace_seconds
        self._told: set[str] = set()

    async def watch(self) -> None:
        """Until it is cancelled."""
        import ray
        from ray.exceptions import RayError

        here = ray.get_runtime_context().get_node_id()
        while True:
            try:
                nodes = await asyncio.to_thread(draining_nodes)
            except (RayError, RuntimeError):  # the cluster's own head is away: the next look tells more
                nodes = {}
            for node, deadline in nodes.items():
                seconds = max(0.0, deadline - time.time() - SPARE_SECONDS) if deadline else self._grace
                seconds = min(seconds, self._grace)
                if node not in self._told:
                    self._told.add(node)
                    self._event("node_draining", node=node, seconds=round(seconds, 1))
                self._pools.leave_node(node, seconds)
            self._notices.leave({node: "is being drained" for node in nodes})
            if here in nodes and self._notices.stopping is None:
                deadline = nodes[here]
                left = max(0.0, deadline - time.time() - SPARE_SECONDS) if deadline else None
                self._notices.stop("the drain of its driver's node", left)
            await asyncio.sleep(LOOK_SECONDS)
