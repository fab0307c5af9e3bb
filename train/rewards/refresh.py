"""The reward gap again, by the student as it is now: it answers, heads are fitted on what it makes of both answers.

Whether the paper's scoring model has a body of its own or shares the student's, and how often it is trained, is not
known; here it reads the student's own states, so that it never lags behind, and its last fit is not kept.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from curricle.schemas.chat.generation import draw_seed
from curricle.train.curricula.base import Probe, ProbeResult
from curricle.train.curricula.campus.sorting import ANSWERS
from curricle.train.data.batching import Size
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.data.table import Example, Rows, Table
from curricle.train.distributed import Processes
from curricle.train.model.answers import draw_answers
from curricle.train.model.probe import CHUNK
from curricle.train.model.student import Student
from curricle.train.rewards.head import Accuracy, cross_fit, folds, rewards
from curricle.train.rewards.pairs import GeneratedAnswer, GeneratedAnswers, last_states, read_pairs
from curricle.train.settings import L2
from numpy.typing import NDArray

log = logging.getLogger("curricle")


@dataclass(frozen=True)
class Refreshed:
    """``size``: what it took, the generation too. ``accuracy``: of each pair, by a head that has not seen it."""

    result: ProbeResult
    size: Size
    accuracy: Accuracy


@dataclass(frozen=True)
class Refresher:
    """What answers probes for reward gaps, all processes together, so that every one holds the same bits.

    ``examples`` reads rows of the table. All processes make as many passes, and call ``between`` after each. The
    differences of the states, 4 bytes for each row and unit of the model's width, stay on the first process.
    """

    student: Student
    encoder: ConversationTokenizer
    table: Table
    examples: Callable[[Rows], list[Example]]
    seed: int
    capacity: int
    processes: Processes
    between: Callable[[], None]

    def refresh(self, probe: Probe, limit: int) -> Refreshed:
        """The gaps of the rows of the first candidate. The student answers those of the second, from which the heads
        learn; the table's answers stand for the others. Each row is scored by a head that has not seen it.
        """
        rows, sampled = (candidate.rows for candidate in probe.candidates)
        anew = np.isin(rows, sampled)
        stored = None if anew.all() else GeneratedAnswers(self.table, ANSWERS)
        differences: list[NDArray[np.float32]] = []
        good: list[bool] = []
        size = Size()
        for start in range(0, len(rows), CHUNK):
            chunk, fresh = rows[start : start + CHUNK], anew[start : start + CHUNK]
            examples = self.examples(chunk)
            answers: list[GeneratedAnswer | None] = [None] * len(chunk) if stored is None else stored.of(chunk)
            indices = np.flatnonzero(fresh)
            seeds = [draw_seed(self.seed, probe.index, self.table.ids[row].tobytes().hex()) for row in chunk[indices]]
            drawn, took = self.generate([examples[index] for index in indices], seeds, limit)
            for index, answer in zip(indices, drawn, strict=True):
                answers[index] = answer
            pairs = read_pairs(self.encoder, examples, answers)
            states, read = last_states(self.student, pairs, self.capacity, self.processes, self.between)
            if self.processes.first:
                differences.append(states[0] - states[1])
            good += [pair.remarks.left_out is None for pair in pairs]
            size = size + took + read
        learned = anew & good
        if self.processes.first and (lost := int((anew & ~learned).sum())):
            log.info(
                "the reward does not learn from %s of %s rows: no prompt, no room for an answer, or twice the same",
                f"{lost:,}",
                f"{len(sampled):,}",
            )
        fold = folds(self.table.ids[rows], learned, self.seed)
        gaps = np.full(len(rows), np.nan)  # with nothing to learn from, the order stays
        if learned.any():
            gaps = np.zeros(len(rows))
            if self.processes.first:
                whole = np.concatenate(differences)
                gaps = rewards(whole, cross_fit(whole, learned, fold, L2), fold)
            gaps = self.processes.sum(gaps)
        nll = tuple(np.zeros(len(each.rows)) for each in probe.candidates)
        return Refreshed(
            ProbeResult(nll, tuple(each.astype(np.int64) for each in nll), gaps), size, Accuracy.of(gaps[learned])
        )

    def generate(
        self, examples: Sequence[Example], seeds: Sequence[int], limit: int
    ) -> tuple[list[GeneratedAnswer | None], Size]:
        """The student's own answer to each prompt, drawn at temperature 1; None where there is no prompt, or no room
        for so long an answer."""
        drawn = draw_answers(
            *(self.student, self.encoder, examples, seeds, 1.0, limit, self.capacity, self.processes, self.between)
        )
        answers = [None if it.text is None else GeneratedAnswer(it.text, it.truncated) for it in drawn]
        return answers, sum((each.size for each in drawn), Size())
