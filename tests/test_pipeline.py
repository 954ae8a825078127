"""A pipeline as a model: the same pictures as diffusers makes, pure methods, and every folder that is no pipeline told by its own error."""

from __future__ import annotations

import json

import pytest
import torch

from lab.diffusion._sample import paint, sample, start, step
from lab.events import Progress
from lab.runs import record
from models import catalog, errors, pipelines
from models.errors import BadInput
from models.pipeline import Pipeline, nothing, pictures, tokens, words
from tests import painting
from tests.painting import PROMPT


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(catalog, "SHELF", catalog.Shelf(2, 2**30))


@pytest.fixture
def folder(tmp_path):
    return painting.save(tmp_path / "tiny", truth=False)


def by_diffusers(pipe, prompts, latents, steps, guidance):
    from diffusers import DDIMScheduler

    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    out = pipe(prompts, latents=latents.clone(), num_inference_steps=steps, guidance_scale=guidance, output_type="pt")
    return out.images


# ---- the same pictures


@pytest.mark.parametrize("kind, predicts", [("sd", "epsilon"), ("sd", "v_prediction"), ("sd", "sample"), ("xl", "epsilon")])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_pipeline_draws_what_diffusers_draws(kind, predicts, guidance, tmp_path):
    model = catalog.load(str(painting.save(tmp_path / "x", kind, truth=False, predicts=predicts)), "cpu")
    prompts = [PROMPT, "old cat"]
    latents = start(pictures(model), [3, 4])
    with torch.no_grad():
        mine = paint(model.net, model.net.embed(words(model, prompts)), nothing(model), latents, 5, guidance)
    theirs = by_diffusers(painting.pipeline(kind, predicts=predicts), prompts, latents, 5, guidance)
    assert mine.shape == (2, 3, painting.SIDE, painting.SIDE) == theirs.shape and mine.std() > 0.01
    torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=0)


def test_a_transformer_denoises_as_it_does_by_itself(tmp_path):
    model = catalog.load(str(painting.save(tmp_path / "x", "pixart", truth=False)), "cpu")
    net, made = model.net, painting.parts("pixart")["transformer"]
    latents, embedding = start(net, [0]), net.embed(words(model, [PROMPT]))
    with torch.no_grad():
        expected = made(latents, encoder_hidden_states=embedding, timestep=torch.tensor([500]),
                        added_cond_kwargs={"resolution": None, "aspect_ratio": None}, return_dict=False)[0]
        torch.testing.assert_close(net.noise(latents, 500, embedding), expected)


def test_a_decoupled_transformer_is_read_as_a_unet_is(tmp_path):
    model = catalog.load(str(painting.save(tmp_path / "x", "ddt", truth=False, predicts="v_prediction")), "cpu")
    net, made = model.net, painting.parts("ddt")["transformer"]
    latents, embedding = start(net, [0, 1]), net.embed(words(model, [PROMPT, "cat"]))
    with torch.no_grad():
        signal, sigma = (float(v) for v in net.levels(torch.tensor(500)))
        v = made.velocity(latents, 500, made.condition(latents, 500, embedding))
        torch.testing.assert_close(net.noise(latents, 500, embedding), signal * v + sigma * latents)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
def test_noise_and_clean_make_up_the_latents(predicts, tmp_path):
    model = catalog.load(str(painting.save(tmp_path / "x", truth=False, predicts=predicts)), "cpu")
    net, embedding = model.net, model.net.embed(words(model, [PROMPT, "dog"]))
    latents, t = start(net, [0, 1]), torch.tensor([900, 40])
    with torch.no_grad():
        noise, clean = net.predict(latents, t, embedding)
        signal, sigma = (v[:, None, None, None] for v in net.levels(t))
        torch.testing.assert_close(signal * clean + sigma * noise, latents, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(signal**2 + sigma**2, torch.ones(2, 1, 1, 1))
        torch.testing.assert_close(net.noise(latents[1:], 40, embedding[1:]), noise[1:])  # a number for all, or one a row
        torch.testing.assert_close(net.clean(latents[1:], 40, embedding[1:]), clean[1:])


def test_a_flow_goes_in_a_straight_line():
    made = painting.parts()
    net = Pipeline(made["unet"], made["text_encoder"], made["vae"], {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000})
    latents, embedding = start(net, [0]), net.embed(torch.tensor([[1, 4, 2, 0, 0, 0, 0, 0]]))
    with torch.no_grad():
        noise, clean = net.predict(latents, 250.0, embedding)
        out = net._output(latents, torch.tensor([250.0]), embedding)
    torch.testing.assert_close(noise - clean, out)  # the velocity
    torch.testing.assert_close(0.75 * clean + 0.25 * noise, latents)
    plan = net.schedule(4)
    assert plan[0][0] == 1000 and plan[-1][1] == 0 and all(a[1] == b[0] for a, b in zip(plan, plan[1:], strict=False))
    with torch.no_grad():  # a step of the sampler is the step of diffusers' Euler scheduler
        mine = step(net, latents, *plan[1], embedding, embedding, 1.0)[0]
        made = net.scheduler(4)
        theirs = made.step(net._output(latents, torch.tensor(plan[1][:1]), embedding), made.timesteps[1], latents, return_dict=False)[0]
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_latents_come_back_through_the_encoder(tiny_pipeline):
    net = tiny_pipeline.net
    pixels = torch.rand(2, 3, painting.SIDE, painting.SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = net.encode(pixels)
        mean = painting.parts()["vae"].encode(2 * pixels - 1).latent_dist.mean
        assert latents.shape == (2, *net.latent_shape) and net.pixels == (painting.SIDE, painting.SIDE)
        torch.testing.assert_close(latents, 0.5 * mean)
        out = net.decode(latents)
    assert out.shape == pixels.shape and out.min() >= 0 and out.max() <= 1


# ---- the sampler


def test_a_seed_draws_the_same_beside_any_other(tiny_pipeline):
    net = tiny_pipeline.net
    alone, beside = start(net, [7]), start(net, [1, 7])
    assert torch.equal(alone[0], beside[1])
    embedding = net.embed(words(tiny_pipeline, [PROMPT]))
    blank = nothing(tiny_pipeline)
    one = [s.latents for s in sample(net, embedding, blank, alone, 3, 2.0)]
    two = [s.latents for s in sample(net, embedding.expand(2, -1, -1), blank, beside, 3, 2.0)]
    assert len(one) == 3
    torch.testing.assert_close(one[-1][0], two[-1][1], atol=1e-5, rtol=1e-5)


def test_guidance_one_is_the_text_alone_and_zero_none(tiny_pipeline):
    net = tiny_pipeline.net
    embedding, blank, latents = net.embed(words(tiny_pipeline, [PROMPT])), nothing(tiny_pipeline), start(net, [0])
    def run(g, e, **how):
        return list(sample(net, e, blank, latents, 3, g, **how))[-1]
    torch.testing.assert_close(run(1.0, embedding).latents, run(1.0, embedding, both=True).latents, atol=1e-5, rtol=1e-5)
    assert run(1.0, embedding).without is None and run(1.0, embedding, both=True).without is not None
    torch.testing.assert_close(run(0.0, embedding).latents, run(5.0, blank).latents, atol=1e-4, rtol=1e-4)


def test_a_step_can_be_differentiated_and_weights_stay_frozen(tiny_pipeline):
    net = tiny_pipeline.net
    embedding = net.embed(words(tiny_pipeline, [PROMPT])).detach().requires_grad_()
    t, after = net.schedule(4)[0]
    latents = step(net, start(net, [0]), t, after, embedding, nothing(tiny_pipeline), 2.0)[0]
    (grad,) = torch.autograd.grad(latents.square().sum(), embedding)
    assert grad.abs().sum() > 0 and not any(p.requires_grad or p.grad is not None for p in net.parameters())


def test_the_sampler_leaves_the_readers_gradients_alone(tiny_pipeline):
    net = tiny_pipeline.net
    for _ in sample(net, net.embed(words(tiny_pipeline, [PROMPT])), nothing(tiny_pipeline), start(net, [0]), 2, 1.0):
        assert torch.is_grad_enabled()


# ---- the model


def test_edits_skeletons_and_fingerprints_work_as_for_text(tiny_pipeline):
    name = next(n for n, _ in tiny_pipeline.net.named_parameters() if "attn2.to_v.weight" in n)
    edited = tiny_pipeline.with_weights({name: torch.zeros_like(tiny_pipeline.net.get_parameter(name))}, via="zero")
    assert edited.fingerprint() != tiny_pipeline.fingerprint() and edited.folder == tiny_pipeline.folder
    skeleton = tiny_pipeline.skeleton()
    assert skeleton.vae.decoder.conv_in.weight is tiny_pipeline.net.vae.decoder.conv_in.weight and skeleton.latent_shape == (4, 8, 8)
    embedding, latents = tiny_pipeline.net.embed(words(tiny_pipeline, [PROMPT])), start(tiny_pipeline.net, [0])
    with torch.no_grad():
        base = tiny_pipeline.net.noise(latents, 500, embedding)
        torch.testing.assert_close(skeleton.noise(latents, 500, embedding), base)
        assert not torch.allclose(edited.net.noise(latents, 500, embedding), base)


def test_prompts_are_filled_up_and_read(tiny_pipeline):
    ids = words(tiny_pipeline, [PROMPT, "cat"])
    assert ids.shape == (2, painting.LENGTH) and ids[1].tolist() == [1, painting.WORDS.index("cat"), 2, 0, 0, 0, 0, 0]
    assert tokens(tiny_pipeline, "cat on moon") == ("<s>", "cat", "on", "moon", "</s>")
    assert tiny_pipeline.net.embed(ids).shape == (2, tiny_pipeline.net.tokens, painting.WIDTH)
    assert nothing(tiny_pipeline, 3).shape == (3, painting.LENGTH, painting.WIDTH)


@pytest.mark.parametrize("prompts, said", [([], "no prompt"), ([""], "empty"), (["cat", "  "], "empty"), (["cat " * 7], "has 9 tokens, but")])
def test_bad_prompts_are_named(tiny_pipeline, prompts, said):
    with pytest.raises(BadInput, match=said) as raised:
        words(tiny_pipeline, prompts)
    assert raised.value.setting == "prompt"


def test_more_steps_than_there_are(tiny_pipeline):
    with pytest.raises(BadInput, match="knows 1000 timesteps"):
        tiny_pipeline.net.schedule(1001)


def test_a_language_model_draws_no_pictures(tiny_folder):
    with pytest.raises(BadInput, match="draws no pictures"):
        pictures(catalog.load(tiny_folder))


def test_a_run_takes_models_of_its_own_kind(tiny_pipeline, tiny_folder):
    text = catalog.load(tiny_folder)
    assert (tiny_pipeline.task, text.task) == ("pictures", "text")
    for name, model, said in (("trace.lens", tiny_pipeline, "draws pictures, and this reads text"), ("diffusion.generate", text, "writes text")):
        with pytest.raises(BadInput, match=said) as raised:
            next(record(name, {}, model))
        assert raised.value.setting == "model"
    assert isinstance(next(record("diffusion.generate", {"prompts": PROMPT}, tiny_pipeline)), Progress)


# ---- the catalog


def test_pipelines_are_entries_of_their_own(tmp_path):
    painting.save(catalog.WEIGHTS / "painter")
    assert [e.name for e in catalog.entries("pictures") if e.kind == "organism"] == ["painter"]
    assert all(e.task == "pictures" for e in catalog.entries("pictures")) and all(e.task == "text" for e in catalog.entries())
    assert catalog.manifest("painter")["task"] == "pictures"
    model = catalog.load("painter", "cpu")
    assert model.source == "organism:painter" and model.folder == catalog.WEIGHTS / "painter" and not model.net.training
    assert catalog.load("painter", "cpu") is model


def test_a_pipeline_that_was_saved_again_is_read_again(folder):
    old = catalog.load(str(folder), "cpu")
    assert catalog.load(str(folder), "cpu") is old
    painting.parts(seed=1)["unet"].save_pretrained(folder / "unet")
    new = catalog.load(str(folder), "cpu")
    assert new is not old and new.fingerprint() != old.fingerprint()


def test_weights_outside_the_device_draw_the_same(folder, monkeypatch):
    plain = catalog.load(str(folder), "cpu")
    monkeypatch.setattr(pipelines, "_place", lambda size, device: (device, True))
    moved = pipelines.load(folder, "cpu")
    assert next(moved.net.denoiser.parameters()).is_meta and moved.device.type == "cpu"
    runs = [paint(m.net, m.net.embed(words(m, [PROMPT])), nothing(m), start(m.net, [0, 1]), 2, 2.0) for m in (plain, moved)]
    torch.testing.assert_close(*runs)
    assert moved.fingerprint() == plain.fingerprint()
    embedding, latents = plain.net.embed(words(plain, [PROMPT])), start(plain.net, [0])
    with torch.no_grad():
        torch.testing.assert_close(moved.skeleton().noise(latents, 500, embedding), plain.net.noise(latents, 500, embedding))


def test_half_precision_files_are_read(folder):
    before = catalog.load(str(folder), "cpu")
    painting.pipeline().save_pretrained(folder, variant="fp16")
    for path in [*folder.glob("*/model.safetensors"), *folder.glob("*/diffusion_pytorch_model.safetensors")]:
        path.unlink()
    assert pipelines.complete(folder) and catalog.load(str(folder), "cpu").fingerprint() == before.fingerprint()


def test_the_files_that_are_fetched(folder):
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    extra = {"unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors", "v1.ckpt", "safety_checker/model.safetensors", "README.md"}
    got = pipelines.wanted("x", names | extra)
    assert set(got) <= names and not extra & set(got)
    assert {"model_index.json", "unet/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"} <= set(got)


# ---- folders that are no pipelines


def failing(folder, kind, said):
    with pytest.raises(errors.ModelError, match=said) as raised:
        catalog.load(str(folder), "cpu")
    assert type(raised.value) is kind and raised.value.cause and raised.value.cure and raised.value.setting == "model"


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_pickles_are_refused(folder):
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_suffix(".bin"))
    failing(folder, errors.PickleOnly, "its unet only as pickle .diffusion_pytorch_model.bin")
    with pytest.raises(errors.PickleOnly):
        pipelines.wanted("x", {str(p.relative_to(folder)) for p in folder.rglob("*")})


def test_code_from_a_folder_is_never_run(folder):
    rewrite(folder / "model_index.json", unet=["my_unet", "MyUNet"])
    failing(folder, errors.NotAPipeline, "unet of tiny is a MyUNet")


def test_parts_that_are_missing(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    failing(folder, errors.BrokenWeights, "the vae of tiny has no safetensors")
    (folder / "vae" / "config.json").unlink()
    (folder / "vae").rmdir()
    failing(folder, errors.BrokenWeights, "no folder 'vae'")


def test_a_pipeline_of_another_kind(folder):
    rewrite(folder / "model_index.json", vae=None, _class_name="DDPMPipeline")
    failing(folder, errors.NotAPipeline, "DDPMPipeline. is no text-to-image pipeline")


def test_one_that_fills_in_pictures(folder):
    made = painting.parts()["unet"]
    type(made)(**{**{k: v for k, v in made.config.items() if not k.startswith("_")}, "in_channels": 9}).save_pretrained(folder / "unet")
    failing(folder, errors.NotAPipeline, "reads 9 channels")


def test_damaged_weights_and_configs(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    failing(folder, errors.BrokenWeights, "unet/diffusion_pytorch_model.safetensors cannot be read")
    path.write_bytes(whole)
    rewrite(folder / "unet" / "config.json", block_out_channels=[32, 64])
    failing(folder, errors.BrokenWeights, "weights of the unet")
    (folder / "model_index.json").write_text("{")
    failing(folder, errors.BrokenWeights, "model_index.json is not readable")


def test_a_tokenizer_of_another_model(folder):
    more = painting.tokenizer()
    more.add_tokens([f"extra{i}" for i in range(20)])
    more.save_pretrained(folder / "tokenizer")
    failing(folder, errors.NoTokenizer, "its text encoder knows 22")
