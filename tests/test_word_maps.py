"""Cross-attention as it is read through hooks: it reproduces what the attention gives, in UNets, transformers and joint transformers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from lab.data import data_for
from lab.diffusion._attention import Reader, attention, upsampled
from lab.diffusion._maps import laid
from lab.diffusion._sample import start
from lab.events import Curves, Pictures
from lab.experiment import find, read
from models import catalog
from models.errors import BadInput
from models.model import Model
from models.pipeline import Pipeline, words
from tests import painting
from tests.painting import PROMPT


def joint(norm=None) -> Model:
    """A tiny SD3 transformer in a pipeline of its own."""
    from diffusers import SD3Transformer2DModel
    from transformers import CLIPTextModelWithProjection

    made = painting.parts()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = SD3Transformer2DModel(sample_size=8, patch_size=2, in_channels=4, num_layers=3, attention_head_dim=8, num_attention_heads=2,
                                     joint_attention_dim=painting.WIDTH, caption_projection_dim=16, pooled_projection_dim=painting.WIDTH, out_channels=4,
                                     pos_embed_max_size=8, qk_norm=norm)
        text = CLIPTextModelWithProjection(painting.text_config())
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
    net = Pipeline(body, text, made["vae"], flow).eval().requires_grad_(False)
    return Model("joint", net, painting.tokenizer())


def model_of(kind, tmp_path) -> Model:
    if kind.startswith("joint"):
        return joint("rms_norm" if kind.endswith("normed") else None)
    return catalog.load(str(painting.save(tmp_path / kind, kind, truth=False)), "cpu")


@pytest.mark.parametrize("kind", ["sd", "xl", "pixart", "ddt", "joint", "joint normed"])
def test_the_weights_that_are_read_give_what_the_attention_gave(kind, tmp_path):
    """softmax(q k) v, through the output matrix, is what the module itself returned: so these are its weights."""
    model = model_of(kind, tmp_path)
    reader = Reader(model)
    given, returned = {}, {}
    for layer in reader.layers:
        for part in ("to_v", *(["add_v_proj"] if layer.joint else [])):
            getattr(layer.module, part).register_forward_hook(lambda m, i, out, key=(layer.name, part): given.update({key: out}))
        layer.module.to_out[0].register_forward_pre_hook(lambda m, args, key=layer.name: returned.update({key: args[0]}))
    embedding = model.net.embed(words(model, [PROMPT, "cat"]))
    with torch.no_grad():
        reader.net.noise(start(model.net, [0, 1]), 500, embedding)
        assert len(reader.layers) == {"sd": 4, "xl": 4, "pixart": 2, "ddt": 2, "joint": 3, "joint normed": 3}[kind]
        for layer in reader.layers:
            share = attention(layer, 2)
            values = torch.cat([given[layer.name, "to_v"], *([given[layer.name, "add_v_proj"]] if layer.joint else [])], 1)
            values = values.unflatten(-1, (layer.module.heads, -1)).transpose(1, 2)
            torch.testing.assert_close((share @ values).transpose(1, 2).flatten(2), returned[layer.name], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(share.sum(-1), torch.ones_like(share[..., 0]))


@pytest.mark.parametrize("kind", ["sd", "pixart", "joint"])
def test_maps_are_shares_on_the_grid_of_the_latents(kind, tmp_path):
    model = model_of(kind, tmp_path)
    reader = Reader(model)
    with torch.no_grad():
        reader.net.noise(start(model.net, [0]), 500, model.net.embed(words(model, [PROMPT])))
    for found in reader.maps(1, painting.LENGTH).values():
        assert found.shape[:2] == (1, painting.LENGTH) and found.shape[2] == found.shape[3]
        total = found.sum(1)
        assert (total < 1).all() if kind == "joint" else torch.allclose(total, torch.ones_like(total))


def test_names_say_where_a_layer_stands_in_the_order_of_running(tiny_pipeline):
    reader, ran = Reader(tiny_pipeline), []
    for layer in reader.layers:
        layer.module.register_forward_hook(lambda *_, name=layer.name: ran.append(name))
    reader.net.noise(start(tiny_pipeline.net, [0]), 500, tiny_pipeline.net.embed(words(tiny_pipeline, [PROMPT])))
    assert [layer.name for layer in reader.layers] == ran[: len(reader.layers)] and ran[0] == "down 0.0" and ran[1] == "middle" and ran[2].startswith("up 1")


def test_a_place_that_reads_one_token_alone_lights_up_there(tiny_pipeline):
    """Hand-made: queries of the left half meet the key of token 2, those of the right half that of token 3."""
    reader = Reader(tiny_pipeline)
    (layer, *_), width = reader.layers, reader.layers[0].module.heads * 4
    side = 8
    query, key = torch.zeros(1, side * side, width), torch.zeros(1, painting.LENGTH, width)
    left = (torch.arange(side * side) % side) < side // 2
    query[0, left, 0::4], query[0, ~left, 1::4] = 100.0, 100.0
    key[0, 2, 0::4], key[0, 3, 1::4] = 100.0, 100.0
    layer.seen.query, layer.seen.key = query, key
    found = reader.maps(1, painting.LENGTH)[layer.name][0]
    assert torch.allclose(found[2][:, :4], torch.ones(8, 4)) and found[2][:, 4:].max() < 1e-6 and torch.allclose(found[3], 1 - found[2], atol=1e-5)


def test_upsampling_keeps_a_plain_map_and_can_leave_the_coarsest_out():
    maps = {"fine": torch.full((1, 2, 8, 8), 0.25), "coarse": torch.full((1, 2, 4, 4), 0.5)}
    both = upsampled(maps, (16, 16), coarsest=True)
    assert both["coarse"].shape == (1, 2, 16, 16) and torch.allclose(both["coarse"], torch.tensor(0.5))
    assert list(upsampled(maps, (16, 16), coarsest=False)) == ["fine"]
    assert list(upsampled({"only": maps["coarse"]}, (16, 16), coarsest=False)) == ["only"]
    sharp = torch.zeros(1, 1, 4, 4)
    sharp[..., 1, 1] = 1.0
    assert upsampled({"a": sharp}, (16, 16), coarsest=True)["a"].min() == 0, "bicubic overshoots below zero, which is cut off"


def test_a_map_lies_over_its_picture():
    picture = np.full((4, 4, 3), 200, np.uint8)
    heat = np.zeros((4, 4))
    heat[0, 0] = 0.01
    shown = laid(picture, heat)
    assert shown[0, 0].sum() > 2 * shown[1, 1].sum() and shown.dtype == np.uint8
    assert np.array_equal(laid(picture, np.zeros((4, 4)))[0, 0], shown[1, 1]), "a map of nothing is dark, not a fault"


def run(model, **settings):
    return list(read(find("diffusion.maps"), {"prompt": PROMPT, "steps": 3} | settings).run(model, data_for(model)))


def test_the_run_shows_every_step_and_every_token(tiny_pipeline):
    *_, last = run(tiny_pipeline)
    assert isinstance(last, Pictures) and last.frames == ("all steps", "step 1", "step 2", "step 3") and last.rows == ("mean over layers",)
    assert last.columns == ("picture", "<s>", *PROMPT.split(), "</s>") and len(last.image) == 4 * 8
    score = last.score.reshape(4, 8)
    assert np.isnan(score[:, 0]).all() and (score[:, 1:].sum(1) <= 1 + 1e-6).all()
    assert np.allclose(score[0, 1:], score[1:, 1:].mean(0)), "the mean over steps is their mean"
    assert len(np.unique(last.image.reshape(4, 8, -1)[:, 0], axis=0)) == 4 - 1, "the picture of the mean is the last"


def test_each_layer_has_a_row_and_their_mean_is_the_first(tiny_pipeline):
    *_, last = run(tiny_pipeline, layers="each", coarsest=True)
    assert last.rows == ("mean over layers", "down 0.0", "middle", "up 1.0", "up 1.1")
    score = last.score.reshape(4, len(last.rows), 8)[1, :, 1:]
    assert np.allclose(score[0], score[1:].mean(0), atol=1e-6)
    *_, without = run(tiny_pipeline, layers="each")
    others = without.score.reshape(4, 5, 8)[1, :, 1:]
    assert np.allclose(others[0], others[[1, 3, 4]].mean(0), atol=1e-6), "DAAM leaves out the layer in the middle, of the fewest places"


def test_shares_as_curves_are_the_numbers_under_the_maps(tiny_pipeline):
    *_, pictures, last = run(tiny_pipeline, show="shares")
    assert isinstance(last, Curves) and last.value.shape == (7, 3) and math.isclose(last.value[2, 1], pictures.score[2 * 8 + 3], rel_tol=1e-5)


def test_several_prompts_are_told(tiny_pipeline):
    with pytest.raises(BadInput, match="several prompts") as raised:
        run(tiny_pipeline, prompt="cat\ndog")
    assert raised.value.setting == "prompt"


def test_a_denoiser_without_attention_to_the_text_is_told(tiny_pipeline):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.line, self.config = nn.Linear(2, 2), tiny_pipeline.net.denoiser.config

    net = Pipeline(Plain(), tiny_pipeline.net.text, tiny_pipeline.net.vae, tiny_pipeline.net.scheduler_config)
    with pytest.raises(BadInput, match="cross-attention of Plain cannot be read"):
        Reader(Model("plain", net, tiny_pipeline.tokenizer))
