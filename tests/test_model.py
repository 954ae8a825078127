"""A model is a value: edits and hooks reach no other copy, whatever the architecture, also between threads."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn

from models.errors import LabError, NotADecoder
from models.model import Model, blocks
from tests.families import FAMILIES, LAYERS, family, prompts

each_family = pytest.mark.parametrize("name", FAMILIES)
EMBEDDING = "transformer.wte.weight"


@pytest.fixture
def model() -> Model:
    return Model("tiny", family("gpt2")[1], source="organism:tiny")


def bits(net: nn.Module) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in net.state_dict().items()}


def same(net: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(t, before[n]) for n, t in net.state_dict().items())


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


@each_family
def test_blocks_are_the_stack_that_hidden_states_pass_through(name):
    net = Model(name, family(name)[1]).skeleton()
    found, order = blocks(net), []
    for i, block in enumerate(found):
        block.register_forward_hook(lambda *_, i=i: order.append(i))
    net(prompts())
    assert len(found) == LAYERS and order == list(range(LAYERS))
    path = next(n for n, m in net.named_modules() if m is found)
    assert not any(isinstance(m, nn.ModuleList) for n, m in net.named_modules() if n and path.startswith(f"{n}."))


def test_blocks_of_a_net_without_layers_says_why():
    with pytest.raises(NotADecoder, match="does not say how many layers"):
        blocks(nn.Linear(2, 2))


def test_blocks_cannot_be_told_where_two_stacks_are_as_long():
    net = family("gpt2")[1]
    net.second = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    assert blocks(net) is net.transformer.h  # the decoder's own counts
    net.transformer.second = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    with pytest.raises(NotADecoder, match=r"lists are as long: transformer.h, transformer.second"):
        blocks(net)
    net.transformer.h = net.transformer.h[:2]
    net.transformer.second = None
    net.second = None
    with pytest.raises(NotADecoder, match="No list"):
        blocks(net)


@each_family
def test_an_edit_shows_in_the_child_alone(name):
    model = Model(name, family(name)[1])
    x, before = prompts(), bits(model.net)
    clean = model.net(x).logits
    embedding = next(n for n, p in model.net.named_parameters() if p is model.net.get_input_embeddings().weight)
    child = model.with_weights({embedding: model.net.get_parameter(embedding).flip(1)}, via="flip")
    assert not torch.allclose(child.net(x).logits, clean, atol=1e-3)
    assert torch.equal(model.net(x).logits, clean) and same(model.net, before)
    shared = {n for n, p in child.net.named_parameters() if p is dict(model.net.named_parameters())[n]}
    assert shared == {n for n, _ in model.net.named_parameters()} - {embedding}
    assert not {id(b) for b in child.net.buffers()} & {id(b) for b in model.net.buffers()}


@each_family
def test_tied_weights_stay_tied(name):
    model = Model(name, family(name)[1])
    tied = model.net.get_input_embeddings().weight is model.net.get_output_embeddings().weight
    embedding = next(n for n, p in model.net.named_parameters() if p is model.net.get_input_embeddings().weight)
    for net in (model.skeleton(), model.with_weights({embedding: torch.ones_like(model.net.get_parameter(embedding))}, via="one").net):
        assert (net.get_input_embeddings().weight is net.get_output_embeddings().weight) == tied


def test_an_edit_under_a_tied_name_shows_under_both(model):
    child = model.with_weights({"lm_head.weight": torch.zeros(64, 32)}, via="zero")
    assert child.net.get_parameter(EMBEDDING) is child.net.get_parameter("lm_head.weight")
    assert not child.net.get_parameter(EMBEDDING).any() and model.net.get_parameter(EMBEDDING).any()


def test_two_different_edits_of_one_tied_weight_are_refused(model):
    value = model.net.get_parameter(EMBEDDING)
    assert model.with_weights({EMBEDDING: value * 2, "lm_head.weight": value * 2}, via="twice").net is not model.net
    with pytest.raises(LabError, match="tied"):
        model.with_weights({EMBEDDING: value * 2, "lm_head.weight": value * 3}, via="both")


def test_an_edit_is_copied_and_cast(model):
    value = torch.zeros(64, 32, dtype=torch.float64)
    child = model.with_weights({EMBEDDING: value}, via="zero")
    value += 1
    edited = child.net.get_parameter(EMBEDDING)
    assert edited.dtype == torch.float32 and not edited.any() and not edited.requires_grad
    again = model.with_weights({EMBEDDING: edited}, via="same")
    assert again.net.get_parameter(EMBEDDING).data_ptr() != edited.data_ptr()


def test_an_unknown_parameter_is_named_with_its_neighbours(model):
    with pytest.raises(LabError, match=r"no parameter 'transformer.wte.weigth'.*Did you mean transformer.wte.weight"):
        model.with_weights({"transformer.wte.weigth": torch.zeros(64, 32)}, via="x")
    with pytest.raises(LabError, match=r"no parameter 'transformer\.h\.0'"):
        model.with_weights({"transformer.h.0": torch.zeros(1)}, via="x")


def test_a_wrong_shape_is_named(model):
    with pytest.raises(LabError, match=r"has shape \(64, 32\), but the edit has \(32, 64\)"):
        model.with_weights({EMBEDDING: torch.zeros(32, 64)}, via="x")


def test_lineage_name_and_source(model):
    value = model.net.get_parameter(EMBEDDING)
    child = model.with_weights({EMBEDDING: value * 2}, via="double").with_weights({EMBEDDING: value * 3}, via="triple")
    assert child.lineage == ("organism:tiny", "double", "triple") and child.name == "tiny · double · triple"
    assert child.source == "organism:tiny" and child.parent.parent is model and model.lineage == ("organism:tiny",)
    assert Model("bare", model.net).lineage == ("bare",)


def test_fingerprint_follows_the_weights(model):
    value = model.net.get_parameter(EMBEDDING)
    child = model.with_weights({EMBEDDING: value * 2}, via="double")
    back = child.with_weights({EMBEDDING: value}, via="undo")
    assert model.fingerprint() == back.fingerprint() == Model("other", family("gpt2")[1]).fingerprint() != child.fingerprint()
    assert len(model.fingerprint()) == 64
    half = Model("half", copy.deepcopy(model.net).to(torch.bfloat16))
    assert half.fingerprint() != model.fingerprint() and half.dtype == torch.bfloat16 and half.device == torch.device("cpu")


def test_hooks_on_a_skeleton_reach_nobody_else(model):
    x, clean = prompts(), model.net(prompts()).logits
    skeleton = model.skeleton()
    skeleton.transformer.h[1].register_forward_hook(lambda m, a, out: (out[0] if isinstance(out, tuple) else out) * 0)
    assert not torch.allclose(skeleton(x).logits, clean)
    assert torch.equal(model.net(x).logits, clean) and torch.equal(model.skeleton()(x).logits, clean) and hooks(model.net) == 0
    assert all(a is b for a, b in zip(skeleton.parameters(), model.net.parameters(), strict=True))


def test_a_skeleton_leaves_hooks_behind(model):
    """Also transformers' own, which it puts on a net at the first request for hidden states: the copy installs them anew."""
    states = model.net(prompts(), output_hidden_states=True).hidden_states
    held = torch.zeros(8)
    model.net.transformer.h[0].register_forward_pre_hook(lambda *_: held.add_(1) and None)
    skeleton = model.skeleton()
    assert hooks(model.net) > 0 == hooks(skeleton)
    again = skeleton(prompts(), output_hidden_states=True).hidden_states
    assert len(again) == LAYERS + 1 and all(torch.equal(a, b) for a, b in zip(states, again, strict=True)) and not held.any()


def test_a_buffer_of_a_skeleton_is_its_own():
    model = Model("llama", family("llama")[1])
    clean, skeleton = model.net(prompts()).logits, model.skeleton()
    for buffer in skeleton.buffers():
        buffer.zero_()
    assert torch.equal(model.net(prompts()).logits, clean)


def test_a_model_is_its_own_copy(model):
    assert copy.deepcopy(model) is model and copy.deepcopy({"state": model})["state"] is model


@pytest.mark.parametrize("name", ["gpt2", "qwen3", "mamba"])
def test_base_and_edited_run_side_by_side_in_threads(name):
    model = Model(name, family(name)[1])
    embedding = next(n for n, p in model.net.named_parameters() if p is model.net.get_input_embeddings().weight)
    x = prompts()
    with torch.no_grad():
        child = model.with_weights({embedding: model.net.get_parameter(embedding).flip(1)}, via="flip")
        expected = {m: m.net(x).logits for m in (model, child)}
    wrong, gate = [], threading.Barrier(4)

    def forwards(which: Model) -> None:
        gate.wait()
        with torch.no_grad():
            for step in range(25):
                net = which.net if step % 2 else which.skeleton()
                wrong.append(not torch.equal(net(x).logits, expected[which]))

    threads = [threading.Thread(target=forwards, args=(m,)) for m in (model, child, model, child)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 100 and not any(wrong)


def test_weights_kept_off_the_device_are_shared_but_not_edited(model):
    """A net that accelerate spread: its parameters are shadows, and the values lie in a store beside it."""
    from accelerate import cpu_offload  # type: ignore[import-untyped]

    clean = model.net(prompts()).logits
    spread = Model("spread", cpu_offload(copy.deepcopy(model.net), execution_device="cpu"))
    skeleton = spread.skeleton()
    assert torch.equal(skeleton(prompts()).logits, clean) and torch.equal(spread.net(prompts()).logits, clean)
    stores = [n.transformer.h[0].mlp.c_fc._hf_hook.weights_map for n in (skeleton, spread.net)]
    assert stores[0] is stores[1]
    assert spread._digests[EMBEDDING] == model._digests[EMBEDDING] and spread.device == torch.device("cpu")
    with pytest.raises(LabError, match="kept outside"):
        spread.with_weights({EMBEDDING: torch.zeros(64, 32)}, via="x")
