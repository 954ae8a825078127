"""The hub, devices and dtypes: what is fetched, what is refused, and where a model lands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch

from models import catalog, device, errors, hub
from models.errors import BadInput, LabError
from tests.families import save
from tests.test_catalog import ROOT, apart, failing, folder, no_weights_read, rewrite  # noqa: F401  (fixtures are found by their names)

# ---- the hub


def test_nothing_is_fetched_unless_it_may_be():
    """The fixture's hub fails the test when it is asked."""
    with pytest.raises(errors.NetworkMissing, match="Downloads are turned off"):
        catalog.load("EleutherAI/pythia-160m", allow_download=False)
    with pytest.raises(errors.NetworkMissing, match=r"Did you mean EleutherAI/pythia-160m\?$"):
        hub.load("EleutherAI/pythia-160", known=("EleutherAI/pythia-160m", "gpt2"))


def test_offline_mode_is_kept(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(errors.NetworkMissing, match="HF_HUB_OFFLINE"):
        catalog.load("some/model")


def test_a_hub_that_does_not_answer(monkeypatch):
    def refuse(*_, **__):
        raise huggingface_hub.errors.HTTPError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(errors.NetworkMissing, match="'gpt2' is not on this machine, and the hub does not answer") as caught:
        catalog.load("gpt2")
    assert caught.value.cause and caught.value.cure


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve(root: Path) -> Iterator[tuple[str, set[str]]]:
    """A hub on this machine with the repositories OWNER/NAME under `root`, "locked" ones gated. Yields its address and the paths asked."""
    asked: set[str] = set()

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            asked.add(path)
            match path.lstrip("/").split("/"):
                case ["api", "models", owner, name, *rest]:
                    base = root / owner / name
                    files = [(f.relative_to(base).as_posix(), f.stat().st_size) for f in sorted(base.rglob("*")) if f.is_file()]
                    tree = [{"type": "file", "path": n, "size": size, "oid": n} for n, size in files]
                    about = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [{"rfilename": n, "size": size} for n, size in files]}
                    self.answer(json.dumps(tree if "tree" in rest else about).encode(), "" if files else "RepoNotFound")
                case [_, "locked", "resolve", _, *_]:
                    self.answer(b"", "GatedRepo")
                case [owner, name, "resolve", _, *parts]:
                    self.answer((root / owner / name).joinpath(*parts).read_bytes(), ETag=f'"{"-".join(parts)}"', **{"X-Repo-Commit": COMMIT})
                case _:
                    self.answer(b"", "EntryNotFound")

        do_HEAD = do_GET

        def answer(self, body: bytes, fault: str = "", **headers: str) -> None:
            self.send_response({"": 200, "GatedRepo": 403}.get(fault, 404))
            for key, value in (headers | {"Content-Length": str(len(body)), "X-Error-Code": fault}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


SCRIPT = """
import json, sys
from models import catalog, errors
found = {}
for name in sys.argv[1:]:
    try:
        model = catalog.load(name, device="cpu")
        found[name] = [model.source, model.folder.name, float(model.net.transformer.wte.weight.sum())]
    except errors.ModelError as error:
        found[name] = [type(error).__name__, str(error)]
print(json.dumps(found))
"""


def ask(names: list[str], cache: Path, endpoint: str, script: str = SCRIPT, **more: str) -> dict[str, list]:
    """What a fresh process with the real client finds under `names`."""
    env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"} | more
    done = subprocess.run([sys.executable, "-c", script, *names], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_real_client_against_a_hub_of_this_machine(tmp_path):
    """Fetches only what is needed, finds it again without a network, and tells the hub's refusals apart."""
    net = save("gpt2", tmp_path / "hub" / "lab" / "tiny")
    save("gpt2", tmp_path / "hub" / "lab" / "pickled")
    save("gpt2", tmp_path / "hub" / "lab" / "coded")
    save("gpt2", tmp_path / "hub" / "lab" / "locked")
    for name in ("tiny", "pickled"):
        (tmp_path / "hub" / "lab" / name / "pytorch_model.bin").write_bytes(b"never read")
    (tmp_path / "hub" / "lab" / "pickled" / "model.safetensors").unlink()
    rewrite(tmp_path / "hub" / "lab" / "coded" / "config.json", model_type="their_own", auto_map={"AutoConfig": "code.C"})
    with serve(tmp_path / "hub") as (endpoint, asked):
        found = ask(["lab/tiny", "lab/pickled", "lab/coded", "lab/locked", "lab/tinny"], tmp_path / "cache", endpoint)
    total = float(net.transformer.wte.weight.sum())
    assert found["lab/tiny"] == [f"hub:lab/tiny@{COMMIT}", COMMIT, total]
    kinds = {name: answer[0] for name, answer in found.items() if name != "lab/tiny"}
    assert kinds == {"lab/pickled": "PickleOnly", "lab/coded": "RemoteCode", "lab/locked": "GatedModel", "lab/tinny": "UnknownModel"}
    fetched = {path for path in asked if "/resolve/" in path}
    assert not any("pytorch_model.bin" in path or "pickled" in path for path in fetched)
    assert not any("coded" in path and "safetensors" in path for path in fetched)
    dead = "http://127.0.0.1:9"
    again = ask(["lab/tiny", f"lab/tiny@{COMMIT}", "lab/coded", "lab/other"], tmp_path / "cache", dead)
    assert again["lab/tiny"] == again[f"lab/tiny@{COMMIT}"] == found["lab/tiny"]
    assert again["lab/coded"][0] == again["lab/other"][0] == "NetworkMissing" and "does not answer" in again["lab/other"][1]


# ---- device and dtype


def test_device_and_dtype_are_checked(folder):  # noqa: F811
    for setting, value in (("device", "tpu"), ("dtype", "int8")):
        with pytest.raises(BadInput) as caught:
            catalog.load(str(folder), **{setting: value})
        assert caught.value.setting == setting


def test_dtype_follows_the_device(monkeypatch):
    assert device.pick_dtype("auto", "cpu", 10**10) == device.pick_dtype("auto", "mps", 10**10) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert device.pick_dtype("auto", "cuda", 10**9) == torch.bfloat16 and device.pick_dtype("auto", "cuda:1", 10**6) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert device.pick_dtype("auto", "cuda", 10**9) == torch.float16


def test_what_does_not_fit_one_device_is_spread(monkeypatch):
    monkeypatch.setattr(device, "free_memory", {"cuda": 100, "cuda:0": 100, "cpu": 300}.__getitem__)
    monkeypatch.setattr(device, "all_cuda_memory", lambda: 200)
    assert device.place(80, "cuda") == "cuda" and device.place(400, "cuda") == device.SPREAD and device.place(200, "cpu") == "cpu"
    for size, spot in ((500, "cuda"), (100, "cuda:0"), (300, "cpu")):
        with pytest.raises(errors.TooLarge):
            device.place(size, spot)


def test_a_container_limit_counts(tmp_path):
    assert device.container_memory(tmp_path) > 2**60
    for name, text in (("memory.max", "1000"), ("memory.current", "700"), ("memory.stat", "anon 1\ninactive_file 200")):
        (tmp_path / name).write_text(text + "\n")
    assert device.container_memory(tmp_path) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert device.container_memory(tmp_path) > 2**60


# ---- errors


def test_an_error_is_one_line_of_sentences():
    error = BadInput("a fault", "usually\n this", "Do that!", setting="k")
    assert str(error) == "a fault. Usually this. Do that!" and error.setting == "k"
    assert str(LabError("a fault")) == "a fault."
