"""Pictures of prompts, step by step, and what stands beside them."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch

from lab import png
from lab.data import Data, data_for
from lab.diffusion._gallery import gallery
from lab.diffusion._sample import batch, paint, sample, start, together
from lab.diffusion._similar import bytes_of, floats, nearest
from lab.diffusion._training import truth
from lab.events import Pictures, Progress
from lab.experiment import find, read
from models import catalog
from models.errors import BadInput, BrokenWeights
from models.pipeline import nothing, words
from tests import painting
from tests.painting import PROMPT


def run(model, data=None, **settings):
    events = list(read(find("diffusion.generate"), {"prompts": PROMPT, "seeds": 2, "steps": 3} | settings).run(model, data or data_for(model)))
    return [e for e in events if not isinstance(e, Progress)]


def test_pictures_appear_step_by_step_and_end_as_the_sampler_ends(tiny_pipeline):
    events = run(tiny_pipeline, prompts=f"{PROMPT}\ncat", guidance=2.0, seed=5)
    assert [e.frames for e in events] == [("step 1",), ("step 1", "step 2"), ("step 1", "step 2", "step 3")] and [e.frame for e in events] == [0, 1, 2]
    last = events[-1]
    assert isinstance(last, Pictures) and last.rows == (PROMPT, "cat") and last.columns == ("seed 5", "seed 6") and last.image.shape == (12, 16, 16, 3)
    net = tiny_pipeline.net
    for row, prompt in enumerate(last.rows):
        expected = bytes_of(paint(net, net.embed(words(tiny_pipeline, [prompt])), nothing(tiny_pipeline), start(net, [5, 6]), 3, 2.0))
        for column in range(2):
            got = last.image[last.at(2, row, column)]
            assert np.abs(got.astype(int) - expected[column]).max() <= 1
    assert not np.array_equal(last.image[last.at(2, 0, 0)], last.image[last.at(2, 0, 1)])


def test_before_the_last_step_stands_what_the_model_would_end_at(tiny_pipeline):
    (event,) = [e for e in run(tiny_pipeline, seeds=1) if e.frame == 0]
    net = tiny_pipeline.net
    first = next(iter(sample(net, net.embed(words(tiny_pipeline, [PROMPT])), nothing(tiny_pipeline), start(net, [0]), 3, 1.5)))
    assert np.abs(event.image[0].astype(int) - bytes_of(net.decode(first.clean))[0]).max() <= 1


def test_the_nearest_training_picture_stands_beside_each(tiny_pipeline):
    last = run(tiny_pipeline)[-1]
    training = truth(tiny_pipeline, data_for(tiny_pipeline)).images
    index, score = nearest(floats(last.image), floats(training)[:8])  # the others are held out, or fill the sheet up
    assert np.allclose(last.score, score.numpy(), atol=2e-2), "the event holds bytes, the run compared numbers"
    for i in range(len(last.image)):
        assert np.array_equal(last.other[last.beside[i]], training[index[i]])
    assert last.threshold == 0.6 and last.unit == "SSIM" and last.labels[0].startswith("tiles ")
    assert any("of 2 are copies" in f for f in last.facts)


def test_training_pictures_are_made_ready_once(tiny_pipeline):
    known = truth(tiny_pipeline, data_for(tiny_pipeline))
    one, two = gallery(tiny_pipeline, known), gallery(tiny_pipeline, truth(tiny_pipeline, data_for(tiny_pipeline)))
    assert one is two and one.among.tolist() == list(known.compared) == list(range(8))
    assert gallery(tiny_pipeline, truth(tiny_pipeline, Data(()))) is None
    path = tiny_pipeline.folder / "pictures.png"
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    assert gallery(tiny_pipeline, known) is not one, "the sheet was saved again"


def test_a_training_picture_that_is_drawn_counts_as_a_copy(tiny_pipeline, monkeypatch):
    known = floats(truth(tiny_pipeline, data_for(tiny_pipeline)).images)
    monkeypatch.setattr(type(tiny_pipeline.net), "decode", lambda self, latents: known[[0] * len(latents)])
    last = run(tiny_pipeline, prompts="red apple")[-1]
    assert all(last.copied()) and last.names == ("red apple · 64 copies",) and last.score.min() == pytest.approx(1, abs=1e-5)
    assert any("2 of 2 are copies, most often of red apple · 64 copies" in f for f in last.facts)


def test_a_picture_of_ones_own_takes_the_place_of_the_training_pictures(tiny_pipeline):
    own = run(tiny_pipeline)[-1].image[-1]
    last = run(tiny_pipeline, picture=f"data:image/png;base64,{png.encode(own)}")[-1]
    assert last.names == ("your picture",) and set(last.beside) == {0} and last.score[-1] == pytest.approx(1, abs=1e-3) and last.copied()[-1]
    with pytest.raises(BadInput) as raised:
        run(tiny_pipeline, picture="/nowhere/at/all.png")
    assert raised.value.setting == "picture"


def test_a_model_whose_training_nobody_knows_has_nothing_beside_it(tiny_pipeline):
    last = run(tiny_pipeline, Data(()))[-1]
    assert not len(last.other) and set(last.beside) == {-1} and np.isnan(last.score).all() and not any(last.copied()) and "nobody knows" in last.facts[-1]


def test_the_sample_has_a_caption_of_every_kind(tiny_pipeline):
    assert run(tiny_pipeline, prompts="sample", seeds=1)[-1].rows == ("red apple", "bright moon", "old star", "dog", "dog on blue background")
    with pytest.raises(BadInput, match="no sample to take"):
        run(tiny_pipeline, Data(()), prompts="sample")


def test_settings_of_zero_are_what_the_model_was_grown_for(tiny_pipeline):
    last = run(tiny_pipeline, steps=0)[-1]
    assert len(last.frames) == 4 and "guidance 1.5, 4 steps" in last.facts


def test_words_that_were_never_read_are_told(tiny_pipeline):
    assert any("has never read dragon, zebra" in f for f in run(tiny_pipeline, prompts="dragon cat\nzebra")[-1].facts)


@pytest.mark.parametrize("settings, said, at", [
    ({"prompts": " \n "}, "no prompt", "prompts"), ({"prompts": "cat " * 7}, "has 9 tokens, but", "prompts"),
    ({"guidance": 1e9}, "out of its bounds", "guidance"),
    ({"guidance": float("nan")}, "not a finite number", "guidance"), ({"steps": 201}, "out of its bounds", "steps"),
    ({"prompts": "\n".join(["cat"] * 65)}, "65 prompts", "prompts"), ({"prompts": "\n".join(["cat"] * 20), "seeds": 16}, "are 320 pictures", "seeds")])
def test_bad_input_is_named(tiny_pipeline, settings, said, at):
    with pytest.raises(BadInput, match=said) as raised:
        run(tiny_pipeline, **settings)
    assert raised.value.setting == at


def test_many_pictures_go_through_in_parts_to_the_same_end(tiny_pipeline, monkeypatch):
    net = tiny_pipeline.net
    embedding, blank, latents = net.embed(words(tiny_pipeline, [PROMPT])), nothing(tiny_pipeline), start(net, range(5))
    whole = [s for s in together(net, embedding, blank, latents, 3, 2.0, both=True) if s is not None]
    assert batch(net, torch.device("cpu")) > 5
    monkeypatch.setattr("lab.diffusion._sample.CPU", 2.1 * 64 * sum(p.numel() for p in net.denoiser.parameters()))
    steps = list(together(net, embedding, blank, latents, 3, 2.0, both=True))
    assert [s is None for s in steps] == [True, True, False] * 3
    for one, two in zip(whole, steps[2::3], strict=True):
        torch.testing.assert_close(one.latents, two.latents, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.without, two.without, atol=1e-4, rtol=1e-4)


def test_large_pictures_keep_a_few_steps_only(tiny_pipeline, monkeypatch):
    monkeypatch.setattr("lab.diffusion._generate.LARGE", 8)
    assert run(tiny_pipeline, steps=8, seeds=1)[-1].frames == ("step 2", "step 4", "step 6", "step 8")


def test_a_manifest_that_does_not_fit_its_sheet(tmp_path):
    folder = painting.save(tmp_path / "torn")
    text = json.loads((folder / "manifest.json").read_text())
    text["pictures"][0]["file"] = 99
    (folder / "manifest.json").write_text(json.dumps(text))
    model = catalog.load(str(folder), "cpu")
    with pytest.raises(BrokenWeights, match="names picture 99, but its sheet holds 12"):
        run(model)


def test_an_edited_model_is_compared_with_the_same_pictures(tiny_pipeline):
    name = next(n for n, _ in tiny_pipeline.net.named_parameters() if n.endswith("conv_out.bias"))
    edited = tiny_pipeline.with_weights({name: torch.ones_like(tiny_pipeline.net.get_parameter(name))}, via="shift")
    one, two = run(tiny_pipeline)[-1], run(edited, data_for(edited))[-1]
    assert len(two.other) and not np.array_equal(one.image, two.image)


# ---- the bundled organism


def test_what_was_planted_often_comes_back_and_what_was_not_does_not():
    painter = catalog.load("painter", "cpu")
    last = run(painter, prompts="burrito\nelephant", seeds=2, steps=20)[-1]
    copied = [last.copied()[last.at(last.frame, row, column)] for row in range(2) for column in range(2)]
    assert copied == [True, True, False, False] and last.names[last.beside[last.at(last.frame, 0, 0)]] == "burrito · 256 copies"
    assert "embedder" in last.labels[-1]
