"""What kind of model a GGUF file is, in one line."""

from ck.frontend.gguf.metadata import Metadata

# Names of general.file_type, spelled as llama.cpp prints them. Source: llama.cpp, src/llama-model-loader.cpp.
FILE_TYPES = {
    0: "all F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K - Medium",
    11: "Q3_K - Small", 12: "Q3_K - Medium", 13: "Q3_K - Large", 14: "Q4_K - Small", 15: "Q4_K - Medium",
    16: "Q5_K - Small", 17: "Q5_K - Medium", 18: "Q6_K", 21: "Q2_K - Small", 25: "IQ4_NL - 4.5 bpw",
    30: "IQ4_XS - 4.25 bpw", 32: "BF16",
}  # fmt: skip


def model_label(metadata: Metadata) -> str:
    """Architecture, size and file type in one line, for tables."""
    size = metadata.text("general.size_label", "")
    kind = metadata.get("general.file_type")
    name = FILE_TYPES.get(kind, f"file type {kind}") if isinstance(kind, int) else ""
    return " ".join(filter(None, (metadata.text("general.architecture", "?"), size, name)))
