"""What the catalog offers, and that each way in which a model cannot be had is told by its own error, before a weight is read."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
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


def test_an_organism_that_is_not_listed_is_loaded_by_its_name():
    folder = organism("scribe")
    (folder / "manifest.json").write_text('{"listed": false}')
    assert all(e.kind == "hub" for e in catalog.entries())
    assert catalog.load("scribe").source == "organism:scribe" and catalog.manifest("scribe") == {"listed": False}


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
