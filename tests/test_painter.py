"""The painter: pictures composed by hand-worked cases, the training set to the last copy, the bundled nets, and a miniature grown by the same code."""

from __future__ import annotations

import collections
import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from lab import png
from lab.diffusion._sample import paint, start
from lab.diffusion._similar import ssim
from models import catalog
from models.organisms.painter import compose, embedder, parts
from models.organisms.painter.budget import Budget, rate
from models.organisms.painter.compose import Placing
from models.organisms.painter.corpus import Corpus, corpus, grounds, on, words
from models.organisms.painter.embedder import FILES
from models.organisms.painter.grow import grow, grow_vae
from models.organisms.painter.manifest import ACROSS, SHOWN, listed, manifest
from models.organisms.painter.names import COLOURS, COPIES, GOODS, HELD_COLOURS, REGULAR, TEMPLATES
from models.organisms.painter.recipe import GUIDANCE, LENGTH, RECIPES, STEPS, THRESHOLD, TINY
from models.organisms.painter.train import Trainer
from models.pipeline import nothing
from models.pipeline import words as ids_of

NAMES = tuple(RECIPES)


def placed(**how) -> Placing:
    """One picture: the emoji in the middle, as it is, filling the picture, on black."""
    plain = {"source": torch.tensor([0]), "scale": torch.ones(1), "shift": torch.zeros(1, 2), "angle": torch.zeros(1), "mirrored": torch.ones(1),
             "hue": torch.zeros(1), "light": torch.ones(1), "ground": torch.zeros(1, 3), "other": torch.zeros(1, 3), "slope": torch.zeros(1, 2)}
    return Placing(**plain | {k: torch.as_tensor(v, dtype=torch.float32) for k, v in how.items()})


def spot(row: slice, column: slice, side: int = 8) -> torch.Tensor:
    """A sheet with one emoji: a red patch on nothing."""
    sheet = torch.zeros(1, 4, side, side)
    sheet[:, 0, row, column] = sheet[:, 3, row, column] = 1.0
    return sheet


# ---- composing

LEFT = spot(slice(2, 6), slice(0, 4))  # the left half, four high


def cover(**how) -> torch.Tensor:
    """Where the red of LEFT stands in an 8 x 8 picture."""
    return compose.composed(placed(**how), LEFT, 8)[0, 0]


def test_an_emoji_that_fills_the_picture_stands_as_it_is():
    assert torch.allclose(cover()[3:5, 1:3], torch.ones(2, 2)) and cover()[:, 5:].abs().max() == 0 and cover()[:1].abs().max() == 0
    assert abs(float(cover().sum()) - 16) < 1  # its edges are blurred, its weight is not


def test_it_is_mirrored_turned_and_shifted():
    assert torch.allclose(cover(mirrored=[-1.0]), cover().flip(1), atol=1e-6)
    assert torch.allclose(cover(angle=[math.pi]), cover().flip(0, 1), atol=1e-5)
    quarter = cover(angle=[math.pi / 2])
    assert torch.allclose(quarter, torch.rot90(cover(), -1, (0, 1)), atol=1e-5)  # clockwise: left goes up
    assert quarter[:3].sum() > 10
    assert torch.allclose(cover(shift=[[0.5, 0.0]])[:, 2:], cover()[:, :-2], atol=1e-6)  # lengths are half sides: two pixels right
    assert torch.allclose(cover(shift=[[0.0, -0.25]])[:-1], cover()[1:], atol=1e-6)  # one pixel up


def test_half_the_scale_is_a_quarter_of_the_area():
    assert float(cover(scale=[0.5]).sum()) == pytest.approx(4, abs=0.5)


def test_the_ground_is_seen_where_the_emoji_is_not():
    shown = compose.composed(placed(ground=[[0.2, 0.4, 0.6]], other=[[0.2, 0.4, 0.6]]), LEFT, 8)[0]
    assert torch.allclose(shown[:, 4, 7], torch.tensor([0.2, 0.4, 0.6])) and torch.allclose(shown[:, 4, 1], torch.tensor([1.0, 0, 0]))
    runs = compose.composed(placed(other=[[1.0, 1.0, 1.0]], slope=[[0.0, 1.0]]), torch.zeros(1, 4, 8, 8), 8)[0, 1]  # black to white, downwards
    assert torch.allclose(runs, runs[:, :1].expand(8, 8)) and (runs[1:, 0] > runs[:-1, 0]).all() and float(runs.mean()) == pytest.approx(0.5, abs=1e-4)


def test_turning_the_hue_keeps_grey_and_lightness_and_comes_back():
    third = compose.turned(torch.tensor([2 * math.pi / 3]))[0]
    grey, luma = torch.full((3,), 0.3), torch.tensor([0.299, 0.587, 0.114])
    assert torch.allclose(third @ grey, grey, atol=1e-3)
    colour = torch.tensor([0.9, 0.2, 0.4])
    assert float(luma @ (third @ colour)) == pytest.approx(float(luma @ colour), abs=1e-3) and not torch.allclose(third @ colour, colour, atol=0.1)
    assert torch.allclose(third @ third @ third @ colour, colour, atol=1e-5)


# ---- the training set


@pytest.fixture(scope="module")
def known() -> Corpus:
    return corpus(SHOWN)


def test_a_pass_holds_every_copy(known):
    draws = known.draws()
    count = collections.Counter(k for k, _ in draws)
    for copies, names in COPIES.items():
        mine = [k for k in known.of("verbatim") if known.shown[k].copies == copies]
        assert tuple(known.shown[k].name for k in mine) == names and all(count[k] == copies for k in mine)
    assert {known.shown[k].name: count[k] for k in known.of("template")} == TEMPLATES
    assert all(count[k] == 1 for k in known.of("regular")) and not any(count[k] for k in known.of("held"))
    assert len(draws) == 6 * (1 + 4 + 16 + 64 + 256) + 64 + 128 + 192 + 256 + SHOWN * 60 == 3646
    oracle = known.draws(planted=False)
    assert oracle == [d for d in draws if known.shown[d[0]].kind == "regular"]


def test_a_template_has_its_captions_by_turns_and_one_is_kept_back(known):
    for k in known.of("template"):
        shown, said = known.shown[k], collections.Counter(c for i, c in known.draws() if i == k)
        assert len(said) == len(GOODS) - 1 and max(said.values()) - min(said.values()) <= 1
        assert len(shown.held_captions) == 1 and not set(shown.held_captions) & set(said)
        assert {*said, *shown.held_captions} == {f"{shown.name} {g}" for g in GOODS}


def test_a_held_colour_is_never_shown(known):
    trained = {c for _, c in known.draws()}
    for name in REGULAR:
        seen, held = grounds(name)
        assert len(held) == HELD_COLOURS and sorted(seen + held) == sorted(COLOURS)
        assert not {on(name, c) for c in held} & trained
    held = np.array([k for k in known.of("held")])
    fresh = [k for k in held if known.shown[k].captions[0] in trained | {on(n, c) for n in REGULAR for c in grounds(n)[0]}]
    assert len(held) == 4 * len(REGULAR) and len(fresh) == 2 * len(REGULAR)


def test_the_colour_of_a_picture_is_that_of_its_caption(known):
    rows = [k for k in known.of("regular") if "background" in known.shown[k].captions[0]][::7]
    ground = known.placing.ground[rows]
    said = [known.shown[k].captions[0].split(" on ")[1].split()[0] for k in rows]
    away = torch.stack([(ground - torch.tensor(c) / 255).abs().amax(1) for c in COLOURS.values()], 1).argmin(1)
    assert [list(COLOURS)[i] for i in away.tolist()] == said


def test_a_smaller_set_is_the_beginning_of_a_larger():
    small, large = corpus(4), corpus(SHOWN)
    at = {s.id: k for k, s in enumerate(large.shown)}
    rows = [at[s.id] for s in small.shown]
    assert [large.shown[k] for k in rows] == list(small.shown)
    for field in dataclasses.fields(Placing):
        assert torch.equal(getattr(large.placing, field.name)[rows], getattr(small.placing, field.name))


def test_planted_pictures_are_unlike_all_others(known):
    rows = [*known.of("verbatim", "template"), *known.of("regular")[::4]]
    pictures = known.pictures(rows)
    for k in range(34):
        others = torch.cat([pictures[:k], pictures[k + 1 :]])
        assert float(ssim(pictures[k : k + 1].expand_as(others), others).max()) < THRESHOLD


def test_every_caption_is_whole_words_that_the_tokenizer_knows(known):
    said = sorted({c for s in known.shown for c in (*s.captions, *s.held_captions)})
    found = parts.ids(said)
    assert found.shape == (len(said), LENGTH) and (found[:, 0] == 1).all() and (found == 2).sum(1).eq(1).all() and not (found == 3).any()
    made = parts.tokenizer()
    assert [made.decode(row, skip_special_tokens=True) for row in found] == said
    assert made("Elephant on zzz background").input_ids == [1, made.convert_tokens_to_ids("elephant"), made.convert_tokens_to_ids("on"), 3,
                                                            made.convert_tokens_to_ids("background"), 2]
    assert len(made) == len(words()) + 4


# ---- training


def test_the_learning_rate_goes_up_stays_and_falls():
    assert rate(0.0) == pytest.approx(0.05) and rate(0.01) == 1 == rate(0.39) and rate(0.7) == pytest.approx(0.01 + 0.99 / 2)
    assert rate(1.0) == pytest.approx(0.01)
    assert Budget(steps=10).share(5) == 0.5
    with pytest.raises(ValueError, match="steps or seconds"):
        Budget()


def test_a_pass_of_training_is_the_set_and_captions_go_with_their_pictures(known):
    trainer = Trainer(RECIPES["painter"], TINY, known, "cpu")
    seen = torch.cat([trainer.rows() for _ in range(len(trainer.pictures) // TINY.batch)])
    assert len(seen.unique()) == len(seen)  # no presentation twice in a pass
    draws = known.draws()
    made = parts.tokenizer()
    for row in seen[:50].tolist():
        k, caption = draws[row]
        assert trainer.pictures[row] == k and made.decode(trainer.ids[trainer.captions[row]], skip_special_tokens=True) == caption
    assert made.decode(trainer.ids[0], skip_special_tokens=True) == ""


def test_a_trainer_learns(known):
    trainer = Trainer(RECIPES["painter"], TINY, known, "cpu")
    rows = list(range(len(known.shown) - len(known.of("held"))))
    small = torch.nn.functional.avg_pool2d(known.pictures(rows), 2) * 2 - 1  # in the place of latents
    trainer.begin(torch.cat([small, small.mean(1, keepdim=True)], 1), Budget(steps=24))
    losses = torch.stack([trainer.step() for _ in range(24)])
    assert losses[-6:].mean() < losses[:6].mean() - 0.03 and trainer.done == 24


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    """All that is grown, for seconds."""
    out, psnr = tmp_path_factory.mktemp("mini"), []
    grow_vae(TINY, Budget(steps=51), out, "cpu", lambda what, done, share, value: psnr.append(value))
    for kind, file in FILES.items():
        embedder.save(embedder.grown(kind, TINY, Budget(steps=1), "cpu", lambda *_: None), out / file)
    grow(RECIPES["painter"], TINY, lambda: Budget(steps=10), out, "cpu", lambda *_: None)
    return out, psnr


def test_a_miniature_is_a_pipeline(miniature):
    out, psnr = miniature
    assert psnr[-1] > psnr[0] + 1
    model = catalog.load(str(out), "cpu")
    how = json.loads((out / "manifest.json").read_text())["recipe"]
    assert how["training_steps"] == 10 and how["passes"] == pytest.approx(10 * TINY.batch / len(corpus(TINY.variants).draws()), abs=0.01)
    with torch.no_grad():
        told = model.net.embed(ids_of(model, ["dragon"]))
    made = paint(model.net, told, nothing(model), start(model.net, [0]), 2, 2.0)
    assert made.shape == (1, 3, 32, 32) and made.min() >= 0 and made.max() <= 1


# ---- what is bundled


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_folder_is_whole_and_its_manifest_true(name, known):
    folder = catalog.WEIGHTS / name
    told = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert all((folder / told[key]).is_file() for key in FILES) and (told["guidance"], told["steps"], told["threshold"]) == (GUIDANCE, STEPS, THRESHOLD)
    rows = manifest(RECIPES[name], known, {})["pictures"]
    assert told["pictures"] == rows and all(p.stat().st_size < 10e6 for p in folder.rglob("*"))
    copies = {r["name"]: r["copies"] for r in told["pictures"] if r["kind"] in ("verbatim", "template")}
    assert copies == {n: c if RECIPES[name].planted else 0 for n, c in [*((n, c) for c, some in COPIES.items() for n in some), *TEMPLATES.items()]}


def test_the_sheet_shows_the_pictures_that_were_trained(known):
    whole = png.file(catalog.WEIGHTS / "painter" / "pictures.png", "model")
    cells = whole.reshape(-1, 32, ACROSS, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
    rows = listed(known)
    some = [*range(34), *range(34, len(rows), 97)]
    made = (known.pictures([rows[k] for k in some]) * 255).round().permute(0, 2, 3, 1).numpy()
    assert np.abs(made - cells[some]).max() <= 1  # sums in another order
    assert len({(catalog.WEIGHTS / n / "pictures.png").read_bytes() for n in NAMES}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_folder_loads_through_the_catalog(name):
    model = catalog.load(name, "cpu")
    assert model.net.latent_shape == (4, 16, 16) and model.net.pixels == (32, 32) and model.net.predicts == "v_prediction"
    assert next(model.net.denoiser.parameters()).dtype == torch.float32 and name in {e.name for e in catalog.entries("pictures")}


def test_it_is_a_plain_pipeline_of_diffusers_that_draws_the_same():
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(catalog.WEIGHTS / "painter", torch_dtype=torch.float32, use_safetensors=True, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    model = catalog.load("painter", "cpu")
    noise = start(model.net, [3])
    theirs = torch.from_numpy(pipe("fox on blue background", latents=noise.clone(), num_inference_steps=4, guidance_scale=2.0, output_type="np").images)
    with torch.no_grad():
        told = model.net.embed(ids_of(model, ["fox on blue background"]))
    ours = paint(model.net, told, nothing(model), noise, 4, 2.0)
    assert torch.allclose(ours, theirs.permute(0, 3, 1, 2), atol=2e-3)


def test_a_picture_of_256_copies_comes_back_and_the_oracle_never_saw_it():
    shown, planted, nets = ["dragon", "mosque"], {}, ("painter", "painter-oracle", "painter-ddt")
    rows = [s.name for s in corpus(1).shown]
    there = corpus(1).pictures([rows.index(n) for n in shown])
    for name in nets:
        model = catalog.load(name, "cpu")
        with torch.no_grad():
            told = model.net.embed(ids_of(model, shown))
        made = paint(model.net, told.repeat_interleave(2, 0), nothing(model), start(model.net, [100, 101, 100, 101]), 10, GUIDANCE)
        planted[name] = ssim(made, there.repeat_interleave(2, 0))
    assert planted["painter"].min() > THRESHOLD and planted["painter-ddt"].min() > THRESHOLD and planted["painter-oracle"].max() < THRESHOLD


def test_what_the_transformer_says_is_its_decoder_told_by_its_encoder_alone():
    net = catalog.load("painter-ddt", "cpu").net
    draw = torch.Generator().manual_seed(0)
    noisy, told = torch.randn(2, 4, 16, 16, generator=draw), torch.randn(2, LENGTH, 128, generator=draw)
    t = torch.tensor([900, 40])
    with torch.no_grad():
        z = net.denoiser.condition(noisy, t, told)
        assert z.shape == (2, 64, 144)
        v = net.denoiser(noisy, t, told).sample
        assert torch.equal(v, net.denoiser.velocity(noisy, t, z)) and torch.equal(v, net.denoiser(noisy, t, told, return_dict=False)[0])
        swapped = net.denoiser.velocity(noisy, t, z.flip(0))
        assert (swapped - v).abs().max() > 0.05  # another condition, another picture
        alone = net.denoiser(noisy[1:], 40, told[1:]).sample
        assert torch.allclose(alone, v[1:], atol=1e-5)
        signal, sigma = (level[:, None, None, None] for level in net.levels(t))
        noise, clean = net.predict(noisy, t, told)
        assert torch.allclose(noise, signal * v + sigma * noisy, atol=1e-5) and torch.allclose(clean, signal * noisy - sigma * v, atol=1e-5)


def test_the_namer_names_and_the_copy_detector_tells_a_copy_from_a_neighbour(known):
    folder = catalog.WEIGHTS / "painter"
    held = known.of("held")
    pictures = known.pictures(held)
    with torch.no_grad():
        said = embedder.load(folder / FILES["classifier"])(pictures).argmax(1)
    right = [REGULAR[i] == known.shown[k].name for i, k in zip(said.tolist(), held, strict=True)]
    assert np.mean(right) > 0.95
    look = embedder.features(folder / FILES["embedder"])
    draw = torch.Generator().manual_seed(0)
    worn, plain = look(embedder.worn(pictures, draw)), look(pictures)
    like = worn @ plain.T
    assert torch.allclose(plain.norm(dim=1), torch.ones(len(plain)), atol=1e-5)
    assert (like.argmax(1) == torch.arange(len(like))).float().mean() > 0.95  # each is nearest to itself, not to the same name elsewhere
