"""The storage table agrees with the GGUF package's own constants."""

import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from ck import dtypes


@pytest.mark.parametrize("row", dtypes.BY_NAME.values(), ids=lambda row: row.name)
def test_blocks_equal_the_gguf_packages(row: dtypes.StorageType) -> None:
    kind = GGMLQuantizationType(row.ggml_id)
    assert kind.name.lower() == row.name
    assert GGML_QUANT_SIZES[kind] == (row.block, row.file_bytes)
