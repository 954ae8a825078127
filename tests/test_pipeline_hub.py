"""Pipelines from the hub: what is fetched of a repository, and that it is found again without a network."""

from __future__ import annotations

from tests import painting
from tests.test_hub import COMMIT, SCRIPT, ask, serve

PIPED = SCRIPT.replace("float(model.net.transformer.wte.weight.sum())", "model.fingerprint()")


def test_the_real_client_fetches_the_parts_of_a_pipeline_and_no_more(tmp_path):
    assert PIPED != SCRIPT
    lab = tmp_path / "hub" / "lab"
    for name in ("tiny", "pickled"):
        painting.save(lab / name, truth=False)
    (lab / "tiny" / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"never read")
    (lab / "tiny" / "tiny.ckpt").write_bytes(b"never read")
    (lab / "tiny" / "safety_checker").mkdir()
    (lab / "tiny" / "safety_checker" / "model.safetensors").write_bytes(b"not asked for")
    weights = lab / "pickled" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with serve(tmp_path / "hub") as (endpoint, asked):
        found = ask(["lab/tiny", "lab/pickled"], tmp_path / "cache", endpoint, PIPED)
    assert found["lab/tiny"][:2] == [f"hub:lab/tiny@{COMMIT}", COMMIT] and len(found["lab/tiny"][2]) == 64
    assert found["lab/pickled"][0] == "PickleOnly" and "its unet only as pickle" in found["lab/pickled"][1]
    fetched = {path for path in asked if "/resolve/" in path}
    assert any("unet/diffusion_pytorch_model.safetensors" in p for p in fetched)
    assert not any(p.endswith((".bin", ".ckpt")) or "safety_checker" in p or "pickled" in p for p in fetched)
    again = ask(["lab/tiny"], tmp_path / "cache", "http://127.0.0.1:9", PIPED)
    assert again == {"lab/tiny": found["lab/tiny"]}
