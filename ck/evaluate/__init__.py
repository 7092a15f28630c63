"""What a model is worth in figures that people know: llama-perplexity's, and those of published tasks.

windows.py      a text as windows of tokens, and a model's logits of the half of each that is scored
log_probs.py    log probabilities: of tokens, and rounded to 16 bits as llama-perplexity keeps them
estimate.py     a mean with its uncertainty
base_file.py    a model's log probabilities on disk, in llama-perplexity's format
divergence.py   how far one model is from another, with llama-perplexity's names
measure.py      perplexity and divergence, window by window
likelihood.py   what tasks ask of a model: how likely continuations and texts are, and replies
harness.py      the model as lm-evaluation-harness takes one
"""
