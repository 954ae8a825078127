"""Low-rank updates: nothing has changed at the start, what is merged is what ran, and nothing that others share is written."""

from __future__ import annotations

import pytest
import torch

from lab.unlearn import _private
from lab.unlearn._private import Private, layers
from models import catalog
from models.model import blocks
from tests import families

FAMILIES = ("gpt2", "llama", "qwen3", "gpt_neox", "mixtral")  # transposed matrices, plain ones, tied embeddings, fused ones with biases, experts
IDS = families.prompts()


@pytest.fixture(scope="module", params=FAMILIES)
def net(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / request.param
    families.save(request.param, folder)
    return catalog.load(str(folder))


def out(net):
    with torch.no_grad():
        return net(input_ids=IDS, use_cache=False).logits


def stepped(model, rank=2, seed=0):
    """A run of one step of gradient descent on both halves of the updates, each drawn anew so that no half is zero."""
    private, chance = Private(model, None, rank, seed), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in private.parameters:
            p.add_(torch.randn(p.shape, generator=chance), alpha=0.1)
    return private


def test_at_the_start_nothing_has_changed(net):
    private = Private(net, None, 4, 0)
    assert torch.equal(out(private.net), out(net.net))
    assert all(value == 0 for value in private.change()[1])
    assert all(torch.equal(value, net.net.get_parameter(name)) for name, value in private.edits().items())


def test_what_is_merged_is_what_ran(net):
    private = stepped(net)
    live, merged = out(private.net), out(private.frozen("x").net)
    assert not torch.allclose(live, out(net.net), atol=1e-2), "the updates are large enough to be seen"
    assert torch.allclose(live, merged, atol=1e-5)


def test_only_matrices_of_the_blocks_get_updates(net):
    inside = {id(p) for block in blocks(net.net) for p in block.parameters()}
    private = Private(net, None, 2, 0)
    edits = private.edits()
    assert edits
    for name in edits:
        parameter = net.net.get_parameter(name)
        assert id(parameter) in inside and parameter.dim() == 2, name
    wanted = {f"{path}.weight" for path, m in net.net.named_modules() if isinstance(w := getattr(m, "weight", None), torch.nn.Parameter)
              and w.dim() == 2 and id(w) in inside}
    assert set(edits) == wanted
    assert set(private.change()[0]) == {layers(net)[n] for n in edits} == {str(i) for i in range(families.LAYERS)}
    for name, parameter in private.net.named_parameters():
        assert parameter.requires_grad == (id(parameter) in {id(p) for p in private.parameters}), name


def test_embeddings_and_what_is_tied_to_them_stay_shared(net):
    frozen = stepped(net).frozen("x").net
    for name, parameter in net.net.named_parameters():
        if layers(net)[name] == "embedding":
            assert frozen.get_parameter(name) is parameter
    tied = net.net.get_input_embeddings().weight is net.net.get_output_embeddings().weight
    assert (frozen.get_input_embeddings().weight is frozen.get_output_embeddings().weight) == tied


def test_an_update_has_its_rank_and_is_shaped_as_its_matrix(net):
    private = stepped(net, rank=2)
    for name, value in private.edits().items():
        delta = value - net.net.get_parameter(name)
        assert value.shape == net.net.get_parameter(name).shape
        assert int((torch.linalg.svdvals(delta.double()) > 1e-4).sum()) == 2, name


def test_gradients_are_those_of_the_whole_matrix_through_the_update(net):
    """dL/da = b' dL/dW and dL/db = dL/dW a', dL/dW by a run that trains the whole matrix."""
    private = stepped(net)
    whole = Private(private.frozen("x"), None, 0, 0)
    for run in (private, whole):
        run.net(input_ids=IDS, use_cache=False).logits.float().square().mean().backward()
    for name in private.edits():
        a, b, full = private.trained[f"{name} a"], private.trained[f"{name} b"], whole.trained[name].grad
        scale = float(full.abs().max())
        assert torch.allclose(a.grad, b.detach().T @ full, atol=1e-4 * scale), name
        assert torch.allclose(b.grad, full @ a.detach().T, atol=1e-4 * scale), name


def test_the_shared_weights_are_neither_changed_nor_written(net):
    before = {n: (p.clone(), p._version, p.data_ptr()) for n, p in net.net.named_parameters()}
    private = stepped(net)
    private.net(input_ids=IDS, use_cache=False).logits.float().square().mean().backward()
    torch.optim.AdamW(private.parameters, 0.1).step()
    for name, parameter in net.net.named_parameters():
        value, version, place = before[name]
        assert torch.equal(parameter, value) and parameter.data_ptr() == place and not parameter.requires_grad and parameter.grad is None, name
        assert parameter._version == version, f"{name} was written in place"


def test_a_run_that_begins_disturbs_no_backward_pass_of_another(net):
    last = {n for n, p in net.net.named_parameters() if layers(net)[n] == "0"}
    other = Private(net, last, 0, 0)  # its backward pass goes through later blocks, which are everyone's
    loss = other.net(input_ids=IDS, use_cache=False).logits.float().square().mean()
    Private(net, None, 2, 0)
    loss.backward()
    assert all(p.grad is not None for p in other.parameters)


def test_the_seed_draws_the_updates(net):
    one, two, other = (next(iter(Private(net, None, 2, seed).trained.values())) for seed in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_a_snapshot_counts_as_large_as_the_matrices_it_holds(net, monkeypatch):
    private = Private(net, None, 1, 0)
    trained = sum(p.numel() * p.element_size() for p in private.parameters)
    held = sum(p.numel() * p.element_size() for p in private.edits().values())
    assert trained < held
    for limit, small in ((trained - 1, False), (held - 1, False), (held, True)):
        monkeypatch.setattr(_private, "SMALL", limit)
        assert private.small == small
