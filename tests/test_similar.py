"""Comparing pictures, and reading those that someone gives: by hand, against scipy, and with broken files."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from lab import png
from lab.diffusion._similar import Gallery, bytes_of, distance, floats, nearest, sized, ssim, tiled
from lab.events import Pictures, from_json, to_json
from models.errors import BadInput


def drawn(n, side=32, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


# ---- measures


def test_ssim_is_that_of_a_gaussian_window():
    one, two = drawn(2)[:1], drawn(2)[1:] * 0.5 + drawn(2)[:1] * 0.5

    def blur(x):
        return gaussian_filter(x, 1.5, truncate=5 / 1.5, axes=(1, 2))[:, 5:-5, 5:-5]

    a, b = one[0].double().numpy(), two[0].double().numpy()
    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    value = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    assert float(ssim(one, two)) == pytest.approx(value.mean(), abs=1e-4)


def test_ssim_at_its_ends():
    one = drawn(3)
    assert torch.allclose(ssim(one, one), torch.ones(3)) and torch.allclose(ssim(one, one.flip(0)), ssim(one.flip(0), one), atol=1e-6)
    assert ssim(one, 1 - one).max() < 0 and abs(float(ssim(one[:1], one[1:2]))) < 0.3
    assert ssim(drawn(2, 8), drawn(2, 8)).tolist() == pytest.approx([1, 1]), "smaller than the window"


def test_a_shared_ground_hides_a_difference_from_the_mean_and_not_from_the_tiles():
    one = torch.ones(1, 3, 32, 32)
    two = one.clone()
    two[:, :, 8:16, 8:16] = 0.5
    assert float(distance(one, two)) == pytest.approx(0.5 / 4) and float(tiled(one, two)) == pytest.approx(0.5)
    assert float(distance(one, 0 * one)) == 1 == float(tiled(one, 0 * one))


def test_bytes_and_sizes_come_back():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    assert np.array_equal(bytes_of(floats(pictures)), pictures) and sized(floats(pictures), (16, 16)).shape == (3, 3, 16, 16)
    plain = torch.full((1, 3, 64, 48), 0.25)
    assert torch.allclose(sized(plain, (16, 16)), torch.full((1, 3, 16, 16), 0.25))


def test_the_nearest_is_found_among_many():
    training = drawn(200)
    asked = (0.8 * training[[17, 171]] + 0.2 * drawn(2, seed=1)).clamp(0, 1)
    index, score = nearest(asked, training)
    some = Gallery(training, among=[3, 171, 9]).nearest(asked)
    assert some.index[1] == 171 and some.index[0] in (3, 9, 171) and some.ssim[1] == pytest.approx(float(score[1]))
    every = torch.stack([ssim(asked, t.expand(2, -1, -1, -1)) for t in training], 1)
    assert index.tolist() == [17, 171] == every.argmax(1).tolist() and torch.allclose(score.float(), every.amax(1), atol=1e-5)


def test_the_embedder_brings_in_what_pixels_do_not(monkeypatch):
    """A training picture that is far in pixels, but the same to the embedder, is compared too."""
    training = drawn(100)
    asked = training[60:61].flip(-1)
    names = {float(t[0, 0, 0]): i for i, t in enumerate(training)} | {float(asked[0, 0, 0, 0]): 60}

    def embedder(pictures):
        return torch.nn.functional.one_hot(torch.tensor([names[float(p[0, 0, 0])] for p in pictures]), 100).float()

    chosen = []
    real = ssim
    monkeypatch.setattr("lab.diffusion._similar.ssim", lambda a, b: chosen.append(b) or real(a, b))
    found = Gallery(training, embedder).nearest(asked)
    assert any(torch.equal(t, training[60]) for t in chosen[0]) and len(chosen[0]) == 32
    assert found.feature[0] == (1.0 if found.index[0] == 60 else 0.0)
    assert np.isnan(Gallery(training).nearest(asked).feature[0])


def test_large_pictures_are_compared_at_the_size_of_the_training_pictures():
    training = sized(drawn(40, 8, seed=3), (32, 32))
    index, score = nearest(sized(training[[5]], (128, 128)), training)
    assert index.tolist() == [5] and float(score) > 0.95


# ---- as text


def test_a_picture_comes_back_from_its_text():
    picture = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    assert np.array_equal(png.decode(png.encode(picture)), picture)
    for broken in ("no base64!", base64.b64encode(b"not a picture").decode(), png.encode(picture)[:40]):
        with pytest.raises(ValueError, match="no picture in base64"):
            png.decode(broken)


def shown(n=2, others=1):
    rng = np.random.default_rng(0)
    return Pictures("some", ("step 1",), ("a prompt",), tuple(f"seed {i}" for i in range(n)), "step", "prompt", "noise",
                    rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8), ("x",) * n, rng.integers(0, 256, (others, 4, 4, 3), dtype=np.uint8),
                    tuple(f"picture {i}" for i in range(others)), (0,) * (n - 1) + (-1,), np.array([0.9] * (n - 1) + [np.nan]), "SSIM", 0.6, "higher", 0)


def test_an_event_of_pictures_survives_json_and_says_what_is_a_copy():
    event = shown()
    assert event.copied() == (True, False) and event.at(0, 0, 1) == 1
    again = from_json(to_json(event))
    assert np.array_equal(again.image, event.image) and np.array_equal(again.other, event.other) and again.image.dtype == np.uint8
    assert again.beside == event.beside and again.names == event.names and np.array_equal(again.score, event.score, equal_nan=True)
    assert all(isinstance(p, str) for p in to_json(event)["image"])


def test_an_event_that_does_not_fit_itself():
    event = vars(shown())
    for wrong in ({"labels": ("x",)}, {"beside": (0, 5)}, {"names": ()}, {"frames": ("a", "b")}, {"frame": 3}):
        with pytest.raises(ValueError):
            Pictures(**(event | wrong))


# ---- given by someone


def saved(tmp_path, kind="PNG", size=(40, 20), mode="RGB"):
    path = tmp_path / f"picture.{kind.lower()}"
    Image.new(mode, size, (200, 10, 10, 128)[: len(mode)]).save(path, kind)
    return path


def test_a_picture_is_read_from_a_file_and_from_text(tmp_path):
    path = saved(tmp_path)
    text = base64.b64encode(path.read_bytes()).decode()
    for where in (str(path), f"data:image/png;base64,{text}"):
        assert np.array_equal(png.read(where), np.full((20, 40, 3), (200, 10, 10), np.uint8))
    assert png.read(str(saved(tmp_path, "JPEG"))).shape == (20, 40, 3)
    assert np.abs(png.read(str(saved(tmp_path, mode="RGBA"))).astype(int) - (227, 132, 132)).max() <= 1, "half clear on white"


def failing(where, said):
    with pytest.raises(BadInput, match=said) as raised:
        png.read(where)
    assert raised.value.setting == "picture" and raised.value.cause and raised.value.cure


def test_broken_huge_and_missing_pictures_are_named(tmp_path, monkeypatch):
    failing(str(tmp_path / "nowhere.png"), "nowhere.png cannot be read .No such file")
    failing(str(tmp_path), "cannot be read")
    (tmp_path / "text.png").write_text("hello")
    failing(str(tmp_path / "text.png"), "no PNG, JPEG")
    path = saved(tmp_path)
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(noise, "PNG")
    path.write_bytes(noise.getvalue()[:2000])
    failing(str(path), "picture.png cannot be read")
    failing("data:image/png;base64,????", "the picture's text is broken")
    failing(str(saved(tmp_path, size=(5000, 3))), "has 5000 x 3 pixels")
    monkeypatch.setattr(png, "BYTES", 10)
    failing(str(saved(tmp_path)), "MiB")


def test_a_public_server_reads_no_files(tmp_path, monkeypatch):
    path = saved(tmp_path)
    monkeypatch.setenv("MNEMOSCOPE_PUBLIC", "1")
    failing(str(path), "reads no files of its own")
    assert png.read("data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()).shape == (20, 40, 3)
