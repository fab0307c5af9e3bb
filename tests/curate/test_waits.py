"""How often a forward pass makes the host wait for its device: as often as it reads a number of a tensor."""

import pytest
import torch
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.sequences import Request
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import resolve
from host_waits import Waits

ROWS = [Request([first, 2, 3, *range(4, 4 + more)], [(3, more + 3)]) for first, more in enumerate((5, 9, 17, 8, 30))]


@pytest.fixture(scope="module")
def backend(tiny_model):
    backend = load(ProxySettings(model=str(tiny_model)), resolve(str(tiny_model)))
    backend.batch_tokens = 40
    return backend


@pytest.mark.parametrize("in_packs", [True, False])
def test_the_waits_of_a_pass(backend, monkeypatch, in_packs):
    """None in packs. Padded, transformers looks once a pass whether positions begin again, as docs/gpu.md says."""
    passes = []
    nats = type(backend).nats.__wrapped__  # a dispatch mode sees nothing of what happens under torch.inference_mode

    def counted(self, *given):
        passes.append(given)
        with torch.no_grad():
            return nats(self, *given)

    monkeypatch.setattr(backend, "in_packs", in_packs)
    monkeypatch.setattr(type(backend), "nats", counted)
    with Waits() as waits:
        backend.score(ROWS, lambda done: None)
    assert len(passes) > 1
    assert waits.counts == ({} if in_packs else {"_local_scalar_dense": len(passes)})


def test_a_wait_is_counted():
    with Waits() as waits:
        assert torch.ones(3).sum().item() == 3 and torch.ones(3).nonzero().shape == (3, 1)
    assert waits.counts == {"_local_scalar_dense": 1, "nonzero": 1}
