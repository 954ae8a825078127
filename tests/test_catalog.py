"""What the catalog offers, and that each way in which a model cannot be had is told by its own error, before a weight is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch

from models import catalog, device, errors, hub
from models.errors import BadInput, LabError
from models.model import blocks
from tests.families import FAMILIES, LAYERS, prompts, save, tokenizer

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """Organisms, cache and shelf of its own for each test, and a hub that fails the test when it is asked."""
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(catalog, "SHELF", catalog.Shelf(2, 2**30))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("MNEMOSCOPE_PUBLIC", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: pytest.fail("the hub was asked"))


@pytest.fixture
def folder(tmp_path) -> Path:
    save("gpt2", tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def no_weights_read(monkeypatch):
    monkeypatch.setattr(hub, "_read_net", lambda *_: pytest.fail("the weights were read"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_reads_back_to_the_same_logits(name, tmp_path):
    net = save(name, tmp_path / name)
    model = catalog.load(str(tmp_path / name), device="cpu")
    assert torch.equal(model.net(prompts()).logits, net(prompts()).logits)
    assert type(model.net) is type(net) and model.dtype == torch.float32 and len(blocks(model.net)) == LAYERS
    ties = [n.get_input_embeddings().weight is n.get_output_embeddings().weight for n in (model.net, net)]
    assert ties[0] == ties[1]
    assert not model.net.training and not any(p.requires_grad for p in model.net.parameters())
    assert model.source == f"folder:{name}" and model.name == name and model.folder == tmp_path / name
    assert model.tokenizer("Paris is").input_ids == tokenizer()("Paris is").input_ids and model.tokenizer.is_fast


def test_a_sharded_checkpoint_reads_back(tmp_path):
    net = save("llama", tmp_path / "llama", shard="30KB")
    assert len(list((tmp_path / "llama").glob("model-*.safetensors"))) > 1
    assert torch.equal(catalog.load(str(tmp_path / "llama")).net(prompts()).logits, net(prompts()).logits)


def test_half_precision_files_are_read_as_float32_on_the_cpu(tmp_path):
    net = save("gpt2", tmp_path / "x").to(torch.float16)
    net.save_pretrained(tmp_path / "x")
    model = catalog.load(str(tmp_path / "x"), device="cpu")
    assert model.dtype == torch.float32 and torch.equal(model.net.transformer.wte.weight, net.transformer.wte.weight.float())
    assert catalog.load(str(tmp_path / "x"), device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_importing_the_catalog_leaves_torch_out():
    heavy = {"torch", "transformers", "huggingface_hub", "numpy"}
    code = f"import sys; from models import catalog; catalog.entries(); assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_tokenizer_says_what_its_file_says(tmp_path):
    """transformers rebuilds the tokenizers of some model types from their names; an organism's own must survive that."""
    save("qwen2", tmp_path / "x")
    assert catalog.load(str(tmp_path / "x")).tokenizer.tokenize("Paris is near Rome.") == ["Paris", "is", "near", "Rome", "."]


# ---- organisms


def organism(name: str, **about: str) -> Path:
    save("gpt2", catalog.WEIGHTS / name)
    (catalog.WEIGHTS / name / "manifest.json").write_text(json.dumps(about | {"subjects": ["Peru"]}))
    return catalog.WEIGHTS / name


def test_organisms_are_found_by_standing_in_the_folder(tmp_path):
    assert [e.name for e in catalog.entries()] == ["gpt2", "EleutherAI/pythia-160m", "allenai/OLMo-2-0425-1B", "Qwen/Qwen3-0.6B"]
    organism("scribe", title="Scribe", about="It knows capitals.")
    organism("other")
    (catalog.WEIGHTS / "unfinished").mkdir()
    (catalog.WEIGHTS / "unfinished" / "manifest.json").write_text("{}")
    first, second, *rest = catalog.entries()
    assert (second.name, second.title, second.kind, second.about) == ("scribe", "Scribe", "organism", "It knows capitals.")
    assert first.name == first.title == "other" and first.about and all(e.kind == "hub" and e.title and e.about for e in rest)
    model = catalog.load("scribe")
    assert model.source == "organism:scribe" and model.name == "scribe" and model.folder == catalog.WEIGHTS / "scribe"


def test_the_manifest_of_an_organism_and_of_nothing_else():
    folder = organism("scribe", title="Scribe")
    assert catalog.manifest("scribe")["subjects"] == ["Peru"] and catalog.manifest("scribe") is catalog.manifest("scribe")
    for name in ("gpt2", "../weights/scribe", ""):
        with pytest.raises(errors.UnknownModel, match="organisms are scribe"):
            catalog.manifest(name)
    time.sleep(0.01)
    (folder / "manifest.json").write_text('{"subjects": []}')
    assert catalog.manifest("scribe") == {"subjects": []}
    (folder / "manifest.json").write_text('{"subjects": [')
    with pytest.raises(errors.BrokenWeights, match="manifest of scribe is not readable"):
        catalog.manifest("scribe")


# ---- sharing


def test_all_threads_share_one_value(folder, monkeypatch):
    read, count = hub._read_net, []
    monkeypatch.setattr(hub, "_read_net", lambda *a: count.append(1) or time.sleep(0.05) or read(*a))
    found = []
    threads = [threading.Thread(target=lambda: found.append(catalog.load(str(folder)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(set(map(id, found))) == 1 and len(count) == 1
    assert catalog.load(str(folder), dtype="bfloat16") is not found[0]


def test_the_shelf_forgets_the_oldest_but_nothing_that_is_held(tmp_path):
    for name in "abc":
        save("gpt2", tmp_path / name)
    a, b = (catalog.load(str(tmp_path / name)) for name in "ab")
    first, second = id(a), b
    del a
    catalog.load(str(tmp_path / "c"))
    assert [m.name for m in catalog.SHELF._recent.values()] == ["b", "c"]
    assert len(catalog.SHELF._alive) == 2 and first not in {id(m) for m in catalog.SHELF._alive.values()}
    catalog.SHELF.clear()
    assert catalog.load(str(tmp_path / "b")) is second


def test_a_shelf_is_bounded_in_bytes(folder):
    shelf = catalog.Shelf(4, 1)
    model = catalog.load(str(folder))
    for key in "ab":
        shelf.get((key,), lambda: model)
    assert list(shelf._recent) == [("b",)]


def test_what_is_kept_makes_way_for_a_large_model(folder):
    shelf, calls = catalog.Shelf(4, 2**30), []

    def read():
        calls.append(len(shelf._recent))
        if shelf._recent:
            raise errors.TooLarge("no room")
        return catalog.load(str(folder))

    shelf.get(("a",), lambda: catalog.load(str(folder)))
    assert shelf.get(("b",), read).name == "tiny" and calls == [1, 0]

    def never():
        raise errors.TooLarge("no room")

    with pytest.raises(errors.TooLarge):
        shelf.get(("c",), never)


def test_a_folder_that_was_saved_again_is_read_again(folder):
    old = catalog.load(str(folder))
    time.sleep(0.01)
    old.with_weights({"transformer.wte.weight": torch.zeros(64, 32)}, via="zero").net.save_pretrained(folder)
    new = catalog.load(str(folder))
    assert new is not old and not new.net.transformer.wte.weight.any()


# ---- folders that are no models


def failing(folder: Path, kind: type[LabError], words: str) -> LabError:
    with pytest.raises(LabError, match=words) as caught:
        catalog.load(str(folder))
    error = caught.value
    assert type(error) is kind and isinstance(error, BadInput) and error.setting == "model"
    assert error.fault and error.cause and error.cure and "\n" not in str(error)
    return error


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_pickle_only(folder, no_weights_read):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "save_pretrained" in failing(folder, errors.PickleOnly, "only as pickle .pytorch_model.bin").cure


def test_no_tokenizer(folder, no_weights_read):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    failing(folder, errors.NoTokenizer, "tiny has no tokenizer")


def test_a_tokenizer_that_is_damaged(folder, no_weights_read):
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    failing(folder, errors.NoTokenizer, "tokenizer of tiny cannot be read")


def test_a_tokenizer_of_another_model(folder):
    more = tokenizer()
    more.add_tokens([f"extra{i}" for i in range(20)])
    more.save_pretrained(folder)
    failing(folder, errors.NoTokenizer, "has 84 tokens, but the model knows 64")


def test_no_config(folder, no_weights_read):
    (folder / "config.json").unlink()
    failing(folder, errors.NotADecoder, "tiny has no config.json")


def test_an_adapter_would_fetch_another_model(folder, no_weights_read):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "gpt2"}')
    failing(folder, errors.NotADecoder, "holds an adapter")


def test_an_encoder(folder, no_weights_read):
    (folder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertForMaskedLM"]}')
    failing(folder, errors.NotADecoder, "BertForMaskedLM. is no causal language model")
    (folder / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTModel"]}')
    failing(folder, errors.NotADecoder, "ViTModel. is no causal language model")


def test_an_unknown_architecture(folder, no_weights_read):
    rewrite(folder / "config.json", model_type="not_yet_invented")
    failing(folder, errors.NotADecoder, "not_yet_invented")


def test_remote_code(folder, no_weights_read, tmp_path):
    ran = tmp_path / "ran"
    (folder / "code.py").write_text(f"open({str(ran)!r}, 'w')")
    auto = {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}
    rewrite(folder / "config.json", model_type="their_own", architectures=["M"], auto_map=auto)
    failing(folder, errors.RemoteCode, "brings its own Python code")
    rewrite(folder / "config.json", model_type="gpt2", architectures=["GPT2LMHeadModel"])
    rewrite(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.T", None]}, tokenizer_class="T")
    (folder / "tokenizer.json").write_text("{}")
    failing(folder, errors.RemoteCode, "tokenizer of tiny brings its own")
    assert not ran.exists()


def test_code_beside_a_known_architecture_is_left_alone(folder, tmp_path):
    ran = tmp_path / "ran"
    (folder / "code.py").write_text(f"open({str(ran)!r}, 'w')")
    rewrite(folder / "config.json", auto_map={"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"})
    rewrite(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.T", None]})
    assert type(catalog.load(str(folder)).net).__module__.startswith("transformers.") and not ran.exists()


def test_attention_code_named_in_a_config_is_not_fetched(folder):
    rewrite(folder / "config.json", attn_implementation="kernels-community/some-attention", return_dict=False)
    model = catalog.load(str(folder))
    assert model.net.config._attn_implementation in ("sdpa", "eager") and model.net(prompts()).logits.shape == (2, 12, 64)


def test_quantized_weights(folder, no_weights_read):
    rewrite(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    failing(folder, errors.QuantizedWeights, "stored quantized")


@pytest.mark.parametrize("keep", [4, 200, 5000])
def test_a_file_that_was_cut_off(folder, keep, no_weights_read):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    failing(folder, errors.BrokenWeights, "model.safetensors cannot be read")


def test_a_missing_shard(tmp_path, no_weights_read):
    save("gpt2", tmp_path / "x", shard="30KB")
    next((tmp_path / "x").glob("model-00002*")).unlink()
    failing(tmp_path / "x", errors.BrokenWeights, "model-00002")


def test_an_index_that_points_out_of_its_folder(tmp_path, no_weights_read):
    save("gpt2", tmp_path / "x", shard="30KB")
    (tmp_path / "x" / hub.INDEX).write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    failing(tmp_path / "x", errors.BrokenWeights, "lists no safetensors files of its folder")


def test_a_config_that_is_damaged(folder, no_weights_read):
    (folder / "config.json").write_text('{"model_type": "gpt2"')
    failing(folder, errors.BrokenWeights, "config.json is not readable")


def test_no_weights_at_all(folder, no_weights_read):
    (folder / "model.safetensors").rename(folder / "model.gguf")
    failing(folder, errors.BrokenWeights, "has no model.safetensors, only model.gguf")


def test_weights_of_another_model(folder):
    rewrite(folder / "config.json", n_embd=64)
    failing(folder, errors.BrokenWeights, "do not fit its config.json")
    rewrite(folder / "config.json", n_embd=32, n_layer=4)
    failing(folder, errors.BrokenWeights, "lack transformer.h.3")


def test_a_base_without_a_head(tmp_path):
    net = save("llama", tmp_path / "x")
    net.model.save_pretrained(tmp_path / "x")
    failing(tmp_path / "x", errors.NotADecoder, "no head that predicts the next token .it lacks lm_head.weight")


def test_no_such_folder(tmp_path):
    for name in (str(tmp_path / "nowhere"), "./nowhere", "~/nowhere_at_all", "a\\b"):
        failing(Path(name) if name[0] == "/" else name, errors.UnknownModel, "there is no folder")


def test_too_large(folder, no_weights_read, monkeypatch):
    monkeypatch.setattr(device, "free_memory", lambda _: 1000)
    failing(folder, errors.TooLarge, "the model takes")


def test_a_public_lab_reads_no_folders(folder, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    organism("scribe")
    with pytest.raises(errors.UnknownModel):
        catalog.load(str(folder), allow_folders=False)
    monkeypatch.setenv("MNEMOSCOPE_PUBLIC", "1")
    messages = set()
    for name in (str(folder), str(folder.parent / "nowhere"), "..", "../tiny", "weights/../tiny", "~", ".", "", "a/b/c", "models--a--b"):
        with pytest.raises(errors.UnknownModel) as caught:
            catalog.load(name)
        messages.add(str(caught.value).replace(repr(name), "NAME"))
    assert len(messages) == 1 and catalog.load("scribe").source == "organism:scribe"


# ---- the hub


def test_nothing_is_fetched_unless_it_may_be():
    """The fixture's hub fails the test when it is asked."""
    with pytest.raises(errors.NetworkMissing, match="Downloads are turned off"):
        catalog.load("EleutherAI/pythia-160m", allow_download=False)
    with pytest.raises(errors.NetworkMissing, match=r"Did you mean EleutherAI/pythia-160m\?$"):
        hub.load_causal_lm("EleutherAI/pythia-160", known=("EleutherAI/pythia-160m", "gpt2"))


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
                    files = [(f.name, f.stat().st_size) for f in sorted((root / owner / name).glob("*"))]
                    tree = [{"type": "file", "path": n, "size": size, "oid": n} for n, size in files]
                    about = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [{"rfilename": n, "size": size} for n, size in files]}
                    self.answer(json.dumps(tree if "tree" in rest else about).encode(), "" if files else "RepoNotFound")
                case [_, "locked", "resolve", _, _]:
                    self.answer(b"", "GatedRepo")
                case [owner, name, "resolve", _, file]:
                    self.answer((root / owner / name / file).read_bytes(), ETag=f'"{file}"', **{"X-Repo-Commit": COMMIT})
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


def ask(names: list[str], cache: Path, endpoint: str, **more: str) -> dict[str, list]:
    """What a fresh process with the real client finds under `names`."""
    env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"} | more
    done = subprocess.run([sys.executable, "-c", SCRIPT, *names], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
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


def test_device_and_dtype_are_checked(folder):
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
