"""Several nets trained at the same time: each in a thread of its own on a CPU, by launches that serve all of them on a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from typing import Any

from ..data.batches import RESIDENT_SHARE
from ..graph.program import Program
from ..graph.several import Several, kind
from .trainer import Trainer

MOST_PARAMETERS = 1 << 22  # of a net: the step of a larger one takes longer than its launches, and fills a GPU alone
KEPT = 4  # of what runs several programs as one: a net that has stopped makes another one of those that go on


def train_together(trainers: Sequence[Trainer], fit: Callable[[int], Any], *, at_a_time: int | None = None) -> None:
    """Call fit(i), which trains trainers[i], for every i; the bits are those of one after the other.

    Args:
        at_a_time: how many at a time; by default `concurrency`.

    Raises:
        What the first fit to fail raises; the others end after their step.
    """
    several = min(len(trainers), at_a_time or concurrency(trainers))
    if several < 2:
        for i in range(len(trainers)):
            fit(i)
        return
    company = Company(several, len(trainers)) if trainers[0].device.captures else None

    def train(i: int) -> None:
        with company.member(trainers[i]) if company is not None else nullcontext():
            fit(i)

    with ThreadPoolExecutor(several) as pool:
        futures = [pool.submit(train, i) for i in range(len(trainers))]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = next((f for f in futures if f.done() and f.exception() is not None), None)
            if failed is not None:
                failed.result()
        except BaseException:  # Ctrl-C too: it reaches the thread that waits
            for trainer in trainers:
                trainer.stop("interrupted")
            for future in futures:
                if future.cancel() and company is not None:
                    company.withdraw()
            raise


def concurrency(trainers: Sequence[Trainer], *, nbytes: int = 0) -> int:
    """How many nets are worth training at a time, each on so many bytes of data of its own."""
    device, memory = trainers[0].device, trainers[0].device.memory()
    if not all(trainer.device is device for trainer in trainers):
        return 1
    if device.kind == "cpu":
        return 1 if device.native is None else min(len(trainers), int(device.native.threads()))
    if memory is None or not all(map(_bound_by_launches, trainers)):
        return 1
    return max(1, min(len(trainers), int(RESIDENT_SHARE * memory.free / max(nbytes, 1))))


def _bound_by_launches(trainer: Trainer) -> bool:
    small = sum(t.size for t in trainer.model.parameters()) <= MOST_PARAMETERS
    usual = trainer.precision == "float32" and not trainer.autotune and not trainer.optimizer.full_batch
    return small and usual and trainer.compiles


class _Asked:
    """A program that is to run so many steps more; `answer` is what whoever waits for it is to return or raise."""

    def __init__(self, program: Program, steps: int) -> None:
        self.program, self.left, self.done, self.kind = program, steps, 0, kind(program)
        self.answer: int | BaseException | None = None

    def told(self, outcome: int | BaseException, steps: int) -> None:
        """What came of so many steps."""
        if isinstance(outcome, BaseException):
            self.answer = outcome
            return
        self.done, self.left = self.done + outcome, self.left - steps
        if outcome < steps or not self.left:
            self.answer = self.done


class Company:
    """Trainers in threads, one of which works at a time. Once all of them wait for their programs, these run as one.

    at_a_time: threads. trainers: that are to be trained in all.
    """

    def __init__(self, at_a_time: int, trainers: int) -> None:
        self._at_a_time, self._left = at_a_time, trainers
        self._turn = threading.Condition()
        self._asked: list[_Asked] = []
        self._made: dict[tuple[int, ...], Several] = {}

    @contextmanager
    def member(self, trainer: Trainer) -> Iterator[None]:
        """For as long as this one is trained."""
        with self._turn:
            trainer.runner = self.run
            try:
                yield
            finally:
                trainer.runner = Program.run
                self.withdraw()

    def withdraw(self) -> None:
        """One trainer less to wait for."""
        with self._turn:
            self._left -= 1
            self._run_if_all_wait()

    def run(self, program: Program, steps: int) -> int:
        """As Program.run, once everybody has come to it."""
        mine = _Asked(program, steps)
        self._asked.append(mine)
        self._run_if_all_wait()
        while mine.answer is None:
            self._turn.wait()
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        return mine.answer

    def _run_if_all_wait(self) -> None:
        """As many steps as all want; those who then have theirs go on."""
        if not self._asked or len(self._asked) < min(self._at_a_time, self._left):
            return
        groups: dict[Any, list[_Asked]] = {}
        for asked in self._asked:
            groups.setdefault(asked.kind or asked, []).append(asked)
        for group in groups.values():
            group.sort(key=lambda asked: id(asked.program))  # who came first is not known before, and makes no difference
            steps = min(asked.left for asked in group)
            for asked, outcome in zip(group, self._outcomes(group, steps), strict=True):
                asked.told(outcome, steps)
        self._asked = [asked for asked in self._asked if asked.answer is None]
        self._turn.notify_all()

    def _outcomes(self, group: list[_Asked], steps: int) -> Sequence[int | BaseException]:
        programs: list[Any] = [asked.program for asked in group]
        try:
            return [programs[0].run(steps)] if len(programs) == 1 else self._several(programs).run(steps)
        except Exception as error:
            return [error] * len(programs)

    def _several(self, programs: list[Any]) -> Several:
        key = tuple(map(id, programs))  # of objects that are kept, so that no other one comes by it
        if key not in self._made:
            self._made[key] = Several(programs)
            for old in list(self._made)[:-KEPT]:
                del self._made[old]
        return self._made[key]
