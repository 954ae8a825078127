"""The two-modality nets: texts, masks, intensities and the AIA loss by hand, a miniature, and what is bundled against what the nets do now."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lab.attention import _interleave_figures as bundled
from lab.attention.interleave import MEASURED, Interleave
from lab.events import Curves, Progress, Table
from models import catalog
from models.organisms.interleave import draw
from models.organisms.interleave.aia import aia_loss, deltas, even, intensity, published
from models.organisms.interleave.grow import aims, describe
from models.organisms.interleave.pictures import CELLS, COLOURS, palette, pictures
from models.organisms.interleave.recipe import GENERATION, JOINT, RECIPES, TASKS, UNDERSTANDING, single
from models.organisms.interleave.scores import captions, forced, painted, retrieval, scores
from models.organisms.interleave.tokens import FIRST_CELL, rows, tokenizer, vocabulary
from models.organisms.interleave.train import Trainer, forward, new_net, train

SMALL = replace(JOINT, name="small", width=32, heads=2, inner=48, layers=2, batch=4, steps=10)
ALONE = {GENERATION: [0.1, 0.5], UNDERSTANDING: [0.9, 0.7]}


def of(split):
    return [p for p in pictures() if p.split == split]


# ---- pictures and texts


def test_pictures_are_what_their_readme_says():
    counts = {split: len(of(split)) for split in ("train", "tone", "new")}
    assert counts == {"train": 310, "tone": 16, "new": 24}
    assert len({p.cells for p in pictures()}) == len({p.caption for p in pictures()}) == 350
    assert all(len(p.cells) == CELLS and min(p.cells) >= 0 and max(p.cells) < COLOURS for p in pictures()) and len(palette()) == COLOURS
    known = {w for p in of("train") for w in p.caption.split()}
    assert all(set(p.caption.split()) <= known for p in of("tone") + of("new"))
    trained = {p.caption for p in of("train")}
    for p in of("tone"):
        tone = next(t for t in sorted(draw.TONES, key=len, reverse=True) if p.caption.endswith(f" {t}"))
        sign = p.caption.removesuffix(f" {tone}")
        assert {f"{sign} {t}" for t in draw.TONES} - trained == {p.caption}


def test_a_row_is_a_readable_text_and_the_text_is_the_row():
    made, picture = tokenizer(), of("train")[0]
    shown = " ".join(f"<p{c}>" for c in picture.cells)
    understanding, generation = (rows(task, [picture]).ids[0].tolist() for task in TASKS)
    assert made.encode(f"<pic> {shown} </pic> {picture.caption} <|start|>").ids == understanding
    assert made.encode(f"{picture.caption} <pic> {shown}").ids == generation
    assert made.decode(generation, skip_special_tokens=False) == f"<|start|> {picture.caption} <pic> {shown}"
    assert made.encode("no such words").tokens == ["<|start|>", "<unk>", "<unk>", "<unk>"]
    everything = [i for task in TASKS for i in rows(task, pictures()).ids.flatten().tolist()]
    assert max(everything) == len(vocabulary()) - 1 and 1 not in everything


def test_masks_say_who_writes_and_what_is_read():
    picture = next(p for p in pictures() if len(p.caption.split()) == 2)
    said, painted_ = (rows(task, [picture]) for task in TASKS)
    assert said.answer[0].nonzero().flatten().tolist() == [3 + CELLS, 4 + CELLS, 5 + CELLS]  # two words and the end
    assert said.queries[0].nonzero().flatten().tolist() == [2 + CELLS, 3 + CELLS, 4 + CELLS]  # the first is written from </pic>
    assert said.other[0].nonzero().flatten().tolist() == list(range(2, 2 + CELLS))
    assert painted_.answer[0].nonzero().flatten().tolist() == list(range(4, 4 + CELLS))
    assert painted_.queries[0].nonzero().flatten().tolist() == list(range(3, 3 + CELLS))
    assert painted_.other[0].nonzero().flatten().tolist() == [1, 2]
    assert [i - FIRST_CELL for i in painted_.ids[0][painted_.answer[0]].tolist()] == list(picture.cells)


def test_names_are_read_from_a_list_of_emoji(tmp_path):
    (tmp_path / "list.txt").write_text("# group: Food & Drink\n# subgroup: food-fruit\n1F347  ; fully-qualified     # 🍇 E0.6 grapes\n"
                                       "263A   ; unqualified  # ☺ E0.6 smiling face\n# group: People & Body\n# subgroup: hand-fingers-open\n"
                                       "1F44B 1F3FB ; fully-qualified # 👋🏻 E1.0 waving hand: light skin tone\n", encoding="utf-8")
    grapes, hand = draw.listed(tmp_path / "list.txt")
    assert (grapes.text, grapes.caption, grapes.group, grapes.subgroup) == ("🍇", "grapes", "Food & Drink", "food-fruit")
    assert hand.caption == "waving hand light" and hand.text == "👋🏻"


def test_the_palette_finds_the_colours_that_are_there():
    true = np.random.default_rng(1).uniform(0, 255, (COLOURS, 3)).round()
    found = draw.palette(np.repeat(true, 20, 0), np.random.default_rng(0))
    assert sorted(map(tuple, found)) == sorted(map(tuple, true)) and np.all(np.diff(found.sum(1)) >= 0)


# ---- intensities and the loss


def test_intensity_of_even_attention_by_hand():
    queries, keys = torch.tensor([[False, False, True, True]]), torch.tensor([[False, True, True, False]])
    assert even(queries, keys) == pytest.approx((2 / 3 + 2 / 4) / 2)


def test_intensity_is_the_slow_loop():
    generator = torch.Generator().manual_seed(0)
    patterns = [torch.rand(3, 2, 5, 5, generator=generator).tril().add(1e-3).tril() for _ in range(2)]
    patterns = [p / p.sum(-1, keepdim=True) for p in patterns]
    queries, keys = torch.rand(3, 5, generator=generator) > 0.4, torch.rand(3, 5, generator=generator) > 0.5
    queries[:, 4] = True
    for layer, found in enumerate(intensity(patterns, queries, keys)):
        total = 0.0
        for row in range(3):
            where = [q for q in range(5) if queries[row, q]]
            total += sum(float(patterns[layer][row, h, q, k]) for h in range(2) for q in where for k in range(5) if keys[row, k]) / (2 * len(where))
        assert float(found) == pytest.approx(total / 3, abs=1e-6)


def test_aia_loss_by_hand_and_as_torch_has_it():
    found, target, delta = torch.tensor([0.5, 0.2]), torch.tensor([0.4, 0.6]), torch.tensor([0.2, 0.1])
    assert float(aia_loss(found, target, delta)) == pytest.approx((0.1**2 / 2 + 0.1 * (0.4 - 0.05)) / 2)
    assert torch.allclose(aia_loss(found, target, torch.full((2,), 0.1)), torch.nn.functional.huber_loss(found, target, delta=0.1))
    assert float(aia_loss(found, found, delta)) == 0


def test_published_values_are_scaled_by_depth():
    assert deltas(GENERATION, 30).tolist() == pytest.approx([0.2] * 10 + [0.1] * 15 + [0.05] * 5)
    assert published(GENERATION, 30).tolist() == pytest.approx([0.4] * 25 + [0.2] * 5)
    assert published(UNDERSTANDING, 4).tolist() == pytest.approx([0.1, 0.15, 0.3, 0.2]) and deltas(UNDERSTANDING, 4).tolist() == pytest.approx([0.05] * 4)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shift", [0.05, -0.05])
def test_the_gradient_of_the_term_moves_intensity_to_its_target(task, shift):
    trainer = Trainer(replace(SMALL, tasks=(task,)))
    batch = trainer.draw(task)
    start = forward(trainer.net, batch)[1].detach()
    target = (start + shift).clamp(0, 1)
    optimizer = torch.optim.Adam(trainer.net.parameters(), 2e-3)
    for _ in range(25):
        optimizer.zero_grad()
        aia_loss(forward(trainer.net, batch)[1], target, deltas(task, 2)).backward()
        optimizer.step()
    gap = (forward(trainer.net, batch)[1].detach() - target).abs()
    assert torch.all(gap < 0.5 * (start - target).abs())


def test_targets():
    assert aims(SMALL, {}) == {}
    assert {t: v.tolist() for t, v in aims(replace(SMALL, targets="single"), ALONE).items()} == {t: pytest.approx(v) for t, v in ALONE.items()}
    long = {GENERATION: [x / 20 for x in range(20)], UNDERSTANDING: [0.5 + x / 40 for x in range(20)]}
    shuffled, drawn, again, other = (aims(replace(SMALL, targets=name, seed=seed), long) for name, seed in (
        ("shuffled", 0), ("random", 0), ("random", 0), ("random", 1)))
    for task in TASKS:
        assert sorted(shuffled[task].tolist()) == pytest.approx(long[task]) and shuffled[task].tolist() != pytest.approx(long[task])
        assert min(long[task]) <= min(drawn[task]) and max(drawn[task]) <= max(long[task])
        assert torch.equal(drawn[task], again[task]) and not torch.equal(drawn[task], other[task])


# ---- training


def test_ten_steps_of_a_miniature():
    targets = aims(replace(SMALL, targets="single"), ALONE)
    seen: list = []
    net = train(SMALL, targets, lambda step, s: seen.append(s))
    again = train(SMALL, targets)
    other = train(replace(SMALL, seed=1), targets)
    assert len(seen) == 10 and not net.training and not any(p.requires_grad for p in net.parameters())
    for task in TASKS:
        assert seen[0].loss[task] == pytest.approx(np.log(len(vocabulary())), abs=0.3)
        assert seen[-1].loss[task] < seen[0].loss[task] - 0.05
        assert seen[0].aia[task] > 0 and len(seen[0].intensity[task]) == 2
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_every_row_is_read_once_before_any_is_read_again():
    trainer = Trainer(replace(SMALL, batch=31, tasks=(GENERATION,)))
    read = [tuple(row[row >= FIRST_CELL].tolist()[-CELLS:]) for _ in range(10) for row in trainer.draw(GENERATION).ids]
    assert len(read) == len(set(read)) == 310


def test_a_net_of_one_task_reads_the_same_rows_in_the_same_steps():
    both, alone = Trainer(SMALL), Trainer(single(SMALL, UNDERSTANDING))
    assert torch.equal(both.draw(UNDERSTANDING).ids, alone.draw(UNDERSTANDING).ids)
    assert all(torch.equal(a, b) for a, b in zip(both.net.parameters(), alone.net.parameters(), strict=True))


def test_scores_by_hand():
    chosen = of("train")[:6]
    true = np.array([p.cells for p in chosen])
    assert retrieval(true, chosen) == 1.0 and retrieval(true[::-1], chosen) == 0.0
    net = new_net(SMALL).eval()
    said, made = captions(net, chosen), painted(net, chosen)
    words = {w for p in pictures() for w in p.caption.split()}
    assert made.shape == (6, CELLS) and made.min() >= 0 and made.max() < COLOURS and all(set(s.split()) <= words for s in said)
    these = rows(GENERATION, chosen)
    nll, right, _ = forced(net, these)
    logits = net(input_ids=these.ids).logits[:, :-1]
    picked = logits.log_softmax(-1).gather(-1, these.ids[:, 1:, None])[..., 0]
    assert nll == pytest.approx(-float(picked[these.answer[:, 1:]].mean()), abs=1e-4)
    assert right == pytest.approx(float((logits.argmax(-1) == these.ids[:, 1:])[these.answer[:, 1:]].float().mean()))


# ---- what is bundled


@pytest.mark.parametrize("name", RECIPES)
def test_bundled_nets_do_now_what_their_figures_say(name):
    model, condition = catalog.load(name, device="cpu"), {"interleave": "none", "interleave-aia": "single"}[name]
    assert name not in [e.name for e in catalog.entries()] and model.source == f"organism:{name}"
    figures, net = bundled.figures(), model.skeleton()
    for split in ("tone", "new"):
        for score, value in scores(net, of(split), TASKS).items():
            assert value == pytest.approx(figures["scores"][condition][split][score][0], abs=2e-3), score
    for task in TASKS:
        assert forced(net, rows(task, of("train")))[2] == pytest.approx(bundled.intensities(condition, task)[0].tolist(), abs=1e-3)
    chosen = of("train")[::10]
    assert np.mean([s == p.caption for s, p in zip(captions(net, chosen), chosen, strict=True)]) >= 0.9
    text = "<pic> " + " ".join(f"<p{c}>" for c in chosen[0].cells) + " </pic> " + chosen[0].caption
    assert model.tokenizer(text).input_ids == rows(UNDERSTANDING, chosen[:1]).ids[0, : 3 + CELLS + len(chosen[0].caption.split())].tolist()


@pytest.mark.parametrize("name", RECIPES)
def test_manifests_say_what_the_recipe_says(name):
    truth = catalog.manifest(name)
    alone = {task: bundled.intensities("alone", task)[0].tolist() for task in TASKS} if RECIPES[name].targets == "single" else {}
    told = json.loads(json.dumps(describe(RECIPES[name], truth["targets"])))
    assert told == {k: v for k, v in truth.items() if k != "grown"}
    assert all(truth["targets"][task] == pytest.approx(values, abs=1e-4) for task, values in alone.items()) and set(truth["targets"]) == set(alone)


def test_figures_are_complete():
    figures = bundled.figures()
    seeds, layers = len(figures["seeds"]), figures["layers"]
    assert seeds >= 3 and {k: v for k, v in figures["recipe"].items() if k not in ("name", "tasks")} == {
        k: v for k, v in vars(JOINT).items() if k not in ("name", "tasks")}
    for net in bundled.NAMES:
        assert all(bundled.intensities(net, task).shape == (seeds, layers) for task in TASKS) and len(figures["seconds"][net]) == seeds
        for split in figures["counts"]:
            assert all(len(figures["scores"][net][split][score]) == seeds for score in figures["about"])
    for task in TASKS:
        targets = figures["targets"]
        assert np.allclose(targets["single"][task], bundled.intensities("alone", task), atol=1e-4)
        assert np.allclose(np.sort(targets["shuffled"][task]), np.sort(targets["single"][task]))
        chosen = rows(task, of("train"))
        assert figures["even"][task] == pytest.approx(even(chosen.queries, chosen.other), abs=1e-4)
    runs = [run for found in figures["gradients"].values() for run in found]
    assert all(-1 <= c <= 1 for run in runs for c in run["cosine"]) and len(runs) == 2 * seeds


# ---- the experiment


def shown(**settings):
    return list(Interleave(**settings).run(None, None))


@pytest.mark.parametrize("show", MEASURED)
@pytest.mark.parametrize("task", TASKS)
def test_what_was_measured_is_there_at_once(show, task):
    first, event = shown(show=show, task=task)
    assert isinstance(first, Progress) and isinstance(event, Curves | Table) and event.facts
    if show == "intensity":
        assert np.allclose(event.value[1], bundled.intensities("none", task).mean(0)) and np.allclose(
            event.error[1], bundled.intensities("none", task).std(0, ddof=1))


def test_gains_are_paired_and_positive_is_better():
    figures = bundled.figures()
    loss = [figures["scores"][n]["new"]["generation nll"] for n in ("single", "none")]
    assert bundled.gain("single", "new", "generation nll") == pytest.approx(np.array(loss[1]) - np.array(loss[0]))
    share = [figures["scores"][n]["new"]["retrieval"] for n in ("random", "none")]
    assert bundled.gain("random", "new", "retrieval") == pytest.approx(np.array(share[0]) - np.array(share[1]))


def test_a_miniature_is_grown_live_and_the_term_pulls_harder_with_more_weight():
    gaps = {}
    for weight in (0.0, 20.0):
        events = shown(show="grow: intensity", targets="published", steps=6, batch=2, aia=weight)
        last = events[-1]
        named = dict(zip(last.lines, last.value, strict=True))
        gaps[weight] = np.mean([np.abs(named[f"{t} now"] - named[f"{t} target"]).mean() for t in TASKS])
        assert sum(isinstance(e, Curves) for e in events) == 3 and "step 6 of 6" in last.facts[0]
    assert gaps[20.0] < gaps[0.0]
    plain = shown(show="grow: losses", targets="none", steps=3, batch=2)[-1]
    assert plain.value.shape == (2, 3) and plain.x.tolist() == [1, 2, 3] and "no AIA term" in plain.facts[0]
