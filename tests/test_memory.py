"""Memory architectures: the two forms agree, special cases coincide, hand-worked updates, tasks ask for what they stored, a miniature learns."""

from dataclasses import replace

import pytest
import torch

from models.errors import BadInput
from models.memory import grown, tasks
from models.memory.attention import Attention
from models.memory.delta import Delta
from models.memory.designs import DESIGNS, build
from models.memory.grow import grow
from models.memory.linear import Linear
from models.memory.memmamba import pool
from models.memory.mixer import Along
from models.memory.mom import MixtureOfMemories
from models.memory.net import run
from models.memory.titans import Memory, products, surprise
from models.memory.train import Recipe, Trainer


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def made(name, seed=0):
    base = build(DESIGNS[name].base, seed) if DESIGNS[name].base else None
    net = build(name, seed, base).double().eval().requires_grad_(False)
    for p in net.parameters():  # away from zeros and ones that could hide a slip
        p += 0.1 * torch.randn(p.shape, generator=generator(1)).double()
    return net


def reads(mixer, x):
    """The output of a mixer token by token."""
    kept, found = mixer.start(len(x)), []
    for t in range(x.shape[1]):
        y, kept, _ = mixer.step(x[:, t], kept, Along(t))
        found.append(y)
    return torch.stack(found, 1)


@pytest.mark.parametrize("name", DESIGNS)
def test_the_recurrent_form_is_the_parallel_form(name):
    tokens = tasks.associations(2, 75, 6, generator(), spread=5).tokens  # past every window, and no multiple of a chunk
    net = made(name)
    assert torch.allclose(run(net, tokens), net(tokens), atol=1e-5)


@pytest.mark.parametrize("name", DESIGNS)
def test_a_step_leaves_the_state_it_was_given(name):
    net, tokens = made(name), tasks.haystack(2, 40, generator()).tokens
    state = net.start(2)
    for t in range(36):
        state, _ = net.step(state, tokens[:, t])
    before = [{n: t.clone() for n, t in kept.items()} for kept in state.kept]
    one, two = (net.step(state, tokens[:, 37])[1] for _ in range(2))
    assert torch.equal(one, two)
    assert all(torch.equal(t, kept[n]) for kept, old in zip(state.kept, before, strict=True) for n, t in old.items())


@pytest.mark.parametrize("name", DESIGNS)
def test_nothing_comes_from_the_future(name):
    net, tokens = made(name), tasks.haystack(1, 50, generator()).tokens
    other = tokens.clone()
    other[:, 41:] = tasks.haystack(1, 50, generator(1)).tokens[:, 41:]
    assert torch.allclose(net(tokens)[:, :41], net(other)[:, :41], atol=1e-9)


@pytest.mark.parametrize("name", DESIGNS)
def test_all_have_about_as_many_parameters_to_train(name):
    net = build(name, 0, build("window", 0) if DESIGNS[name].base else None)
    assert abs(sum(p.numel() for p in net.parameters() if p.requires_grad) / 52_000 - 1) < 0.07


def test_states_are_as_large_as_they_say():
    assert build("linear", 0).start(1).bytes == 2 * 4 * (24 * 48 + 3 * 48)
    net, tokens = build("window", 0), tasks.haystack(1, 60, generator()).tokens
    state, sizes = net.start(1), []
    for t in range(60):
        state, _ = net.step(state, tokens[:, t])
        sizes.append(state.bytes)
    assert sizes[-1] == sizes[40] == 2 * 4 * (32 * (24 + 48) + 3 * 48) and sizes[10] < sizes[31]


def test_sinks_and_an_infinite_window_are_full_attention():
    x = torch.randn(2, 50, 48, generator=generator())
    full, sinks, short = Attention(48), Attention(48, 10**6, 4), Attention(48, 16, 4)
    sinks.load_state_dict(full.state_dict())
    short.load_state_dict(full.state_dict())
    assert torch.equal(full(x, Along()), sinks(x, Along()))
    assert torch.allclose(full(x, Along())[:, :16], short(x, Along())[:, :16]) and not torch.allclose(full(x, Along()), short(x, Along()))


def test_one_memory_without_a_router_is_linear_attention():
    x = torch.randn(2, 40, 48, generator=generator())
    linear, mom = Linear(48), MixtureOfMemories(48, memories=1, top=0, shared=False)
    mom.load_state_dict(linear.state_dict())
    assert torch.allclose(linear(x, Along()), mom(x, Along()), atol=1e-6)


def test_a_memory_that_was_not_chosen_stays_as_it_was():
    mom = MixtureOfMemories(48)
    x = torch.randn(3, 48, generator=generator())
    _, kept, seen = mom.step(x, mom.start(3), Along())
    assert ((seen["routing"][:, :4] > 0).sum(1) == 2).all() and torch.allclose(seen["routing"][:, :4].sum(1), torch.ones(3))
    assert torch.equal(kept["memories"].abs().sum((2, 3)) > 0, seen["routing"] > 0)


def test_decay_with_gamma_one_is_linear_attention():
    x = torch.randn(2, 30, 48, generator=generator())
    one, two = Linear(48), Linear(48, (0.5,))
    two.load_state_dict(one.state_dict())
    assert not torch.allclose(one(x, Along()), two(x, Along()))
    two.gamma.fill_(1.0)
    assert torch.equal(one(x, Along()), two(x, Along()))


def test_the_delta_rule_replaces_what_stood_under_the_key():
    delta = Delta(48, gated=False)
    k = torch.zeros(1, 24)
    k[0, 3] = 1.0
    first, second = torch.randn(2, 1, 48, generator=generator())
    torch.nn.Module.__setattr__(delta, "project", lambda x: (k, k, x, torch.ones(1), torch.zeros(1)))
    kept, seen = delta.start(1), {}
    for v in (first, second, second):
        _, kept, seen = delta.step(v, kept, Along())
    assert torch.allclose(kept["memory"][0, 3], second[0], atol=1e-6)
    assert seen["surprise"].item() == pytest.approx(0.0, abs=1e-5)  # what is known already surprises nobody


def test_titans_surprise_and_update_by_hand():
    m, k, v = torch.tensor([[[0.5]]]), torch.tensor([[2.0]]), torch.tensor([[3.0]])
    assert surprise(m, k, v).item() == pytest.approx(2 * (0.5 * 2 - 3) * 2)  # d/dm (m k - v)^2 = 2 (m k - v) k = -8
    memory = Memory(48)
    key, value = torch.zeros(1, 24), torch.zeros(1, 48)
    key[0, 0], value[0, 0] = 1.0, 3.0
    theta, eta, alpha = (torch.tensor([g]) for g in (0.25, 0.5, 0.1))
    torch.nn.Module.__setattr__(memory, "written", lambda x: (key, value, theta, eta, alpha))
    one, seen = memory.write(torch.zeros(1, 48), memory.start(1), 0)
    # S = -.25 * 2 (0 - 3) = 1.5 and M = .9 * 0 + 1.5
    assert one["memory"][0, 0, 0].item() == pytest.approx(1.5) and seen["surprise"].item() == pytest.approx(6.0)
    two, seen = memory.write(torch.zeros(1, 48), one, 8)  # a chunk further: the gradient is taken at M = 1.5
    # grad = 2 (1.5 - 3) = -3, S = .5 * 1.5 + .25 * 3 = 1.5, M = .9 * 1.5 + 1.5 = 2.85
    assert seen["surprise"].item() == pytest.approx(3.0) and two["memory"][0, 0, 0].item() == pytest.approx(2.85)
    same, seen = memory.write(torch.zeros(1, 48), one, 1)  # within the chunk: still at M_0 = 0
    assert seen["surprise"].item() == pytest.approx(6.0) and same["memory"][0, 0, 0].item() == pytest.approx(0.9 * 1.5 + 0.5 * 1.5 + 1.5)


def test_products_of_gates():
    gates = torch.tensor([[0.5, 0.0, 0.25]])
    assert torch.equal(products(gates)[0], torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0.25, 1]]))


def test_the_pool_keeps_the_best_notes_so_far():
    held = pool(torch.tensor([[0.5, 0.05, 0.9, 0.7, 0.7]]), 2)[0]
    assert [row.nonzero()[:, 0].tolist() for row in held] == [[0], [0], [0, 2], [2, 3], [2, 3]]  # .05 is not worth a note; the first of equals stays


@pytest.mark.parametrize("spread", [0, 7])
def test_every_question_asks_for_what_was_stored(spread):
    batch = tasks.associations(20, 100, 9, generator(), spread)
    rows, asks = (batch.target >= 0).nonzero(as_tuple=True)
    stored = asks - batch.lag[rows, asks]
    assert len(rows) == 20 * 9 and (batch.lag[rows, asks] > 0).all()
    assert torch.equal(batch.tokens[rows, stored], batch.target[rows, asks]) and torch.equal(batch.tokens[rows, stored - 1], batch.tokens[rows, asks])
    words = {tasks.name(t) for t in batch.tokens[0].tolist()}
    assert "<start>" in words and sum(w.startswith("k") for w in words) == 9


def test_a_passkey_stands_at_its_depth_and_is_asked_for_at_the_end():
    batch = tasks.passkeys(8, 60, generator(), depth=0.5)
    assert (batch.tokens[:, 27] == tasks.MARK).all() and torch.equal(batch.tokens[:, 28:31], batch.target[:, -3:])
    assert torch.equal(batch.tokens[:, -2:], batch.target[:, -3:-1]) and (batch.lag[:, -3:] == 29).all()


@pytest.mark.parametrize("kind", ["pairs", "passkeys"])
def test_a_swap_changes_one_stored_value_and_its_answer(kind):
    batch = tasks.associations(30, 80, 5, generator()) if kind == "pairs" else tasks.passkeys(30, 80, generator())
    new, asks = tasks.swapped(batch, generator(1))
    rows = torch.arange(30)
    assert ((new.tokens != batch.tokens).sum(1) == 1).all() and ((new.target != batch.target).sum(1) == 1).all()
    assert torch.equal(new.tokens[rows, asks - batch.lag[rows, asks]], new.target[rows, asks])
    assert ((new.target[rows, asks] >= tasks.VALUES.start) & (new.target[rows, asks] < tasks.VALUES.stop)).all()


def test_pairs_that_do_not_fit_are_named():
    with pytest.raises(BadInput, match="40 pairs") as raised:
        tasks.associations(1, 100, 40, generator())
    assert raised.value.setting == "pairs"
    with pytest.raises(BadInput, match="there is no memory 'mamba3'"):
        build("mamba3", 0)


def test_training_raises_recall_above_chance():
    recipe = Recipe(steps=100, batch=16, length=12, least=1, most=2, rise=10)
    trainer = Trainer(build("linear", 0), recipe, 0)
    shares = [trainer.step()[1] for _ in range(recipe.steps)]
    assert sum(shares[:10]) / 10 < 2 * tasks.CHANCE < 0.3 < sum(shares[-20:]) / 20


def test_same_seed_same_net_and_it_is_read_as_it_was_written(tmp_path):
    recipe = Recipe(steps=3, batch=4, length=24, least=1, most=2)
    one = grow("window", 3, tmp_path, recipe)
    grow("longmem", 3, tmp_path, recipe)
    two = grow("window", 3, tmp_path / "again", recipe)
    assert one["right"] == two["right"] and one["differ"] <= 0.05 and replace(recipe) == Recipe(**grown.about("window", 3, tmp_path)["recipe"])
    nets = [grown.load("window", 3, folder) for folder in (tmp_path, tmp_path / "again")]
    assert all(torch.equal(p, q) for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
    assert grown.names(tmp_path) == ["window", "longmem"] and grown.seeds("window", tmp_path) == [3]
    assert torch.equal(grown.load("longmem", 3, tmp_path).net.embed.weight, nets[0].embed.weight)
    with pytest.raises(BadInput, match="not grown with seed 4"):
        grown.load("window", 4, tmp_path)
