"""Accumulation and packing change how a batch is computed, not what it teaches; documents never see each other."""

from pathlib import Path

import curricle.train.model.loss
import numpy as np
import pytest
import torch
from curricle.train.data.batching import MicroBatch, micro_batches
from curricle.train.data.encoding import Encoded
from curricle.train.distributed import Processes
from curricle.train.model.load import load_model
from curricle.train.model.student import Student
from curricle.train.settings import DeviceSettings
from host_waits import Waits
from hypothesis import given
from hypothesis import strategies as st
from small_llama import TOKENS

ALONE = Processes(0, 1, torch.device("cpu"))


def document(row: int, length: int, seed: int = 0) -> Encoded:
    draw = np.random.default_rng([seed, row])
    return Encoded(row, draw.integers(3, TOKENS, length), np.arange(max(1, length // 2), length))


DOCUMENTS = [document(row, length) for row, length in enumerate([17, 40, 9, 33, 12, 26, 5, 38])]


@pytest.fixture(scope="module")
def student(tiny_model: Path) -> Student:
    return Student(load_model(str(tiny_model), "sdpa"), DeviceSettings(), ALONE)


def gradients(student: Student, passes: list[MicroBatch]) -> dict[str, torch.Tensor]:
    """Gradients of the loss per scored token of one global batch, as the loop forms them."""
    student.model.zero_grad()
    scored = sum(len(each.scored) for each in DOCUMENTS)
    for micro in passes:
        (student.nll(micro).sum() / scored).backward()
    return {name: each.grad.clone() for name, each in student.model.named_parameters()}


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("passes", [1, 2, 4])
def test_accumulation_and_packing_leave_the_gradient_alone(student, packing, passes):
    one_by_one = [micro for each in DOCUMENTS for micro in micro_batches([each], 512, 1, False)[0]]
    expected = gradients(student, one_by_one)
    capacity = next(size for size in range(40, 1000) if len(micro_batches(DOCUMENTS, size, 1, packing)[0]) <= passes)
    result = micro_batches(DOCUMENTS, capacity, 1, packing)[0]
    assert len(result) == passes
    assert furthest(gradients(student, result), expected) < 1e-5


def test_a_leak_between_documents_is_seen(student):
    """The negative control: the same packed sequence, but with position ids that run on."""
    (packed,) = micro_batches(DOCUMENTS, 512, 1, True)[0]
    right = gradients(student, [packed])
    leaking = MicroBatch(**{**vars(packed), "positions_BT": torch.arange(packed.ids_BT.shape[1])[None]})
    assert furthest(gradients(student, [leaking]), right) > 1e-4


def test_padding_is_not_seen(student):
    """A row alone and beside a longer one has the same loss for every token."""
    together = micro_batches(DOCUMENTS[1:3], 512, 1, False)[0]
    (alone,) = micro_batches([DOCUMENTS[2]], 512, 1, False)[0]
    with torch.no_grad():
        assert torch.allclose(student.nll(together[0])[-len(alone.targets_S) :], student.nll(alone), atol=1e-5)


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    capacity=st.integers(60, 200),
    world=st.integers(1, 5),
    packing=st.booleans(),
)
def test_every_document_is_in_one_pass_and_every_process_has_as_many(lengths, capacity, world, packing):
    documents = [document(row, length) for row, length in enumerate(lengths)]
    shares = micro_batches(documents, capacity, world, packing)
    assert len(shares) == world
    assert len({len(share) for share in shares}) == 1
    passes = [micro for share in shares for micro in share]
    assert all(micro.ids_BT.numel() <= capacity for micro in passes)
    result = sorted(position for micro in passes for position in micro.documents)
    assert result == [position for position, length in enumerate(lengths) if length]
    scored = sorted((micro.documents[i], count) for micro in passes for i, count in enumerate(micro.counts))
    assert scored == [(position, len(documents[position].scored)) for position in result]
    if packing:  # the order of the curriculum is the order of the sequences
        firsts = [micro.documents for index in range(len(shares[0])) for micro in (share[index] for share in shares)]
        assert [position for positions in firsts for position in positions] == result


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=20), packing=st.booleans())
def test_targets_are_the_scored_tokens_and_positions_stand_before_them(lengths, packing):
    documents = [document(row, length) for row, length in enumerate(lengths)]
    for micro in micro_batches(documents, 128, 1, packing)[0]:
        expected = np.concatenate([documents[index].ids[documents[index].scored] for index in micro.documents])
        assert micro.targets_S.tolist() == expected.tolist()
        assert micro.ids_BT.flatten()[micro.positions_S + 1].tolist() == expected.tolist()


def test_chunks_of_logits_give_the_same_loss_and_gradient(student, monkeypatch):
    (whole,) = micro_batches(DOCUMENTS, 512, 1, True)[0]
    expected, loss = gradients(student, [whole]), student.nll(whole)
    monkeypatch.setattr(curricle.train.model.loss, "LOGITS", 7 * TOKENS)  # seven tokens at a time
    assert torch.allclose(student.nll(whole), loss, atol=1e-5)
    assert furthest(gradients(student, [whole]), expected) < 1e-6


@pytest.mark.parametrize(
    ("device", "tolerance"),
    [
        (DeviceSettings(activation_checkpointing=True), 1e-6),
        (DeviceSettings(attention="eager"), 1e-5),
        (DeviceSettings(precision="bf16"), 5e-2),
    ],
    ids=["activation checkpointing", "eager", "bf16"],
)
def test_how_it_is_computed_leaves_the_gradient_alone(student, tiny_model, device, tolerance):
    passes = micro_batches(DOCUMENTS, 128, 1, True)[0]
    expected = gradients(student, passes)
    other = Student(load_model(str(tiny_model), device.attention), device, ALONE)
    other.wrapped.train()
    largest = max(float(each.abs().max()) for each in expected.values())
    assert furthest(gradients(other, passes), expected) < tolerance * largest


@pytest.mark.parametrize("packing", [False, True])
def test_transformers_looks_at_the_positions_once_a_pass(student, packing):
    """Which is the only thing in a step for which the host waits, as docs/gpu.md says."""
    (passes,) = micro_batches(DOCUMENTS, 64, 1, packing)
    assert len(passes) > 1
    with Waits() as waits:
        gradients(student, passes)
    assert waits.counts == {"_local_scalar_dense": len(passes)}
