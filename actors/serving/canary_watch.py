"""The trial of one canary: its traffic and the stable version's, by the audit log of the doors."""

import json
import time
from pathlib import Path

from residency.platform.registry.audit_tail import AuditTail, observation_of
from residency.platform.registry.registry import Registry
from residency.platform.registry.versions import Register
from residency.platform.registry.watching import Watch
from residency.platform.run_folder import write_whole

STATUS_SECONDS = 2.0  # between two writings of watch.json


class CanaryTrial:
    """``look`` reads what the log has got since; requests from before the canary came do not count."""

    def __init__(self, registry: Registry, register: Register, audit: Path) -> None:
        assert register.canary is not None
        self.watch = Watch(register.stable_version().id, register.canary.version)
        self._registry, self._model, self._since = registry, register.model, register.canary.since
        self._tail, self._written, self._noted = AuditTail(audit), 0.0, (0, 0)

    def look(self) -> str:
        """Why the canary must go; empty while it may stay. Notes what is seen in ``watch.json``."""
        before = self.watch.num_requests
        for line in self._tail.lines():
            seen = observation_of(line) if line["model"] == self._model else None
            if seen is not None and seen.t >= self._since:
                self.watch.add(seen)
        self._note()
        return "; ".join(map(str, self.watch.findings())) if self.watch.num_requests != before else ""

    def _note(self) -> None:
        if self.watch.num_requests == self._noted or time.monotonic() - self._written < STATUS_SECONDS:
            return
        self._written, self._noted = time.monotonic(), self.watch.num_requests
        document = {"stable": self.watch.stable, "canary": self.watch.canary, "seen": self.watch.summary()}
        write_whole(self._registry.watch_path, lambda aside: aside.write_text(json.dumps(document, indent=1)))
