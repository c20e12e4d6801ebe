"""Versions as files: opened with safetensors as any program would, taken back in by RPC and by command."""

import json

import pytest
from client import job, refused, registry
from conftest import LARGE, SMALL
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

TEXTS = ["我想取三万元现金", "please block my lost card", "what is my balance"]
CHUNK = 256 * 1024


def export(client, name):
    request = registry.ExportVersionRequest(name=name)
    return b"".join(message.data for message in client.registry.ExportVersion(request))


def send(client, model, file):
    def messages():
        yield registry.ImportVersionRequest(model=model)
        for at in range(0, len(file), CHUNK):
            yield registry.ImportVersionRequest(data=file[at : at + CHUNK])

    return client.registry.ImportVersion(messages()).version


def test_a_version_is_a_safetensors_file(client, trained, tmp_path):
    client.merge(trained, [SMALL, LARGE], "取款", learn=job.LEARN_NONE)
    path = tmp_path / "bank.safetensors"
    path.write_bytes(export(client, trained))
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F32"}
        bias = file.get_tensor("head.bias")
    vocabulary, leaves = json.loads(metadata["taxond.vocabulary"]), json.loads(metadata["taxond.leaves"])
    assert shapes["embedding.weight"] == [len(vocabulary), 128]
    assert shapes["head.weight"][0] == len(bias) == len(leaves)
    assert (metadata["taxond.format"], metadata["taxond.version"]) == ("1", f"{trained}/versions/2")
    classes = {c["name"]: c["leaves"] for c in json.loads(metadata["taxond.classes"])}
    assert len(classes["取款"]) == 2
    assert sorted(leaf for owned in classes.values() for leaf in owned) == sorted(leaves)
    told = client.registry.GetVersion(registry.GetVersionRequest(name=trained)).version
    assert told.size_bytes == sum(4 * tensor.size for tensor in load_file(path).values())


def test_what_another_program_wrote_answers_the_same(client, trained, fresh_id, tmp_path):
    path = tmp_path / "copy.safetensors"
    path.write_bytes(export(client, trained))
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    save_file(tensors, path, metadata)
    copy = client.create(fresh_id("copy"))
    version = send(client, copy, path.read_bytes())
    assert (version.number, version.origin) == (1, registry.VERSION_ORIGIN_IMPORT)
    client.registry.SetAlias(registry.SetAliasRequest(model=copy, version=1))
    assert client.probabilities(copy, TEXTS) == client.probabilities(trained, TEXTS)

    tensors["head.bias"] = tensors["head.bias"] + 1
    save_file(tensors, path, metadata)
    with refused() as refusal:
        send(client, copy, path.read_bytes())
    assert "checksum" in refusal[0].violations["data"], refusal


def test_the_commands_export_import_and_delete(client, taxond, trained, fresh_id, tmp_path):
    bank, path = trained.removeprefix("models/"), tmp_path / "bank.safetensors"
    [told] = taxond("export", bank, "--out", str(path))
    assert told == {"version": f"{trained}/versions/1", "file": str(path), "bytes": path.stat().st_size}
    assert path.read_bytes() == export(client, trained)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    copy = fresh_id("copy")
    taxond("create", copy)
    [version] = taxond("import", copy, str(path))
    assert (version["origin"], version["number"]) == ("import", 1)
    taxond("promote", copy, "1")
    assert client.probabilities(f"models/{copy}", TEXTS) == client.probabilities(trained, TEXTS)

    [failure] = taxond("delete", copy, "--version", "1", "--yes", status=4)
    assert "serving" in failure["error"]["message"]
    taxond("import", copy, str(path))
    assert taxond("delete", copy, "--version", "2", "--yes") == [{"deleted": f"models/{copy}/versions/2"}]
    assert [v["number"] for v in taxond("versions", copy)] == [1]
    path.write_bytes(path.read_bytes()[:-1])
    [failure] = taxond("import", copy, str(path), status=4)
    assert "safetensors" in failure["error"]["message"]
    taxond("import", copy, str(tmp_path / "none"), status=3)


@pytest.mark.parametrize("call", ["ExportVersion", "DeleteVersion"])
def test_a_version_that_never_was_is_not_found(client, trained, call):
    name = f"{trained}/versions/99"
    with refused() as refusal:
        if call == "ExportVersion":
            export(client, name)
        else:
            client.registry.DeleteVersion(registry.DeleteVersionRequest(name=name))
    assert refusal[0].resource.resource_name == name
