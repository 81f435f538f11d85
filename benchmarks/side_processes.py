"""The sides of a comparison, each in a process of its own that answers a line of JSON for a line that it is sent."""

import json
import subprocess
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

CLOSE_SECONDS = 90


class Sides:
    """Started one after the other (together they would only fight for the cores): each has said that it is ready.

    ``script`` is run once for each name, with ``--side NAME`` and the arguments. A child ends when its standard input
    does; the block waits for all.
    """

    def __init__(self, script: str, names: Iterable[str], arguments: Iterable[str]) -> None:
        self._script, self._names, self._arguments = script, list(names), list(arguments)
        self._children: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        try:
            for name in self._names:
                command = [sys.executable, self._script, "--side", name, *self._arguments]
                self._children[name] = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                self.hear(name)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def send(self, name: str, line: str = "go") -> None:
        stdin = self._children[name].stdin
        assert stdin is not None
        stdin.write(f"{line}\n")
        stdin.flush()

    def hear(self, name: str) -> dict[str, Any]:
        """Its next answer; SystemExit where it has ended."""
        stdout = self._children[name].stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            code = self._children[name].wait(timeout=60)
            raise SystemExit(f"side {name} ended with exit code {code}; its log is above")
        return json.loads(line)

    def ask(self, name: str, line: str = "go") -> dict[str, Any]:
        self.send(name, line)
        return self.hear(name)

    def together(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """One round of several sides at once."""
        asked = list(names)
        for name in asked:
            self.send(name)
        return [self.hear(name) for name in asked]

    def _close(self) -> None:
        for child in self._children.values():
            if child.stdin is not None:
                child.stdin.close()
        for child in self._children.values():
            try:
                child.wait(timeout=CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
