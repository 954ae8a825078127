"""The sentences of the leaderboard say what the figures say, also where nothing reproduces."""

from __future__ import annotations

import pytest

from bench import _iso_words as words
from bench.leaderboard import page

PLAIN = {"retain accuracy": 0.9, "retain loss": 0.5, "forget loss": 5.0, "forget accuracy": 0.1, "KL forget": 4.0, "KL retain": 0.2, "KL holdout": 2.0,
         "general text": 0.8, "forget truth ratio": 0.2, "membership AUC": 0.5, "depth": 0.4, "forget quality a": 0.2, "forget quality b": 0.4}
KNOWN = {"whole": PLAIN | {"forget accuracy": 1.0, "forget loss": 0.1, "KL forget": 4.5, "general text": 0.7},
         "a": PLAIN | {"KL forget": 1.5, "forget quality a": 1.0, "forget accuracy": 0.05}, "b": PLAIN | {"KL forget": 1.7, "forget quality b": 1.0}}


def runs(label, **changed):
    """Three seeds; a changed score is a list, one value a seed, or one for all."""
    given = {k.replace("_", " "): v if isinstance(v, list) else [v] * 3 for k, v in changed.items()}
    return [PLAIN | {"label": label, "seed": s, "steps": 10, "cost": 20.0, "until": False, "ended": ""} | {k: v[s] for k, v in given.items()} for s in range(3)]


def test_mean_and_spread_by_hand():
    assert words.spread([1.0, 2.0, 3.0], 1) == "2.0 ± 1.0"
    assert words.spread([1.0], 2) == "1.00" and words.spread([float("nan")]) == "-"


def test_an_oracle_is_not_held_against_itself():
    assert words.forget_quality(KNOWN["a"] | {"name": "a"}) == pytest.approx(0.4)
    assert words.forget_quality(PLAIN) == pytest.approx(0.3)


def test_gu_is_judged_seed_by_seed():
    def verdict(losses):
        groups = {"npo": runs("npo", retain_loss=0.5), "npo + GU": runs("npo + GU", retain_loss=losses, cost=30.0)}
        return words.geometric(groups, [("npo", "npo + GU"), ("absent", "absent + GU")])[0]

    assert "3 of 3 seeds, **reproduces**" in verdict([0.3, 0.4, 0.2]) and "1.50 times" in verdict([0.3, 0.4, 0.2])
    assert "2 of 3 seeds, **holds for some" in verdict([0.3, 0.6, 0.2])
    assert "0 of 3 seeds, **does not reproduce**" in verdict([0.5, 0.6, 0.7])


def test_ssd_is_judged_by_what_it_forgets_and_keeps():
    assert "**reproduces**" in words.dampening(KNOWN, runs("ssd", retain_accuracy=0.85))
    assert "not without harm" in words.dampening(KNOWN, runs("ssd", retain_accuracy=0.4))
    line = words.dampening(KNOWN, runs("ssd", forget_accuracy=0.9))
    assert "**does not reproduce**" in line and "+0.825 in accuracy" in line  # against the mean of .05 and .1


def test_windows_are_compared_only_at_equal_forgetting():
    groups = {"sha": runs("sha", retain_loss=0.2), "sha, layers 0-2": runs("x", retain_loss=0.3), "sha, layers 5-7": runs("y", retain_loss=0.1)}
    others = ["sha, layers 0-2", "sha, layers 5-7"]
    assert "beat 1 of 2" in words.windows(groups, "sha", others, 5.0)
    assert "beat 1 of 1" in words.windows(groups, "sha", others[:1], 5.0) and "**reproduces**" in words.windows(groups, "sha", others[:1], 5.0)
    groups["sha"] = runs("sha", retain_loss=0.2, forget_loss=[5.0, 5.0, 2.0])
    line = words.windows(groups, "sha", others[:1], 5.0)
    assert "did not forget equally" in line and "**reproduces**" not in line


def test_whether_a_method_ends_nearer_to_the_oracles():
    groups = {"far": runs("far", KL_forget=6.0), "near": runs("near", KL_forget=3.0), "part": runs("part", KL_forget=2.0, forget_loss=1.0)}
    line = words.nearer(KNOWN, groups, 5.0)
    assert "4.50 nats" in line and "1.60 from each other" in line and "2 of 3: part (2.00), near (3.00)" in line
    assert "1 of these 2 also reached the oracles' forget loss in every run: near." in line
    assert "**No method ends nearer**; the nearest is far (6.00)" in words.nearer(KNOWN, {"far": groups["far"]}, 5.0)


def test_the_table_begins_with_the_untouched_model_and_the_oracles():
    rows = words.board(KNOWN, {"far": runs("far", KL_forget=6.0), "near": runs("near", KL_forget=[3.0, 3.0, 3.6], forget_loss=[5.0, 5.0, 1.0])}, 5.0)
    assert [r[0] for r in rows] == ["whole, untouched", "an oracle against the other", "near", "far"]
    assert all(len(r) == len(words.HEAD) for r in rows)
    near = dict(zip(words.HEAD, rows[2], strict=True))
    assert near["KL forget"] == "3.20 ± 0.35" and near["reached"] == "2 of 3" and near["cost a step"] == "2.00 ± 0.00"
    assert near["general text: loss added"] == "0.100 ± 0.000"
    assert dict(zip(words.HEAD, rows[1], strict=True))["forget quality p"] == "0.30 ± 0.14"  # .4 of a against b, .2 of b against a


def test_the_page_is_made_from_what_is_finished():
    one = runs("grad_diff") + runs("grad_diff + GU", retain_loss=0.4)
    text = page({"references": KNOWN, "runs": {f"{r['label']} | {r['seed']}": r for r in one}})
    assert "| grad_diff + GU |" in text and "grad_diff: GU lowers the retain loss" in text and "SSD" not in text.split("## What")[1]
