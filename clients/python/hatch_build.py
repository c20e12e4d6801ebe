"""Makes the stubs from the protos, and takes the service config along, before anything is packed."""

import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Stubs(BuildHookInterface):
    """Writes `src/taxond/v1` from the repository's `proto`; in an unpacked sdist it is there already."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        package = root / "src" / "taxond"
        repository = root.parent.parent
        protos = repository / "proto"
        if not (protos / "taxond" / "v1").is_dir():
            if not (package / "v1" / "__init__.py").is_file():
                raise RuntimeError(f"no protos in {protos} and no stubs in {package / 'v1'}")
            return
        shutil.copyfile(repository / "deploy" / "grpc-service-config.json", package / "grpc-service-config.json")
        generate(protos, package.parent)


def generate(protos: Path, target: Path) -> None:
    """Writes the stubs and their types under `target/taxond/v1`."""
    from grpc_tools import protoc

    stubs = target / "taxond" / "v1"
    shutil.rmtree(stubs, ignore_errors=True)
    stubs.mkdir(parents=True)
    names = sorted(str(path.relative_to(protos)) for path in protos.glob("taxond/v1/*.proto"))
    with resources.as_file(resources.files("grpc_tools") / "_proto") as wellknown:
        arguments = [f"-I{protos}", f"-I{wellknown}", f"--python_out={target}", f"--pyi_out={target}"]
        if protoc.main(["protoc", *arguments, f"--grpc_python_out={target}", *names]):
            raise RuntimeError("protoc failed")
    (stubs / "__init__.py").write_text('"""The API as protoc writes it: messages and stubs of taxond.v1."""\n')


def get_build_hook() -> type[BuildHookInterface]:
    return Stubs


if __name__ == "__main__":
    generate(Path(sys.argv[1]), Path(sys.argv[2]))
