"""The package's build hook: compiles libck_rt into ck/_lib for wheels and editable installs."""

import importlib.util
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def _load_build() -> ModuleType:
    """runtime_c/build.py, which lies beside this file and on no import path."""
    spec = importlib.util.spec_from_file_location("ck_runtime_build", Path(__file__).with_name("build.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class RuntimeBuildHook(BuildHookInterface):
    """Adds libck_rt.so and ck_rt.h to a wheel, and the platform to its tag; an sdist takes the sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        builder = _load_build()
        try:
            builder.build(Path(self.root) / "ck" / "_lib")
        except builder.BuildError as error:
            sys.exit(str(error))
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
