"""Memory policies: with room for everything nothing changes, and with less they are what slow references say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.cache_utils import DynamicCache

from lab.data import Data
from lab.events import Curves, Progress, Scatter
from lab.recall._cache import GROUP, HeavyLayer, QuantizedLayer, SinkLayer, coded, restored, turned
from lab.recall._policies import Policy, Reader, finished, frequencies, held, renumbered
from lab.recall._settings import DECOUPLED, FULL, HEAVY, ISOLATED, POLICIES, QUANTIZED, SINKS, WINDOW
from lab.recall.fidelity import Fidelity
from lab.recall.policies import MemoryPolicies
from models.errors import BadInput
from models.model import Model
from tests import families

NOTHING = Data(())
ROWS, CONTEXT, QUESTION = 3, 21, 4
GIVES_WAY = [WINDOW, SINKS, HEAVY]
BYTES = 4  # of a number in float32


def small(name, layers=families.LAYERS):
    if layers == families.LAYERS:
        return Model(name, families.family(name)[1], families.tokenizer())
    kind, sizes = families.FAMILIES[name]
    config = AutoConfig.for_model(kind, vocab_size=families.VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                                  **(sizes | {"num_hidden_layers": layers}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for parameter in net.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return Model(name, net.eval().requires_grad_(False), families.tokenizer())


def texts():
    ids = families.prompts(ROWS, CONTEXT + QUESTION)
    return ids[:, :CONTEXT], ids[:, CONTEXT:]


def plain(model, ids, last, **more):
    return model.net(input_ids=ids, use_cache=False, **more).logits[:, -last:]


@pytest.mark.parametrize("step", [1, 5])
@pytest.mark.parametrize("policy", [*GIVES_WAY, "quantized"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "gemma2", "gpt_neox", "mixtral"])
def test_a_memory_with_room_for_everything_is_full_attention(name, policy, step):
    model, (context, question) = small(name), texts()
    renumber = frequencies(model.net) is not None
    reader = Reader(model, Policy(policy, kept=10**6, bits=8, step=step, renumber=renumber))
    if policy == QUANTIZED:  # the latest tokens, up to two groups, are kept as they are
        context = context[:, : GROUP]
    read = reader.ask(context, question, QUESTION)
    torch.testing.assert_close(read, plain(model, torch.cat([context, question], 1), QUESTION), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize(("policy", "sinks"), [(WINDOW, 0), (SINKS, 3)])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_what_a_window_leaves_out_is_what_a_mask_leaves_out(name, policy, sinks, step):
    """A whole forward in which token q sees key k where k was still held when the piece of q was read."""
    model, (context, question) = small(name), texts()
    kept, ids, length = 9, torch.cat([context, question], 1), CONTEXT + QUESTION
    begins = [i - i % step if i < CONTEXT else CONTEXT + (i - CONTEXT) - (i - CONTEXT) % step for i in range(length)]
    seen = torch.zeros(length, length, dtype=torch.bool)
    for q in range(length):
        for k in range(q + 1):
            first = max(0, begins[q] - (kept - sinks)) if begins[q] > kept else 0
            seen[q, k] = k >= first or k < sinks
    mask = torch.zeros(ROWS, 1, length, length).masked_fill(~seen, torch.finfo(torch.float32).min)
    expected = plain(model, ids, QUESTION, attention_mask=mask)
    read = Reader(model, Policy(policy, kept=kept, sinks=sinks, step=step, renumber=False)).ask(context, question, QUESTION)
    torch.testing.assert_close(read, expected, atol=2e-4, rtol=1e-4)
    assert (read - plain(model, ids, QUESTION)).abs().max() > 1e-2  # and it matters


def test_with_positions_of_the_memory_one_layer_reads_the_sinks_and_the_window_as_one_text():
    model, (context, question) = small("llama", layers=1), texts()
    sinks, kept = 3, 10
    read = Reader(model, Policy(SINKS, kept=kept, sinks=sinks, step=1)).ask(context, question[:, :1])
    short = torch.cat([context[:, :sinks], context[:, -(kept - sinks) :], question[:, :1]], 1)
    torch.testing.assert_close(read, plain(model, short, 1), atol=1e-4, rtol=1e-4)
    other = Reader(model, Policy(SINKS, kept=kept, sinks=sinks, step=1, renumber=False)).ask(context, question[:, :1])
    assert (read - other).abs().max() > 1e-3


def test_heavy_hitters_are_those_of_a_slow_loop():
    generator, kept = torch.Generator().manual_seed(0), 6
    layer = HeavyLayer(kept)
    heads, group, size = 2, 2, 4
    rows = [[dict() for _ in range(heads)] for _ in range(ROWS)]  # token -> sum of attention, of those that are held
    told, number = {}, 0
    for piece in (5, 1, 3, 4, 1):
        keys, values = (torch.randn(ROWS, heads, piece, size, generator=generator) for _ in range(2))
        for i in range(piece):
            told[number + i] = keys[:, :, i], values[:, :, i]
        out, _ = layer.update(keys, values)
        pattern = torch.rand(ROWS, heads * group, piece, out.shape[2], generator=generator)
        layer.trim(pattern)
        for r in range(ROWS):
            for h in range(heads):
                sums = rows[r][h]
                sums |= {number + i: 0.0 for i in range(piece)}
                for k, token in enumerate(sorted(sums)):
                    sums[token] += float(pattern[r, h * group : (h + 1) * group, :, k].sum())
                if len(sums) > kept:
                    latest = sorted(sums)[-(kept - kept // 2) :]
                    best = sorted((t for t in sums if t not in latest), key=lambda t: -sums[t])[: kept // 2]
                    rows[r][h] = {t: sums[t] for t in (*best, *latest)}
                for place, token in enumerate(sorted(rows[r][h])):
                    assert torch.equal(layer.keys[r, h, place], told[token][0][r, h]) and torch.equal(layer.values[r, h, place], told[token][1][r, h])
        number += piece
    assert layer.held == kept and layer.get_seq_length() == number


def test_heavy_hitters_read_a_text_as_a_masked_forward_does():
    """One layer, one query at a time: the heavy hitters of a slow loop, then attention over them alone."""
    model, (context, _) = small("llama", layers=1), texts()
    kept = 6
    reader = Reader(model, Policy(HEAVY, kept=kept, step=1))
    cache = finished(reader.reading(context))
    net = model.skeleton()
    net.set_attn_implementation("eager")
    heads, groups = 2, 2
    held = [[[] for _ in range(heads)] for _ in range(ROWS)]
    sums = [[{} for _ in range(heads)] for _ in range(ROWS)]
    for t in range(CONTEXT):
        mask = torch.full((ROWS, heads * groups, t + 1, t + 1), torch.finfo(torch.float32).min)
        for r in range(ROWS):
            for h in range(heads):
                mask[r, h * groups : (h + 1) * groups, -1, [*held[r][h], t]] = 0.0
        pattern = net(context[:, : t + 1], attention_mask=mask, output_attentions=True).attentions[0]
        for r in range(ROWS):
            for h in range(heads):
                for k in (*held[r][h], t):
                    sums[r][h][k] = sums[r][h].get(k, 0.0) + float(pattern[r, h * groups : (h + 1) * groups, -1, k].sum())
                held[r][h] = sorted({*held[r][h], t})
                if len(held[r][h]) > kept:
                    old = held[r][h][: -(kept - kept // 2)]
                    best = sorted(old, key=lambda k: -sums[r][h][k])[: kept // 2]
                    held[r][h] = sorted([*best, *held[r][h][-(kept - kept // 2) :]])
    whole = net(context, past_key_values=DynamicCache(config=net.config), use_cache=True).past_key_values.layers[0]
    for r in range(ROWS):
        for h in range(heads):
            torch.testing.assert_close(cache.layers[0].keys[r, h], whole.keys[r, h, held[r][h]], atol=1e-5, rtol=1e-5)


def test_codes_restore_to_half_a_step_and_ranges_exactly():
    x = torch.randn(2, 3, GROUP, 5, generator=torch.Generator().manual_seed(0))
    for over in (2, 3):
        for bits in (1, 2, 4, 8):
            codes, scale, low = coded(x, bits, over)
            back = restored(codes, scale, low)
            assert ((back - x).abs() <= scale / 2 + 1e-6).all() and int(codes.max()) == 2**bits - 1
            torch.testing.assert_close(back.amin(over), x.amin(over)), torch.testing.assert_close(back.amax(over), x.amax(over))
    same = torch.full((1, 1, GROUP, 2), 3.0)
    assert torch.equal(restored(*coded(same, 2, 2)), same)


def test_a_quantized_layer_keeps_the_latest_as_they_are_and_counts_its_bytes():
    layer, size, heads = QuantizedLayer(4), 8, 2
    keys, values = (torch.randn(1, heads, 3 * GROUP + 5, size, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    layer.update(keys, values)
    layer.trim(None)
    assert layer.held == 3 * GROUP + 5 and len(layer.groups) == 2 and layer.keys.shape[2] == GROUP + 5
    codes = 2 * 2 * heads * GROUP * size // 2  # two groups, keys and values, half a byte each
    scales = 2 * BYTES * heads * 2 * (size + GROUP)  # two groups; scale and least value: of keys by channel, of values by token
    assert layer.size() == codes + scales + 2 * heads * (GROUP + 5) * size * BYTES
    new = torch.randn(1, heads, 1, size)
    out, _ = layer.update(new, new)
    assert torch.equal(out[:, :, 2 * GROUP : -1], keys[:, :, 2 * GROUP :]) and torch.equal(out[:, :, -1:], new)
    error = (out[:, :, : 2 * GROUP] - keys[:, :, : 2 * GROUP]).abs()
    assert 0 < float(error.max()) < 0.3


def test_fewer_bits_say_something_further_from_the_truth():
    model, ids = small("llama"), families.prompts(ROWS, 56)
    full = plain(model, ids, 1)
    far = [float((Reader(model, Policy(QUANTIZED, bits=b)).ask(ids[:, :52], ids[:, 52:]) - full).abs().mean()) for b in (8, 4, 2, 1)]
    assert far[0] < 0.02 and far == sorted(far)


def test_turning_adds_up_and_keeps_products_of_equal_distance():
    angles = torch.tensor([1.0, 0.1, 0.01])
    one, other = (torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    torch.testing.assert_close(turned(turned(one, 3, angles), 4, angles), turned(one, 7, angles))
    torch.testing.assert_close((turned(one, 3, angles) * turned(other, 5, angles)).sum(), (turned(one, 10, angles) * turned(other, 12, angles)).sum())
    assert torch.equal(turned(one, 9, angles)[..., 6:], one[..., 6:])  # what does not rotate stays


def test_bytes_are_those_of_the_sizes():
    model, size, heads = small("llama"), families.WIDTH // families.HEADS, 2
    token = 2 * heads * size * BYTES * families.LAYERS
    assert held(model, Policy(FULL), 40) == 40 * token
    assert held(model, Policy(WINDOW, kept=16), 40) == held(model, Policy(SINKS, kept=16), 40) == 16 * token
    assert held(model, Policy(WINDOW, kept=64), 40) == 40 * token
    assert held(model, Policy(HEAVY, kept=16), 40) == 16 * token + 16 * heads * families.LAYERS * BYTES
    assert held(model, Policy(QUANTIZED, bits=2), 40) < held(model, Policy(QUANTIZED, bits=8), 40) < 40 * token
    assert held(small("mamba"), Policy(FULL), 40) == held(small("mamba"), Policy(FULL), 10)  # a state of fixed size


@pytest.mark.parametrize(("policy", "begin"), [(DECOUPLED, 0), (ISOLATED, 10_000)])
def test_the_question_has_positions_of_its_own(policy, begin):
    model, (context, question) = small("llama"), texts()
    cache = model.net(context, past_key_values=DynamicCache(config=model.net.config), use_cache=True).past_key_values
    mask = torch.ones(ROWS, CONTEXT + QUESTION)
    places = begin + torch.arange(QUESTION)[None]
    expected = model.net(question, past_key_values=cache, attention_mask=mask, position_ids=places).logits
    read = Reader(model, Policy(policy)).ask(context, question, QUESTION)
    torch.testing.assert_close(read, expected, atol=1e-4, rtol=1e-4)
    assert (read - plain(model, torch.cat([context, question], 1), QUESTION)).abs().max() > 1e-2


@pytest.mark.parametrize("policy", [p for p in POLICIES if p != FULL])
@pytest.mark.parametrize(("name", "says"), [("mamba", "state of fixed size"), ("mistral", "window of its own"), ("jamba", "state of fixed size")])
def test_a_policy_that_a_model_cannot_have_is_said_with_its_cure(name, says, policy):
    with pytest.raises(BadInput, match=says) as raised:
        next(e for e in Fidelity(material="tokens", lags="2", loads="1", policy=policy).run(small(name), NOTHING) if not isinstance(e, Progress))
    assert raised.value.setting == "policy" and "full" in raised.value.cure


def test_positions_without_rotation_cannot_be_renumbered_nor_decoupled():
    for policy, setting in ((SINKS, "renumber"), (DECOUPLED, "policy"), (ISOLATED, "policy")):
        with pytest.raises(BadInput) as raised:
            Reader(small("gpt2"), Policy(policy))
        assert raised.value.setting == setting
    assert len(renumbered(small("llama"))) == families.WIDTH // families.HEADS // 2
    with pytest.raises(BadInput, match="heavy hitters") as raised:
        Reader(small("gptj"), Policy(HEAVY))
    assert raised.value.setting == "policy"


def test_layers_with_a_window_of_their_own_keep_it():
    model = small("gemma2")
    cache = finished(Reader(model, Policy(WINDOW, kept=6)).reading(families.prompts(2, 30)))
    kinds = [type(layer).__name__ for layer in cache.layers]
    assert set(kinds) == {"DynamicSlidingWindowLayer", "SinkLayer"} and isinstance(cache.layers[kinds.index("SinkLayer")], SinkLayer)


def test_without_rotary_positions_sinks_keep_those_of_the_text_and_the_rest_is_named():
    found = [*MemoryPolicies(material="tokens", lags="4", load=1, sizes="8", widths="4", repeats=2).run(small("gpt2"), NOTHING)][-1]
    assert found.labels == ("full", "window 8", "sink + window 4 + 4", "heavy hitters 8", "quantized 4 bit")
    assert sum("not rotary" in f for f in found.facts) == 2


def test_all_policies_are_compared_on_the_same_texts_and_the_full_one_is_plain_fidelity():
    model = small("llama")
    settings = {"material": "tokens", "lags": "4, 12", "repeats": 3}
    found = [e for e in MemoryPolicies(**settings, load=1, sizes="8", widths="4").run(model, NOTHING) if not isinstance(e, Progress)]
    assert all(isinstance(e, Scatter) for e in found) and len(found[-1].labels) == 7
    assert found[-1].labels[0] == "full" and found[-1].x[0] == max(found[-1].x)
    by_name = dict(zip(found[-1].labels, found[-1].x, strict=True))
    assert by_name["window 8"] == by_name["sink + window 4 + 4"] < by_name["quantized 4 bit"] == by_name["full"]  # so short a text is not quantized
    curves = [*MemoryPolicies(**settings, load=1, sizes="8", widths="4", show="distance").run(model, NOTHING)][-1]
    assert isinstance(curves, Curves)
    np.testing.assert_allclose(curves.value.mean(1), found[-1].y, atol=1e-6)
