"""The score shared out over tokens, against finite differences and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.data import Data, data_for
from lab.diffusion._ask import one_prompt
from lab.diffusion._sample import paint, start
from lab.diffusion._similar import floats, nearest, ssim
from lab.diffusion._words import added, inner, left_out, outer
from lab.events import Grid
from lab.experiment import find, read
from models.errors import BadInput
from models.pipeline import nothing, words
from tests.painting import PROMPT


def run(model, data=None, **settings):
    return list(read(find("diffusion.words"), {"prompt": PROMPT, "steps": 3, "seeds": 2} | settings).run(model, data or data_for(model)))


@pytest.fixture
def asked(tiny_pipeline):
    return one_prompt(tiny_pipeline, data_for(tiny_pipeline), PROMPT, 0, 2, 1.5, 3)


def test_the_outer_gradient_is_that_of_finite_differences(asked):
    latents, t = start(asked.net, [0, 1]), 500.0
    share = outer(asked, latents, t)
    assert share.shape == (8,) and share.sum() == pytest.approx(1) and share.min() > 0
    size = []
    with torch.no_grad():
        for row in (1, 4):  # the gradient of a row, one coordinate at a time
            slope = []
            for column in range(asked.embedding.shape[2]):
                step = torch.zeros_like(asked.embedding)
                step[0, row, column] = 1e-2
                up, down = (float(added(asked.net, asked.embedding + s * step, asked.blank, latents, t).double().mean()) for s in (1, -1))
                slope.append((up - down) / 2e-2)
            size.append(np.linalg.norm(slope))
    assert size[0] / size[1] == pytest.approx(share[1] / share[4], rel=0.05)


def test_the_inner_gradient_has_a_share_for_every_token_and_leaves_no_hook(tiny_pipeline, asked):
    """The text encoder is causal, and the denoiser reads all rows: every token has a share, and words before others have one through them."""
    share = inner(tiny_pipeline, asked, words(tiny_pipeline, [PROMPT]), start(asked.net, [0, 1]), 500.0)
    assert share.shape == (8,) and share.sum() == pytest.approx(1) and share.min() > 0
    assert not any(len(m._forward_hooks) for m in tiny_pipeline.net.modules())


def test_each_token_is_left_out_once_and_the_marks_stay(tiny_pipeline):
    ids = words(tiny_pipeline, ["cat on moon"])
    texts = [tiny_pipeline.tokenizer.decode(w[0], skip_special_tokens=True) for w in left_out(tiny_pipeline, ids, 5)]
    assert texts == ["on moon", "cat moon", "cat on"]
    assert all(w.shape == ids.shape and torch.equal(w, words(tiny_pipeline, [text])) for w, text in zip(left_out(tiny_pipeline, ids, 5), texts, strict=True))


def test_what_is_lost_is_what_a_plain_loop_finds(tiny_pipeline):
    *_, last = run(tiny_pipeline)
    assert isinstance(last, Grid) and last.value.shape == (4, 7) and last.columns[1] == "2 red"
    assert np.isnan(last.value[2:, [0, -1]]).all() and np.isfinite(last.value[2:, 1:-1]).all() and (last.value[:2].sum(1) <= 1 + 1e-9).all()
    net, blank, latents = tiny_pipeline.net, nothing(tiny_pipeline), start(tiny_pipeline.net, [0, 1])
    t = net.schedule(3)[0][0]
    training = floats(data_truth(tiny_pipeline))[:8]
    with torch.no_grad():
        whole = net.embed(words(tiny_pipeline, [PROMPT]))
        base, picture = added(net, whole, blank, latents, t).mean(), paint(net, whole, blank, latents, 3, 1.5)
        target = training[int(np.bincount(nearest(picture, training)[0].numpy()).argmax())].expand(2, -1, -1, -1)
        for i, word in enumerate(PROMPT.split()):
            less = net.embed(words(tiny_pipeline, [" ".join(w for w in PROMPT.split() if w != word)]))
            assert last.value[2, i + 1] == pytest.approx(1 - float(added(net, less, blank, latents, t).mean() / base), abs=1e-4)
            after, before = (float(ssim(p, target).mean()) for p in (paint(net, less, blank, latents, 3, 1.5), picture))
            assert last.value[3, i + 1] == pytest.approx((before - after) / abs(before), abs=1e-3)


def data_truth(model):
    from lab.diffusion._training import truth

    return truth(model, data_for(model)).images


def test_without_training_pictures_the_last_row_is_left_out(tiny_pipeline):
    assert run(tiny_pipeline, Data(()))[-1].value.shape == (3, 7) and run(tiny_pipeline, redraw=False)[-1].value.shape == (3, 7)


@pytest.mark.parametrize("prompt, said", [("", "no prompt"), ("cat\ndog", "several prompts"), ("cat " * 9, "tokens, but"), ("sample", "no sample to take")])
def test_bad_prompts(tiny_pipeline, prompt, said):
    with pytest.raises(BadInput, match=said) as raised:
        run(tiny_pipeline, Data(()), prompt=prompt)
    assert raised.value.setting == "prompt"
