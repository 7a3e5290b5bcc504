"""Systems in processes of their own that take turns: while one measures, the others sleep."""

import json
import select
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.environment import last_line, variables

PATIENCE = 900
"""Seconds after which a system that says nothing counts as hung."""
SCRIPTS = Path(__file__).parents[1]


class FailedError(Exception):
    """A system that can't be measured, and why."""


class Worker:
    """A process that has set one library up for one measurement.

    Attributes:
        entries: Names of what it measures, a turn each.
    """

    def __init__(self, python: Path | str, module: str, measurement: str, task: Path) -> None:
        """Start it and wait until it is set up.

        Raises:
            FailedError: If it says that it can't be.
        """
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 lives as long as the process
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", f"benchmarks.{module}", measurement, task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=SCRIPTS,
            env=variables(),
        )
        self.entries: list[str] = self._answer("entries")

    def turn(self, entry: str) -> Any:  # noqa: ANN401 a number or several by name
        """Let it measure once.

        Raises:
            FailedError: If it does not answer with a result.
        """
        assert self.process.stdin is not None
        print(json.dumps(entry), file=self.process.stdin, flush=True)
        return self._answer("result")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            if stream is not None:
                stream.close()

    def _answer(self, field: str) -> Any:  # noqa: ANN401
        stream = self.process.stdout
        assert stream is not None
        if not select.select([stream], [], [], PATIENCE)[0]:
            self.close()
            raise FailedError(f"no answer in {PATIENCE} s")
        line = stream.readline()
        if not line:
            self.log.seek(0)
            raise FailedError(f"the process ended: {last_line(self.log.read())}")
        answer = json.loads(line)
        if "error" in answer:
            raise FailedError(answer["error"])
        return answer[field]


def rotation(workers: Iterable[Worker]) -> list[tuple[Worker, str]]:
    """Whose turn it is, in order, over one round."""
    return [(worker, entry) for worker in workers for entry in worker.entries]
