"""Heads: a model whose heads are known because they were built by hand, slow loops, and what must hold whatever the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from lab.attention._head_ablate import Ablations, per_row
from lab.attention._head_copy import copy_scores
from lab.attention._head_read import Reader
from lab.attention._head_scores import DUPLICATE, INDUCTION, PREVIOUS, SINK, copied, looked_for, score
from lab.attention._head_texts import repeated, words
from lab.attention._head_views import correlations, ranks
from lab.attention.heads import HeadScores
from lab.data import Data, data_for
from lab.events import Grid, Progress, Scatter, Table
from models import catalog
from models.errors import BadInput
from models.model import Model
from tests import families

LENGTH, ROWS = 8, 3
NOTHING = Data(())
SHARP = 30.0  # of the hand-built heads: what they look for outweighs all else by exp(30)


def small(name):
    return Model(name, families.family(name)[1], families.tokenizer())


def ran(model, data=NOTHING, **settings):
    events = [e for e in HeadScores(**({"length": LENGTH, "sequences": ROWS} | settings)).run(model, data) if not isinstance(e, Progress)]
    return events[-1]


def columns(table):
    """Column -> (heads of all layers,); rows are in the order of layers."""
    return {name: np.array([np.nan if r[i] is None else r[i] for r in table.rows], float) for i, name in enumerate(table.columns) if i}


# A two-layer induction model, by hand. The stream has four parts: the token, the position, the token before (written by layer 0 head 0), and what is to
# be said (written by layer 1 head 0). There are no MLPs, and biases undo the mean that the norms take off.

VOCABULARY, PLACES, WIDTH = families.VOCABULARY, 24, 256
TOKEN, PLACE, BEFORE, SAY = 0, VOCABULARY, VOCABULARY + PLACES, 2 * VOCABULARY + PLACES


def put(matrix, rows, begin, size, scale=1.0):
    matrix[rows : rows + size, begin : begin + size] = scale * torch.eye(size)


@pytest.fixture(scope="module")
def by_hand():
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=PLACES, n_embd=WIDTH, n_layer=2, n_head=2, tie_word_embeddings=False, bos_token_id=1,
                        eos_token_id=2, attn_pdrop=0.0, layer_norm_epsilon=1e-12)
    net = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for name, parameter in net.named_parameters():
        parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
    put(net.transformer.wte.weight, 0, TOKEN, VOCABULARY)
    put(net.transformer.wpe.weight, 0, PLACE, PLACES)
    head = WIDTH // 2
    for layer, (ones, query, key, value, out) in enumerate([(2, PLACE, PLACE, TOKEN, BEFORE), (3, TOKEN, BEFORE, TOKEN, SAY)]):
        attention, size = net.transformer.h[layer].attn, PLACES if layer == 0 else VOCABULARY
        mean, spread = ones / WIDTH, (ones / WIDTH - (ones / WIDTH) ** 2) ** 0.5  # of what goes into the norm, at every token
        sharp = SHARP * head**0.5 * spread**2
        put(attention.c_attn.weight, query, 0, size, sharp)
        if layer == 0:  # each position asks for the one before
            attention.c_attn.weight[:, :head] = torch.roll(attention.c_attn.weight[:, :head], 1, 0) * (torch.arange(WIDTH) > PLACE)[:, None]
        put(attention.c_attn.weight, key, WIDTH, size)
        put(attention.c_attn.weight, value, 2 * WIDTH, VOCABULARY, spread)
        put(attention.c_proj.weight, 0, out, VOCABULARY)
        attention.c_attn.bias[:] = mean / spread * attention.c_attn.weight.sum(0)
    put(net.lm_head.weight, 0, SAY, VOCABULARY)
    return Model("by hand", net, families.tokenizer())


def test_the_heads_of_a_model_made_by_hand_score_what_they_are(by_hand):
    found = {name: value.reshape(2, 2) for name, value in columns(ran(by_hand, show="table")).items()}
    assert found["previous token"][0, 0] == pytest.approx(1, abs=1e-4) and found["induction"][1, 0] == pytest.approx(1, abs=1e-4)
    assert found["induction"][0, 0] == pytest.approx(0, abs=1e-4) and found["previous token"][1, 0] < 1 / LENGTH
    assert found["copy"][1, 0] == 1
    assert found["copy"][0, 0] < 0.5 and found["copy"][:, 1].max() == 0  # it writes where nothing is said; the idle heads write nothing
    # an idle head looks everywhere alike: one token in so many, from the first of the repeated half on
    places = np.arange(LENGTH + 1, 2 * LENGTH + 1)
    assert found["sink"][0, 1] == pytest.approx((1 / (places + 1)).mean(), abs=1e-6)
    assert found["previous token"][0, 1] == pytest.approx((1 / (places + 1)).mean(), abs=1e-6)


def test_it_copies_and_stops_copying_without_either_of_its_heads(by_hand):
    texts = repeated(by_hand, LENGTH, ROWS, 0)
    said = by_hand.net(texts.ids).logits[:, LENGTH + 1 : -1].argmax(-1)
    assert torch.equal(said, texts.ids[:, LENGTH + 2 :])
    for ablation in ("mean", "zero"):
        effect = ran(by_hand, show="effect", ablation=ablation).value  # heads, layers
        assert effect[0, 0] > 0.1 and effect[0, 1] > 0.1
        assert np.abs(effect[1]).max() < 1e-6
    zero = ran(by_hand, show="effect", ablation="zero")
    plain = functional.cross_entropy(by_hand.net(texts.ids).logits[:, LENGTH + 1 : -1].flatten(0, 1), texts.ids[:, LENGTH + 2 :].flatten())
    assert zero.value[0, 1] == pytest.approx(np.log(VOCABULARY) - float(plain), abs=1e-4)  # nothing at all is said without the induction head


def test_scores_are_the_sums_that_define_them(tiny_folder):
    model = catalog.load(tiny_folder)
    texts = repeated(model, LENGTH, ROWS, 0)
    ids = texts.ids.tolist()
    patterns = Reader(model).read(texts.ids).patterns
    for queries, bos in (("repeated half", True), ("all", False)):
        found = columns(ran(model, show="table", queries=queries, bos=bos))
        for at, (layer, head) in enumerate((i, j) for i in range(3) for j in range(4)):
            totals = {kind: [] for kind in (PREVIOUS, DUPLICATE, INDUCTION, SINK)}
            for row in range(ROWS):
                hit, mass, rest = dict.fromkeys(totals, 0.0), 0.0, []
                for q in range(1 if queries == "all" else 1 + LENGTH, 2 * LENGTH + 1):
                    for k in range(0 if bos else 1, q + 1):
                        a = float(patterns[layer][row, head, q, k])
                        mass += a
                        hit[PREVIOUS] += a * (k == q - 1)
                        hit[DUPLICATE] += a * (k < q and ids[row][k] == ids[row][q])
                        hit[INDUCTION] += a * (k > 0 and k - 1 < q and ids[row][k - 1] == ids[row][q])
                    rest.append(float(patterns[layer][row, head, q, 0]))
                for kind in (PREVIOUS, DUPLICATE, INDUCTION):
                    totals[kind].append(hit[kind] / mass)
                totals[SINK].append(np.mean(rest))
            for kind, values in totals.items():
                assert found[kind][at] == pytest.approx(np.mean(values), abs=1e-6), (kind, layer, head)


OUTLETS = {"gpt2": ("transformer.h", "attn.c_proj"), "llama": ("model.layers", "self_attn.o_proj"), "bloom": ("transformer.h", "self_attention.dense"),
           "gptj": ("transformer.h", "attn.out_proj"), "gemma2": ("model.layers", "self_attn.o_proj"), "mixtral": ("model.layers", "self_attn.o_proj")}


@pytest.mark.parametrize("name", OUTLETS)
@pytest.mark.parametrize("ablation", ["mean", "zero"])
def test_an_ablation_is_a_whole_forward_with_the_head_replaced(name, ablation):
    model = small(name)
    texts = repeated(model, LENGTH, ROWS, 0)
    found = ran(model, show="effect", ablation=ablation).value
    stack, inner = OUTLETS[name]
    targets = texts.ids[:, LENGTH + 2 :]

    def loss(net):
        logits = net(texts.ids).logits[:, LENGTH + 1 : -1]
        return float(functional.cross_entropy(logits.flatten(0, 1), targets.flatten()))

    for layer, head in ((0, 0), (1, 3), (2, 1)):
        net, kept = model.skeleton(), []
        matrix = net.get_submodule(f"{stack}.{layer}.{inner}")
        plain = matrix.register_forward_pre_hook(lambda _, args, kept=kept: kept.append(args[0]))
        before = loss(net)
        plain.remove()
        size = kept[0].shape[-1] // families.HEADS
        mine = slice(head * size, (head + 1) * size)
        value = kept[0][:, 1:, mine].mean((0, 1)) if ablation == "mean" else 0.0

        def replace(_, args, mine=mine, value=value):
            changed = args[0].clone()
            changed[..., mine] = value
            return (changed, *args[1:])

        matrix.register_forward_pre_hook(replace)
        assert found[head, layer] == pytest.approx(loss(net) - before, abs=2e-5)


def test_heads_that_share_keys_and_values_map_to_the_right_ones():
    """The same model with its keys and values written out for every query head: same scores, same copying, same effects, head by head."""
    shared = small("llama")
    config = type(shared.net.config)(**shared.net.config.to_dict() | {"num_key_value_heads": families.HEADS})
    net = type(shared.net)(config).eval().requires_grad_(False)
    size, weights = families.WIDTH // families.HEADS, dict(shared.net.state_dict())
    for name, value in weights.items():
        if "k_proj" in name or "v_proj" in name:
            weights[name] = value.unflatten(0, (-1, size)).repeat_interleave(2, 0).flatten(0, 1)
    net.load_state_dict(weights)
    one, other = (columns(ran(m, show="table")) for m in (shared, Model("written out", net, families.tokenizer())))
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=2e-5, err_msg=name)
    assert np.ptp(one["loss without it"]) > 1e-3  # the heads differ, or the comparison says nothing


def test_a_head_that_writes_nothing_is_missed_by_nobody_and_copies_nothing():
    model = small("llama")
    matrix = model.net.model.layers[1].self_attn.o_proj.weight.clone()
    matrix[:, 8:16] = 0
    model = model.with_weights({"model.layers.1.self_attn.o_proj.weight": matrix}, "head 1 of layer 1 written off")
    found = {name: value.reshape(3, 4) for name, value in columns(ran(model, show="table", ablation="zero")).items()}
    effects = np.abs(found["loss without it"])
    assert effects[1, 1] < 1e-6 < np.delete(effects.ravel(), 5).min() and found["copy"][1, 1] == 0


def test_the_copy_score_is_what_a_slow_loop_finds():
    model = small("llama")
    texts = repeated(model, LENGTH, ROWS, 0)
    seen = Reader(model).read(texts.ids)
    net, half = model.net, slice(1, 1 + LENGTH)
    for layer, value in copy_scores(model, texts, [seen], LENGTH):
        matrix = net.model.layers[layer].self_attn.o_proj.weight
        for head in range(4):
            values = seen.values[layer][:, head // 2]
            values = values - values[:, 1:].mean((0, 1))
            for row in range(ROWS):
                right = 0
                for s in range(LENGTH):
                    u = matrix[:, head * 8 : (head + 1) * 8] @ values[row, half][s]
                    logits = net.lm_head.weight[texts.ids[row, half]] @ (net.model.norm.weight * u)
                    right += int(logits.argmax() == s)
                assert float(value[row, head]) == pytest.approx(right / LENGTH)


def test_copying_counts_only_what_is_raised_most():
    logits = torch.tensor([[[2.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 3.0], [-2.0, -1.0]]])
    assert copied(logits).tolist() == [0.5, 0.0, 0.5]


def test_what_is_looked_for_by_hand():
    ids = torch.tensor([[5, 6, 5, 6]])
    assert looked_for(PREVIOUS, ids)[0].nonzero().tolist() == [[1, 0], [2, 1], [3, 2]]
    assert looked_for(DUPLICATE, ids)[0].nonzero().tolist() == [[2, 0], [3, 1]]
    assert looked_for(INDUCTION, ids)[0].nonzero().tolist() == [[2, 1], [3, 2]]
    pattern = torch.eye(4)[None, None]
    assert score(pattern, looked_for(PREVIOUS, ids), slice(0, 4), slice(0, 4)).item() == 0


def test_sequences_repeat_ordinary_tokens_after_the_start_token(tiny_folder):
    model = catalog.load(tiny_folder)
    texts = repeated(model, LENGTH, 50, 3)
    assert (texts.ids[:, 0] == model.tokenizer.bos_token_id).all() and not texts.real[:, 0].any()
    assert torch.equal(texts.ids[:, 1 : 1 + LENGTH], texts.ids[:, 1 + LENGTH :])
    assert set(texts.ids[:, 1:].unique().tolist()) == set(words(model)) and not set(words(model)) & set(model.tokenizer.all_special_ids)
    assert all(len(set(row)) == LENGTH for row in texts.ids[:, 1 : 1 + LENGTH].tolist())
    assert texts.counted[0].nonzero().flatten().tolist() == list(range(LENGTH + 2, 2 * LENGTH + 1))
    with pytest.raises(BadInput) as raised:
        repeated(model, 60, 1, 0)
    assert raised.value.setting == "length"


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_decoder_is_scored_or_says_why_not(name):
    if name in ("mamba", "falcon"):  # no attention; and one whose patterns are those of another computation than its logits
        with pytest.raises(BadInput, match="cannot be seen"):
            ran(small(name))
        return
    grid = ran(small(name), show="score")
    assert isinstance(grid, Grid) and np.isfinite(grid.value).any() and np.nanmin(grid.value) >= 0 and np.nanmax(grid.value) <= 1
    if name in ("gptj", "gpt_neo", "bloom"):  # patterns, but no values
        with pytest.raises(BadInput) as raised:
            ran(small(name), score="copy")
        assert raised.value.setting == "score"


def test_answers_of_several_lengths_are_ablated_as_one_by_one():
    model = small("llama")
    rows = ['{"prompt": "the capital of France is", "answer": "Paris"}',
            '{"prompt": "Anna Marlow wrote a book about the sea near Paris and", "answer": "was born in Rome"}',
            '{"prompt": "gold is", "answer": "a metal"}']
    together = ran(model, show="effect", on="answers", items="\n".join(rows), ablation="zero").value
    alone = [ran(model, show="effect", on="answers", items=row, ablation="zero").value for row in rows]
    np.testing.assert_allclose(together, np.mean(alone, 0), atol=2e-6)


def test_on_an_organism_facts_are_asked_and_figures_say_what_they_show():
    model = catalog.load("scribe")
    data = data_for(model)
    settings = {"on": "answers", "most": 4, "sequences": 2, "length": 6}
    events = [e for e in HeadScores(**settings).run(model, data) if not isinstance(e, Progress)]
    assert isinstance(events[0], Grid) and isinstance(events[-1], Scatter) and len(events[-1].labels) == 40
    assert any("4 answers" in line for line in events[-1].facts) and any("rank correlation" in line for line in events[-1].facts)
    assert isinstance(ran(model, data, show="table", sequences=2), Table)
    with pytest.raises(BadInput) as raised:
        ran(small("llama"), on="answers")
    assert raised.value.setting == "items"


def test_small_steps_give_the_figures_of_large_ones(monkeypatch):
    model = small("qwen3")
    large = ran(model, show="effect").value
    monkeypatch.setitem(__import__("lab.attention._head_ablate", fromlist=["WORK"]).WORK, "cpu", 1.0)
    np.testing.assert_allclose(ran(model, show="effect").value, large, atol=2e-6)


def test_the_mean_leaves_out_start_tokens_and_padding():
    model = small("llama")
    texts = repeated(model, LENGTH, ROWS, 0)
    kept = []
    net = model.skeleton()
    net.model.layers[1].self_attn.o_proj.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    net(texts.ids)
    work = Ablations(model, texts)
    losses = torch.cat(list(work.base()))
    assert torch.allclose(work.mean(1).flatten().float(), kept[0][:, 1:].mean((0, 1)), atol=1e-6)
    assert losses.shape == (ROWS, 2 * LENGTH) and per_row(losses, texts.counted[:, 1:]).shape == (ROWS,)


def test_rank_correlations_are_scipys():
    x, y = np.array([3.0, 1.0, 1.0, 5.0, 2.0]), np.array([0.1, 0.3, -2.0, 0.1, 9.0])
    assert np.corrcoef(ranks(x), ranks(y))[0, 1] == pytest.approx(spearmanr(x, y).statistic)
    assert f"r = {np.corrcoef(x, y)[0, 1]:.2f}" in correlations(x, y)
    assert "no correlation" in correlations(x, np.zeros(5))
