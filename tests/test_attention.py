"""Maps and intensities of attention: what must hold whatever the model, values by hand, and a slow loop over queries, keys and values."""

from __future__ import annotations

import functools
import json
import math
import weakref

import numpy as np
import pytest
import torch

from lab.attention import _read, _segments, _target, _weights
from lab.attention._inputs import Cutting, gathered, tokenized
from lab.attention._many import mean_and_error
from lab.attention._segments import Source, cut, unmarked
from lab.attention.map import TokenMap
from lab.data import Data, data_for
from lab.events import AttentionMap, Curves, Grid, Progress
from lab.experiment import find, read
from models import catalog
from models.errors import BadInput
from models.model import Model
from tests import families

DATA = Data(("Eiffel Tower", "France", "Anna Marlow"))
PROMPT = "the capital of Eiffel Tower is a city near Paris and train Rome"
OPEN = ("gpt2", "gpt_neox", "llama", "mistral", "qwen3", "gemma2", "gemma3", "phi3", "opt", "olmo2", "mixtral", "jamba")
CLOSED = ("gptj", "gpt_neo", "bloom", "falcon")  # they show their weights, not their values


@functools.cache
def tiny(name: str) -> Model:
    return Model(name, families.family(name)[1], families.tokenizer())


@pytest.fixture(scope="module")
def scribe() -> Model:
    return catalog.load("scribe")


def events(name: str, model: Model, data: Data, **settings):
    return [e for e in read(find(f"attention.{name}"), settings).run(model, data) if not isinstance(e, Progress)]


def mapped(model: Model, data: Data = DATA, **settings) -> AttentionMap:
    return events("map", model, data, **{"prompt": PROMPT, "answer": "", "layer": 1} | settings)[-1]


def patterns(model: Model, text: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """transformers' own patterns, (heads, queries, keys) of every layer that attends, and the ids."""
    net = model.skeleton()
    for config in (net.config, *(m.config for m in net.modules() if hasattr(m, "config"))):
        config._attn_implementation = "eager"  # not by its setter, which leaves Falcon without a mask
    ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return [p[0] for p in net(ids, output_attentions=True, use_cache=False).attentions if p is not None], ids[0]


# Maps


@pytest.mark.parametrize("name", OPEN + CLOSED)
def test_raw_maps_are_those_of_transformers_and_rows_sum_to_one(name):
    model = tiny(name)
    truth, _ = patterns(model, PROMPT)
    for head in (0, 3, -1):
        event = mapped(model, head=head)
        wanted = truth[event.layers.index(1)]
        wanted = wanted.mean(0) if head < 0 else wanted[head]
        assert np.allclose(event.weight, wanted, atol=2e-6) and np.allclose(event.weight.sum(1), 1, atol=1e-6)
        assert np.ptp(event.weight) > 0.3 and (np.triu(event.weight, 1) == 0).all()
    assert len(event.layers) == len(truth) and event.entropy.shape == (len(truth), families.HEADS)
    for row, pattern in enumerate(truth):
        p = pattern[:, 1:].double()
        assert np.allclose(event.entropy[row], torch.special.entr(p).sum(-1).mean(1), atol=1e-5)
        assert np.allclose(event.sink[row], p[..., 0].mean(1), atol=1e-6)


def slow_norms(family: str, model: Model, ids: torch.Tensor) -> np.ndarray:
    """||v_j W_O|| (heads, tokens) of layer 1 by a loop, from a hook on the layer's own projection of values, and its names by hand."""
    kept = {}
    net = model.skeleton()
    if family == "gpt2":
        attention = net.transformer.h[1].attn
        attention.c_attn.register_forward_hook(lambda _, a, o: kept.update(v=o[0, :, 2 * families.WIDTH :]))
        out = attention.c_proj.weight
    else:
        attention = net.model.layers[1].self_attn
        attention.v_proj.register_forward_hook(lambda _, a, o: kept.update(v=o[0]))
        out = attention.o_proj.weight.T
    with torch.no_grad():
        net(ids[None], use_cache=False)
    size = families.WIDTH // families.HEADS
    shared = kept["v"].shape[-1] // size
    norms = np.zeros((families.HEADS, len(ids)))
    for h in range(families.HEADS):
        k = h // (families.HEADS // shared)
        for j in range(len(ids)):
            v = kept["v"][j, k * size : (k + 1) * size].double()
            norms[h, j] = float(sum(v[i] * out[h * size + i].double() for i in range(size)).norm())
    return norms


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "mistral"])  # all but the first share keys and values between two heads
def test_value_weighted_maps_are_those_of_a_slow_loop(family):
    model = tiny(family)
    truth, ids = patterns(model, PROMPT)
    norms = slow_norms(family, model, ids)
    for head in range(families.HEADS):
        event = mapped(model, head=head, variant="value-weighted")
        assert np.allclose(event.weight, truth[1][head].double().numpy() * norms[head], rtol=1e-4, atol=1e-6) and event.weight.max() > 0.1
    mean = np.mean([truth[1][h].double().numpy() * norms[h] for h in range(families.HEADS)], 0)
    assert np.allclose(mapped(model, variant="value-weighted").weight, mean, rtol=1e-4, atol=1e-6)
    masked = mapped(model, variant="value-weighted", mask_first=True)
    assert np.allclose(masked.weight[1:, 1:], mean[1:, 1:], rtol=1e-4, atol=1e-6) and np.isnan(masked.weight[:, 0]).all()


@pytest.mark.parametrize("family", CLOSED)
def test_where_values_cannot_be_seen_it_says_so(family):
    with pytest.raises(BadInput, match="values of this model") as raised:
        mapped(tiny(family), variant="value-weighted")
    assert raised.value.setting == "variant"


def test_without_the_first_token_the_others_sum_to_one():
    model = tiny("llama")
    plain, masked = mapped(model, head=2), mapped(model, head=2, mask_first=True)
    rest = plain.weight[1:, 1:]
    assert np.allclose(masked.weight[1:, 1:], rest / rest.sum(1, keepdims=True), atol=1e-5)
    assert np.isnan(masked.weight[0]).all() and np.isnan(masked.weight[:, 0]).all()
    alone = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert torch.isnan(_weights.without_first(alone)).all()  # nothing is left of a row that reads the first token alone


def test_rollout_by_hand_of_uniform_attention_and_of_a_model():
    uniform = torch.full((4, 4), 0.25)
    roll, depth = None, 5
    for _ in range(depth):
        roll = _weights.rolled(uniform, roll)
    left = 0.5**depth  # of a state is still its own; all else is spread evenly
    assert torch.allclose(roll, (1 - left) * uniform + left * torch.eye(4)) and torch.allclose(roll.sum(1), torch.ones(4))
    one = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert torch.allclose(_weights.rolled(one, None), torch.tensor([[1.0, 0.0], [0.25, 0.75]]))
    assert torch.allclose(_weights.rolled(one, _weights.rolled(one, None)), torch.tensor([[1.0, 0.0], [0.4375, 0.5625]]))
    model = tiny("qwen3")
    truth, ids = patterns(model, PROMPT)
    product = np.eye(len(ids))
    for pattern in truth[:2]:
        product = (0.5 * pattern.double().mean(0).numpy() + 0.5 * np.eye(len(ids))) @ product
    event = mapped(model, variant="rollout")
    assert np.allclose(event.weight, product, atol=1e-5) and np.allclose(event.weight.sum(1), 1, atol=1e-6)
    masked = mapped(model, variant="rollout", mask_first=True)
    assert np.allclose(np.nansum(masked.weight[1:], 1), 1, atol=1e-6) and np.isnan(masked.weight[0]).all()


def test_a_long_text_is_parts_whose_rows_sum_to_one_and_a_window(scribe):
    data = data_for(scribe)
    text = " ".join(p["text"] for p in data.manifest["passages"][:4])[:550]
    short = mapped(scribe, data, prompt=text[:100], layer=6)
    assert short.detail.size == 0 and all(b - a == 1 for a, b in short.parts)
    event = mapped(scribe, data, prompt=text, layer=6, head=1, query=150, key=40)
    truth = patterns(scribe, text)[0][6][1].double().numpy()
    n = len(event.tokens)
    assert n > 128 and len(event.parts) <= 64 and event.parts[-1][1] == n
    assert np.allclose(event.weight.sum(1), 1, atol=1e-5)
    for i, (a, b) in enumerate(event.parts):
        for j, (c, d) in enumerate(event.parts):
            assert math.isclose(event.weight[i, j], np.mean([sum(truth[q, c:d]) for q in range(a, b)]), abs_tol=1e-5)
    q, k = event.detail_from
    rows, columns = event.detail.shape
    assert q <= 150 < q + rows and k <= 40 < k + columns
    assert np.allclose(event.detail, truth[q : q + rows, k : k + columns], atol=1e-5)
    assert mapped(scribe, data, prompt=text, layer=6).detail_from == (n - 48, n - 48)
    masked = mapped(scribe, data, prompt=text, layer=6, mask_first=True)
    assert np.allclose(np.nansum(masked.weight, 1), 1, atol=1e-5)


def test_the_map_comes_before_the_layers_above_it_have_run(scribe):
    first, last = events("map", scribe, data_for(scribe), layer=2, segments="subject, relation, answer")
    assert np.isnan(first.sink[3:]).all() and not np.isnan(first.sink[:3]).any() and not np.isnan(last.sink).any()
    assert np.array_equal(first.weight, last.weight) and first.layers == last.layers == tuple(range(8))
    by_name = {n: "".join(t for t, s in zip(last.tokens, last.segment_of, strict=True) if last.segments[s] == n) for n in last.segments}
    assert by_name["answer"].strip() == "Paris" and by_name["subject"] == "France" and "capital" in by_name["relation"]


@pytest.mark.parametrize("settings, setting", [
    ({"layer": 3}, "layer"), ({"layer": -4}, "layer"), ({"head": 4}, "head"), ({"query": 99}, "query"), ({"key": 99}, "key"), ({"prompt": "  "}, "prompt"),
    ({"prompt": "the"}, "prompt"), ({"prompt": "the " * 100}, "prompt"), ({"segments": "context, question"}, "marker"),
    ({"segments": "subject, relation, answer", "prompt": "the city"}, "segments")])
def test_bad_input_is_named(settings, setting):
    with pytest.raises(BadInput) as raised:
        mapped(tiny("llama"), **settings)
    assert raised.value.setting == setting and raised.value.cause


def test_a_model_that_does_not_attend_and_a_layer_that_does_not():
    for name, settings, setting in (("mamba", {}, "model"), ("jamba", {"layer": 0}, "layer")):
        with pytest.raises(BadInput) as raised:
            mapped(tiny(name), **settings)
        assert raised.value.setting == setting
    assert mapped(tiny("jamba")).layers == (1,)


def test_what_does_not_fit_is_refused_with_the_length_that_does(monkeypatch):
    model = tiny("llama")
    monkeypatch.setattr(_read, "BOUND", _read.estimate(model, 10))
    assert mapped(model, prompt="the capital of France is Rome city")
    with pytest.raises(BadInput, match="Cut the text to 10 tokens") as raised:
        mapped(model)
    assert raised.value.setting == "prompt"


def test_no_layer_outlives_its_turn_and_a_run_can_be_left():
    model = tiny("gpt2")
    kept = []
    stream = _read.read(model, families.prompts())
    for found in stream:
        if found is not None:
            kept.append(weakref.ref(found.pattern))
            assert [seen() is not None for seen in kept] == [False] * found.layer + [True]
        del found
    assert len(kept) == families.LAYERS
    stream = _read.read(model, families.prompts())
    first = next(found for found in stream if found is not None)
    stream.close()
    assert first.layer == 0
    only = [f.layer for f in _read.read(model, families.prompts(), last=1) if f is not None]
    assert only == [0, 1]


# Segments


def segments(how: str, text: str, **about) -> dict[str, str]:
    """name -> its letters, of the tiny model's words."""
    about = {"prompt": 0, "subject": "", "marker": "", "apart": False} | about
    text_, letters = unmarked(how, Source("it", text))
    words = [m.span() for m in _segments.re.finditer(r"\S+", text_)]
    found = cut(how, Source("it", text_, about["prompt"], about["subject"]), words, letters, DATA.subjects, about["marker"], about["apart"])
    assert len(found.of) == len(words) and set(found.of) == set(range(len(found.names)))  # each token in one, none empty
    return {n: " ".join(text_[a:b] for (a, b), s in zip(words, found.of, strict=True) if found.names[s] == n) for n in found.names}


def test_texts_are_cut_as_asked():
    assert segments("thirds", "a b c d e f g") == {"first third": "a b c", "middle third": "d e", "last third": "f g"}
    assert segments("thirds", "x a b c", apart=True) == {"first token": "x", "first third": "a", "middle third": "b", "last third": "c"}
    asked = "the capital of Eiffel Tower is"
    assert segments("subject, relation, answer", f"{asked} Paris now", prompt=len(asked)) == {"relation": "the capital of is", "subject": "Eiffel Tower",
                                                                                              "answer": "Paris now"}
    assert segments("subject, relation, answer", "Peru is near", subject="Peru") == {"subject": "Peru", "relation": "is near"}
    assert segments("prompt, answer", "one two three", prompt=3) == {"prompt": "one", "answer": "two three"}
    assert segments("context, question", "it rains. Question: does it", marker="Question:") == {"context": "it rains.", "question": "Question: does it"}
    assert segments("demonstrations", "a b\nc\nd") == {"example 1": "a b", "example 2": "c", "query": "d"}
    assert segments("demonstrations", "a\nb\n\nc") == {"example 1": "a b", "query": "c"}
    assert segments("picture, words", "<pic> p1 p2 </pic> dog face") == {"picture": "<pic> p1 p2 </pic>", "words": "dog face"}
    assert segments("picture, words", "see <image> <image> here") == {"words": "see here", "picture": "<image> <image>"}
    assert segments("marked", "oh [[who: Anna Marlow]] wrote [[what:a book]].") == {"rest": "oh wrote", "who": "Anna Marlow", "what": "a book."}
    assert segments("marked", "[[a: x]] [[b: y]] [[a: z]]") == {"a": "x z", "b": "y"}
    assert segments("none", "a b") == {"text": "a b"}


@pytest.mark.parametrize("how, text, said", [
    ("thirds", "a b", "cannot be cut into thirds"), ("marked", "a b", "no segment is marked"), ("marked", "[[a: x]] [[b y]]", "not closed, or has no colon"),
    ("marked", "[[: x]] y", "has no name"), ("marked", "[[x: ]] y", "has no text"), ("marked", "[[a: x]] [[b: y", "not closed"),
    ("picture, words", "a b", "no picture"),
    ("demonstrations", "a b", "one line"), ("prompt, answer", "a b", "no prompt and answer"), ("subject, relation, answer", "Francesca is", "no known subject"),
    ("marked", "".join(f"[[s{i}: x]] " for i in range(13)), "13 segments")])
def test_a_text_that_cannot_be_cut_so_says_why(how, text, said):
    with pytest.raises(BadInput, match=said) as raised:
        segments(how, text)
    assert raised.value.setting == "segments"


def test_the_first_token_stands_apart_unless_it_is_all_there_is_of_a_segment(scribe):
    cutting = Cutting("subject, relation, answer", "", True, "texts")
    text = tokenized(scribe, data_for(scribe), Source("it", "The capital of France is Paris", len("The capital of France is"), "France"), cutting)
    assert text.names[text.of[0]] == "first token" and text.of.count(text.of[0]) == 1 and text.tokens[0] == "<|start|>"
    with pytest.raises(BadInput, match="the segment 'subject'"):
        segments("subject, relation, answer", "Peru is near", subject="Peru", apart=True)


def test_bands_and_pairs_are_read():
    names = ("relation", "subject", "answer")
    found = _target.targets("answer > subject: 0.1-0.3; answer -> relation: .2 to .5, layers 1-2\nanswer→answer: 0–1, layer 3", names, 4)
    assert [(t.pair, t.low, t.high, t.layers) for t in found] == [((2, 1), 0.1, 0.3, (0, 4)), ((2, 0), 0.2, 0.5, (1, 3)), ((2, 2), 0, 1, (3, 4))]
    assert _target.chosen("answer>subject\n\nanswer > subject", names) == [(2, 1)]
    for text, said in (("answer subject: .1-.2", "is no band"), ("answer > object: .1-.2", "no segment 'object'"), ("answer > subject: .3-.1", "is none"),
                       ("answer > subject: .1-.2, layers 2-4", "no layers 2 to 4")):
        with pytest.raises(BadInput, match=said) as raised:
            _target.targets(text, names, 4)
        assert raised.value.setting == "target"
    # inside the band half the square, outside delta times what is beyond half of it: (.1^2/2 + 0 + .1(.3 - .05)) / 3
    assert math.isclose(_target.huber(np.array([0.1, 0.2, 0.5]), 0.1, 0.3), (0.005 + 0 + 0.025) / 3)


# Intensities


def test_intensities_by_a_slow_loop_and_they_sum_to_one(scribe):
    data = data_for(scribe)
    curves, grid = events("intensity", scribe, data, texts="capital", most=3)[-2:]
    assert isinstance(curves, Curves) and isinstance(grid, Grid) and grid.columns == tuple(map(str, range(8)))
    known = {f["subject"]: f for f in data.manifest["facts"] if f["relation"] == "capital"}
    sums = np.zeros((3, *grid.value.shape))
    for n, source in enumerate(gathered(data, "capital", "", 3, 0, setting="texts")):
        assert source.subject in known and source.text.endswith(known[source.subject]["answer"])
        text = tokenized(scribe, data, source, Cutting("subject, relation, answer", "", True, "texts"))
        truth, _ = patterns(scribe, source.text)
        for r, name in enumerate(grid.rows):
            a, b = name.split(" → ")
            queries = [t for t, s in enumerate(text.of) if text.names[s] == a]
            keys = [t for t, s in enumerate(text.of) if text.names[s] == b]
            for layer, pattern in enumerate(truth):
                sums[n, r, layer] = sum(float(pattern[h, q, k]) for h in range(5) for q in queries for k in keys) / (5 * len(queries))
    assert np.allclose(grid.value, sums.mean(0), atol=1e-5) and np.allclose(grid.error, sums.std(0, ddof=1) / 3**0.5, atol=1e-5)
    for start in {name.split(" → ")[0] for name in grid.rows}:
        rows = [i for i, name in enumerate(grid.rows) if name.startswith(f"{start} → ")]
        assert np.allclose(grid.value[rows].sum(0), 1, atol=1e-5)
    assert "subject → answer" not in grid.rows and "answer → subject" in grid.rows and not any(n.startswith("first token →") for n in grid.rows)


@pytest.mark.parametrize("family", ["llama", "bloom", "mistral", "opt"])
def test_texts_of_unlike_length_in_one_batch_are_read_as_alone(family):
    model, rows = tiny(family), ["the capital of France is Paris", "Anna Marlow wrote a book about sea near Rome by train", "a river in Peru is a city"]
    whole = events("intensity", model, DATA, texts="\n".join(rows), segments="thirds")[-1]
    alone = [events("intensity", model, DATA, texts=row, segments="thirds")[-1].value for row in rows]
    assert np.allclose(whole.value, np.mean(alone, 0), atol=1e-5) and (whole.error > 0).any()
    assert np.isnan(events("intensity", model, DATA, texts=rows[0], segments="thirds")[-1].error).all()


def test_targets_are_lines_with_bands_and_said_in_words(scribe):
    curves, _ = events("intensity", scribe, data_for(scribe), most=4, target="answer > subject: 0.1-0.3, layers 2-5", lines="subject > relation")[-2:]
    assert curves.lines == ("answer → subject", "subject → relation", "target answer → subject")
    assert np.allclose(curves.value[2, 2:6], 0.2) and np.allclose(curves.error[2, 2:6], 0.1) and np.isnan(curves.value[2, [0, 1, 6, 7]]).all()
    inside = int(((curves.value[0, 2:6] >= 0.1) & (curves.value[0, 2:6] <= 0.3)).sum())
    assert f"{inside} of 4 layers lie in 0.1 to 0.3" in curves.facts[0]


def test_texts_that_cannot_be_cut_are_left_out_and_counted():
    rows = [{"prompt": "the capital of France is", "answer": "Paris"}, {"prompt": "the sea is", "answer": "a river"}]
    grid = events("intensity", tiny("llama"), DATA, texts="\n".join(map(json.dumps, rows)))[-1]
    assert any("1 of 2 texts left out" in fact for fact in grid.facts) and "1 of 1 texts" in grid.facts[0]
    with pytest.raises(BadInput) as raised:
        events("intensity", tiny("llama"), DATA, texts="capital", segments="marked")
    assert raised.value.setting == "segments"
    shots = events("intensity", tiny("llama"), DATA, texts=r"France is a city\nPeru is a city\nRome is", segments="demonstrations")[-1]
    assert "query → example 2" in shots.rows


def test_the_mean_leaves_out_what_is_missing():
    mean, error = mean_and_error(np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]]))
    assert np.allclose(mean, [2, 5, np.nan], equal_nan=True) and np.allclose(error, [1, np.nan, np.nan], equal_nan=True)


# Memorized


def test_every_way_to_cut_is_offered():
    assert set(TokenMap.__dataclass_fields__["segments"].metadata["choices"]) == {"none", *_segments.HOW}
