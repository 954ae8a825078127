"""Repeated data: what the corpus holds, to the document; what is measured, against slow loops; a miniature of a run; the grid and its verdict by hand."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch

from bench import repetition as bench
from lab.attention import _repeat_grid as grid
from lab.attention import _repeat_train as training
from lab.attention._repeat_corpus import CHAINS, COPIES, HELD, PERIODS, SUCCESSORS, SYMBOLS, TOKENS, Corpus, chances, copies, entropy, table_loss
from lab.attention._repeat_heads import copying, followers, heads, repeats
from lab.attention._repeat_train import Trainer, copied, loss_of, new_net, nll, rate
from lab.attention._repeat_verdict import peak, verdict
from lab.attention.repetition import Repetition
from lab.events import Curves, Grid, Progress
from models.errors import BadInput

STEPS = 40


def rows(docs):
    return [tuple(d) for d in docs.tolist()]


def all_chains(corpus):
    return [d for step in range(corpus.steps) for d in rows(corpus.chain_batch(step))]


# The corpus


def test_the_share_and_the_reads_of_the_pool_are_counted():
    corpus = Corpus(0, STEPS, 0.5, 6)
    read, places = all_chains(corpus), CHAINS * STEPS
    assert len(read) == places and int(corpus.repeated.sum()) == corpus.slots == places // 2
    counts = [read.count(d) for d in rows(corpus.pool_docs)]
    assert sum(counts) == places // 2 and set(counts) <= {53, 54} and corpus.reads == pytest.approx(320 / 6)
    assert all((d in rows(corpus.pool_docs)) == r for d, r in zip(read, corpus.repeated.tolist(), strict=True))
    assert Corpus(0, STEPS, 0.1, 6).slots == 64
    assert corpus.batch(3).shape == (CHAINS + COPIES, TOKENS)


def test_a_pool_larger_than_its_places_is_read_once_at_most():
    corpus = Corpus(0, 4, 0.5, 500)
    read = all_chains(corpus)
    assert len(set(read)) == len(read) and sum(d in set(rows(corpus.pool_docs)) for d in read) == 32


@pytest.mark.parametrize("seed", [0, 5])
def test_arms_of_a_seed_differ_in_the_repeated_places_alone(seed):
    plain, small, large = (Corpus(seed, STEPS, 0.5, pool) for pool in (0, 2, 128))
    control, kept = Corpus(seed, STEPS, 0.5, 128, control=True), ~plain.repeated.numpy()
    unique = [d for d, k in zip(all_chains(plain), kept, strict=True) if k]
    for other in (small, large):
        assert [d for d, k in zip(all_chains(other), kept, strict=True) if k] == unique
        assert torch.equal(other.held, plain.held) and torch.equal(other.table, plain.table)
        assert all(torch.equal(other.copy_batch(s), plain.copy_batch(s)) for s in range(STEPS))
    assert all_chains(control) == unique


def test_unique_only_and_all_unique_hold_no_document_twice_and_the_pool_does():
    for corpus in (Corpus(1, STEPS, 0.5, 128, control=True), Corpus(1, STEPS, 0.5, 0)):
        read = all_chains(corpus)
        assert len(set(read)) == len(read) and not set(read) & set(rows(corpus.held)) and corpus.reads == 1
    assert len(set(all_chains(Corpus(1, STEPS, 0.5, 128)))) == 320 + 128
    assert len(all_chains(Corpus(1, STEPS, 0.5, 128, control=True))) == 320


def test_the_entropy_of_a_chain_by_hand():
    total = sum(Fraction(1, k) for k in range(1, 9))  # 761/280
    assert total == Fraction(761, 280) and chances() == pytest.approx([float(Fraction(1, k) / total) for k in range(1, 9)])
    assert entropy() == pytest.approx(math.log(761 / 280) + sum(math.log(k) / k for k in range(1, 9)) / (761 / 280))
    assert entropy() == pytest.approx(1.8158, abs=1e-4)


def test_the_true_table_reaches_the_entropy_and_nothing_else_does():
    corpus = Corpus(2, 1, 0.5, 0)
    table, held = corpus.table, corpus.held
    assert all(len(set(row)) == SUCCESSORS for row in table.tolist())
    slow = [-math.log(chances()[table[a].tolist().index(b)]) for d in held[:5].tolist() for a, b in zip(d, d[1:], strict=False)]
    assert table_loss(table, held[:5]) == pytest.approx(np.mean(slow), rel=1e-5)
    deviation = math.sqrt(sum(p * math.log(p) ** 2 for p in chances()) - entropy() ** 2)
    assert abs(table_loss(table, held) - entropy()) < 4 * deviation / math.sqrt(HELD * (TOKENS - 1))
    assert table_loss(table, held) < math.log(SUCCESSORS) - 0.2  # of a reader who knows the successors and not their chances
    assert table_loss(table.roll(1, 1), held) > table_loss(table, held) + 0.2  # of one who takes each for the next


def test_copy_documents_repeat_a_string_whose_symbols_differ():
    docs, periods = copies(300, torch.Generator().manual_seed(3))
    assert set(periods.tolist()) == set(range(PERIODS[0], PERIODS[1] + 1))
    for doc, period in zip(docs.tolist(), periods.tolist(), strict=True):
        assert len(set(doc[:period])) == period and all(doc[t] == doc[t - period] for t in range(period, TOKENS))
    assert set(docs.flatten().tolist()) == set(range(SYMBOLS))
    mask = copied(torch.tensor([5]))[0].tolist()  # predicted tokens 1..31: 6 is the first that can be known
    assert mask == [t > 5 for t in range(1, TOKENS)] and mask.index(True) == 5


# Training and measuring


def test_a_net_hangs_on_its_seed_alone_and_is_a_gpt_of_a_tenth_of_a_million():
    torch.manual_seed(1)
    one = new_net(4)
    torch.manual_seed(2)
    two, other = new_net(4), new_net(5)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert 9e4 < sum(p.numel() for p in one.parameters()) < 1.2e5
    assert float(nll(one, Corpus(4, 1, 0.5, 0).held[:50]).mean()) == pytest.approx(math.log(SYMBOLS), abs=0.1)


def test_empty_places_weigh_nothing_and_leave_the_others_their_weight():
    """The gradient of a step is that of the sum over its documents over the tokens of a full batch."""
    corpus = Corpus(0, 3, 0.5, 4, control=True)
    trainer = Trainer(corpus)
    docs = corpus.batch(0)
    assert COPIES < len(docs) < CHAINS + COPIES
    seen = {}
    trainer.optimizers[1].register_step_pre_hook(lambda *_: seen.update(g=trainer.net.transformer.wpe.weight.grad.clone()))
    trainer.step()
    net = new_net(0)
    sum(nll(net, d[None]).sum() for d in docs).div(32 * 31).backward()
    norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
    torch.testing.assert_close(seen["g"], net.transformer.wpe.weight.grad / max(1.0, float(norm)), rtol=1e-3, atol=1e-6)


def test_the_rate_rises_and_falls():
    assert rate(0, 1200) == pytest.approx(1 / 50) and rate(49, 1200) == pytest.approx(1 - 49 / 1200) and rate(1199, 1200) == pytest.approx(1 / 1200)


def test_losses_and_their_errors_against_a_loop():
    corpus, net = Corpus(0, 1, 0.5, 0), new_net(0)
    docs, periods = (x[:150] for x in corpus.held_copies)
    *waiting, found = loss_of(net, docs, copied(periods))
    assert waiting == [None, None]
    with torch.no_grad():
        each = [net(input_ids=d[None]).logits[0].log_softmax(-1) for d in docs]
    values = [[-float(lp[t - 1, d[t]]) for t in range(p + 1, TOKENS)] for lp, d, p in zip(each, docs.tolist(), periods.tolist(), strict=True)]
    assert found.mean == pytest.approx(np.mean([v for mine in values for v in mine]), rel=1e-5)
    residual = [sum(v) - found.mean * len(v) for v in values]
    assert found.error == pytest.approx(math.sqrt(sum(r * r for r in residual)) / sum(map(len, values)), rel=1e-3)
    assert all(math.isnan(v) for v in vars(next(loss_of(net, docs[:0]))).values())


# Heads


def test_what_followed_the_last_time_by_hand():
    found = followers(torch.tensor([[7, 8, 9, 7, 8, 7]]))[0].tolist()
    assert found[3] == [0, 1, 0, 0, 0, 0] and found[4] == [0, 0, 1, 0, 0, 0] and found[5] == [0, 1, 0, 0, 1, 0]
    assert not any(map(any, found[:3]))
    assert repeats(torch.tensor([30]))[0].tolist() == [0] * 30 + [1, 1]


def test_prefix_matching_against_a_loop_and_with_even_attention():
    net, (docs, periods) = new_net(1), (x[:6] for x in Corpus(1, 1, 0.5, 0).held_copies)
    before = net.config._attn_implementation
    found = heads(net, docs, periods)
    assert net.config._attn_implementation == before
    net.set_attn_implementation("eager")
    pattern = net(input_ids=docs, output_attentions=True).attentions[1][:, 2].detach()
    each = []
    for doc, period, mine in zip(docs.tolist(), periods.tolist(), pattern, strict=True):
        each.append(np.mean([sum(float(mine[q, k]) for k in range(1, q) if doc[k - 1] == doc[q]) for q in range(period, TOKENS)]))
    assert found.matching[1, 2] == pytest.approx(np.mean(each), rel=1e-4) and found.error[1, 2] == pytest.approx(np.std(each, ddof=1) / 6**0.5, rel=1e-3)
    with torch.no_grad():
        for block in net.transformer.h:
            block.attn.c_attn.weight[:, :128] = 0  # queries and keys that say nothing
    even, lengths = heads(net, docs[:1], periods[:1]), np.arange(int(periods[0]), TOKENS)
    period = int(periods[0])
    assert even.chance == pytest.approx(np.mean([(q // period) / (q + 1) for q in lengths])) and even.matching == pytest.approx(np.full((2, 4), even.chance))


def test_the_copying_score_of_heads_that_say_it_its_opposite_and_of_any():
    net = new_net(0)
    with torch.no_grad():
        net.transformer.wte.weight.copy_(torch.eye(SYMBOLS))
        for layer, sign in ((0, 1.0), (1, -1.0)):
            attention = net.transformer.h[layer].attn
            attention.c_attn.weight[:, 128:] = torch.eye(64)
            attention.c_proj.weight.copy_(sign * torch.eye(64))
    assert copying(net) == pytest.approx(np.array([[1.0] * 4, [-1.0] * 4]))
    net, width = new_net(3), 64
    e, centred = net.transformer.wte.weight.detach().double(), torch.eye(64).double() - 1 / 64
    block = net.transformer.h[1].attn
    v, o = block.c_attn.weight.detach().double()[:, 2 * width + 16 : 2 * width + 32], block.c_proj.weight.detach().double()[16:32]
    values = torch.linalg.eigvals(e @ centred @ v @ o @ centred @ e.T)  # of all symbols at once
    assert copying(net)[1, 1] == pytest.approx(float(values.real.sum() / values.abs().sum()), rel=1e-6)


# A run


def test_a_miniature_runs_streams_learns_and_repeats():
    settings = Repetition(pool=4, steps=20)
    events = list(settings.run(None, None))
    kept = [e for e in events if not isinstance(e, Progress)]
    assert isinstance(events[0], Progress) and isinstance(kept[-2], Grid) and all(isinstance(e, Curves) for e in [*kept[:-2], kept[-1]])
    assert [list(e.x) for e in kept[:3]] == [[0], [0, 4], [0, 4, 8]] and kept[-1].x[-1] == 20
    last = kept[-1]
    chains, copy, pool, floor = last.value
    assert chains[-1] < chains[0] - 0.05 and pool[-1] < chains[-1] and (floor < chains.min()).all() and copy[-1] > 3
    assert kept[-2].value.shape == (8, 2) and (kept[-2].value[:, 0] <= 1).all() and "each read 40 times" in last.title
    again = [e for e in Repetition(pool=4, steps=20).run(None, None) if isinstance(e, Curves)][-1]
    assert np.array_equal(again.value, last.value)
    other = [e for e in Repetition(pool=4, steps=20, seed=1).run(None, None) if isinstance(e, Curves)][-1]
    assert not np.array_equal(other.value, last.value)


def test_without_a_pool_there_is_no_line_of_it():
    for settings in (Repetition(pool=0, steps=1), Repetition(pool=8, steps=1, control=True)):
        last = list(settings.run(None, None))[-1]
        assert "the repeats themselves" not in last.lines and not np.isnan(last.value).any()


def test_closed_it_stops_training(monkeypatch):
    steps, step = [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self: (steps.append(1), step(self)))
    run = Repetition(pool=4, steps=30).run(None, None)
    for event in run:
        if isinstance(event, Progress) and event.done == 3:
            break
    run.close()
    assert len(steps) == 3 and next(run, "over") == "over"


# The grid


def cell(pool, seed, held, copy=0.02, control=False, share=0.5):
    return {"share": share, "pool": pool, "control": control, "seed": seed, "reads": 9600 / pool if pool else 1.0, "held": held, "copy": copy,
            "pool loss": 0.1 if pool else None, "rise": 0.01, "matching": 0.5, "copying": 0.9}


def made(means, spread=0.01, copy=None):
    """A grid of three seeds: arm -> held-out loss; `None` is the control."""
    found = {}
    for pool, mean in means.items():
        for seed, off in enumerate((-spread, 0, spread)):
            mine = cell(pool or 0, seed, mean + off, (copy or {}).get(pool, 0.02) + off / 10, pool is None)
            found[grid.Cell(0.5, mine["pool"], mine["control"], seed).key] = mine
    return found


def test_the_verdict_by_hand():
    known = made({None: 2.0, 8192: 1.95, 128: 2.2, 2: 2.05}, copy={128: 0.05})
    found = peak(known, 0.5, "held")
    assert (found.arm, found.reads, found.seeds) == ("pool 128", 75, 3)
    assert found.cost == pytest.approx(0.2) and found.cost_error == pytest.approx(0, abs=1e-9) and found.spread == pytest.approx(0.01)
    assert found.times == pytest.approx(20) and found.less == pytest.approx(0.25) and found.more == pytest.approx(0.15) and found.reproduces
    worst, sides, copying_, rose = verdict(known, 0.5)
    assert "pool 128 (75 reads" in worst and "+0.200 ± 0.000 nats" in worst and "20.0 times the spread of 3 seeds" in worst
    assert sides == "0.250 better with fewer reads and 0.150 better with more: a peak at intermediate repetition reproduces"
    assert "+0.0300" in copying_ and copying_.endswith("reproduces") and "0.010 nats" in rose and "does not reproduce" in rose


@pytest.mark.parametrize(("means", "spread"), [
    ({None: 2.0, 8192: 1.95, 128: 2.1, 2: 2.2}, 0.01),  # more repetition is always worse
    ({None: 2.0, 8192: 1.95, 128: 2.2, 2: 2.05}, 0.1),  # seeds differ as much as arms
    ({None: 2.0, 8192: 1.95, 128: 1.97, 2: 1.96}, 0.01),  # a peak that costs nothing
    ({None: 2.0, 128: 2.2}, 0.01)])  # nothing on either side of it
def test_what_does_not_reproduce_is_told(means, spread):
    assert "intermediate repetition does not reproduce" in verdict(made(means, spread), 0.5)[1]


def test_copying_that_is_worst_elsewhere_or_hardly_is_told():
    means = {None: 2.0, 8192: 1.95, 128: 2.2, 2: 2.05}
    assert "not where held-out loss is worst" in verdict(made(means, copy={2: 0.06}), 0.5)[2]
    assert "within the noise" in verdict(made(means, copy={128: 0.0205}), 0.5)[2]
    one = {key: c for key, c in made(means).items() if c["seed"] == 0}
    assert "of one seed" in verdict(one, 0.5)[0] and "does not reproduce" in verdict(one, 0.5)[1]
    assert "does not reproduce" in verdict(made(means), 0.5)[3]
    risen = {key: c | {"rise": 0.05} for key, c in made(means).items()}
    assert verdict(risen, 0.5)[3].endswith("midway is no more than without repeats")
    assert verdict({k: c | {"rise": 0.01} if c["control"] else c for k, c in risen.items()}, 0.5)[3].endswith("midway reproduces")
    assert "no control" in verdict(made({128: 2.2}), 0.5)[0]


def test_rises_by_hand():
    assert grid.largest_rise([3.0, 2.0, 2.5, 1.0, 1.2]) == pytest.approx(0.5) and grid.largest_rise([3.0, 2.0, 1.0]) == 0


def test_the_grid_goes_on_where_it_stopped(monkeypatch, tmp_path):
    ran = []

    def small(one):
        ran.append(one.key)
        return [kept for kept in grid.run(one, steps=2, every=1) if kept][-1] | {"cpu seconds": 0.1}

    monkeypatch.setattr(bench, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))
    monkeypatch.setattr(bench, "once", small)
    path, todo = tmp_path / "grid.json", grid.cells()[:2]
    bench.work(todo[:1], done := grid.load(path), 1, lambda d: bench.save(d, path))
    assert list(done) == ran == [todo[0].key]
    bench.work(todo, done := grid.load(path), 1, lambda d: bench.save(d, path))
    assert ran == [c.key for c in todo] and set(grid.load(path)) == set(ran) and set(done) == set(ran)
    bench.work(todo, grid.load(path), 1, lambda d: bench.save(d, path))
    assert len(ran) == 2
    assert "cells have not been run yet" in bench.page(done) and "| unique only | - |" in bench.page(done)
    monkeypatch.setattr(training, "LR_REST", 1.0)
    assert grid.load(path) == {}  # figures of another recipe are none of this one


def test_the_grid_is_what_it_says():
    keys = [c.key for c in grid.cells()]
    assert len(keys) == len(set(keys)) == 3 * (5 + 2) + 3 * (3 + 1)


def test_the_bundled_grid_is_of_this_code_and_comes_first():
    known = grid.load()
    assert known, "assets/repetition/grid.json is missing, or of another recipe"
    key, one = next((k, c) for k, c in known.items() if not c["control"])
    corpus = Corpus(one["seed"], grid.STEPS, one["share"], one["pool"])
    assert grid.Cell(one["share"], one["pool"], one["control"], one["seed"]).key == key and one["reads"] == pytest.approx(corpus.reads, rel=1e-4)
    assert one["floor"] == pytest.approx(table_loss(corpus.table, corpus.held), rel=1e-4) and one["held"] > one["floor"]
    run = Repetition(pool=one["pool"], share=one["share"]).run(None, None)
    first = next(e for e in run if not isinstance(e, Progress))
    run.close()
    alone = list(Repetition(pool=one["pool"], share=one["share"], steps=0).run(None, None))[-1]
    assert first.title == alone.title and "What repetition costs" in first.title and first.facts == verdict(known, one["share"])
    place = list(first.x).index(np.log2(one["reads"]))
    assert first.value[0, place] == pytest.approx(grid.values(grid.arms(known, one["share"])[f"pool {one['pool']}"], "held").mean())
    other = next(e for e in Repetition(pool=5, steps=3).run(None, None) if not isinstance(e, Progress))
    assert "grown from nothing" in other.title


def test_without_a_grid_there_is_nothing_to_show_alone(monkeypatch):
    monkeypatch.setattr(grid, "load", lambda: {})
    with pytest.raises(BadInput) as raised:
        list(Repetition(steps=0).run(None, None))
    assert raised.value.setting == "steps"
