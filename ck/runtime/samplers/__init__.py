"""The samplers of llama.cpp, one file each, and the chain that they make."""
