"""`ck regression training|inference`: each template against transformers and itself, one table a run.

models.py     what is compared: each template in two sizes, random weights, a vocabulary, transformers' model
rows.py       packed documents, and text to train on
gradients.py  every gradient tensor against PyTorch's, by every backend
training.py   the training checks, run by run
inference.py  the inference checks, on a model that went through a GGUF file
matrix.py     templates x checks, one after the other, with the memory that takes
report.py     the table, as JSON and as Markdown
"""
