"""The section that the measurement writes: its figures are those that were measured, and it takes the place of the one before."""

from __future__ import annotations

import pytest
import torch

from bench import _dori_locality
from bench._dori_locality import across, average, locality, within
from bench._dori_page import HEAD, page, write
from lab.data import data_for
from models import catalog


def results(rate=0.05):
    start = {"caption": 0.75, "random": 1.0, "other prompts": 0.25}
    search = {"memorized": [{"start": k, "before": 0.1, "ssim": 0.8, "rate": v} for k, v in start.items()],
              "control": [{"start": k, "before": 0.1, "ssim": 0.2, "rate": 0.0} for k in start]}
    pruned = {"nemo, pictures": {"rate": rate, "ssim": 0.3, "others": 0.5, "plain": 0.5, "count": 12, "appeared": []}}
    return {"model": "painter", "device": "CPU, 1 threads", "guidance": 2.0, "steps": 20, "threshold": 0.7,
            "prompts": {"a": {"rate": 1.0, "others": 0.9, "plain": 0.6, "seeds": 10, "pruned": pruned, "search": {"nemo, pictures": search}}},
            "runs": {"npo": {"step": [0.0, 20.0], "series": {"its prompt": [1.0, 0.25], "search afterwards": [None, 0.75]}, "seconds": 3.2, "device": "CPU"}},
            "speed": {"ratio": 1.2, "starts": 2, "rounds": 7, "device": "CPU"}}


def test_the_page_says_what_was_measured():
    text = page(results())
    assert "Pruning by nemo, pictures: 5% of noises still copy; 1 of 1 prompts are below 10 %." in text
    assert "Search, nemo, pictures: 1 of 1 prompts come back from some start, 1 from random numbers; 0 of 3 searches for a control." in text
    assert "| nemo, pictures | other prompts | 0 of 1 | 25% | 0.10 | 0.80 | 0% | 0.20 |" in text
    assert "1.200 times" in text and "missed" in text and "| 20 | 0.25 | 0.75 |" in text
    assert "0 of 1 prompts are below 10 %" in page(results(0.4))


def test_rates_are_counted_anew_from_the_scores():
    found = results(rate=0.9)
    found["prompts"]["a"]["pruned"]["nemo, pictures"]["scores"] = [0.6, 0.8, 0.71, 0.2]
    assert "50% of noises still copy" in page(found) and "25% of noises still copy" in page(found | {"threshold": 0.75})


def test_the_section_takes_the_place_of_the_one_before(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Painter\n\nFirst.\n\n## Next\n\nMore.\n")
    write(results(), readme)
    once = readme.read_text()
    assert once.startswith("# Painter\n\nFirst.\n\n## Next\n\nMore.\n\n" + HEAD)
    readme.write_text(once + "\n### After\n\nLast.\n")
    write(results(0.4), readme)
    text = readme.read_text()
    assert text.count(HEAD) == 1 and "40% of noises" in text and "5% of noises still" not in text and text.endswith("### After\n\nLast.\n")


# ---- where the memory is


def test_distances_of_pairs_by_hand():
    one, two = torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]]]), torch.tensor([[[0.0, 1.0]]])
    assert within([one, two]) == [5.0] and across([one, two]) == pytest.approx([1.0, 18**0.5])
    assert average([1.0, float("nan"), 2.0]) == 1.5 and average([float("nan")]) is None


def test_locality_of_a_small_painter_is_measured_and_said(tiny_painter, monkeypatch):
    monkeypatch.setattr(_dori_locality, "STEPS", 1)
    model = catalog.load(tiny_painter, "cpu")
    found = locality(model, data_for(model), ["red apple", "bright moon"], 2, 2)
    assert found["distances"]["random starts"] > 0 and found["distances"]["plain captions"] > 0 and set(found["overlap"]) == {"nemo, ends alike", "wanda, 1 %"}
    every = [v for way in found["overlap"].values() for k, v in way.items() if k != "size" and v is not None]
    assert every and all(0 <= v <= 1 for v in every)
    text = page(results() | {"locality": found})
    assert "2 searches each from random numbers" in text and f"| plain captions | {found['distances']['plain captions']:.2f} |" in text
