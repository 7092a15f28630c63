"""`ck parity`: PyTorch trains the same weights on the same batches beside ck, and the two are compared.

pytorch.py    PyTorch itself, and the arithmetic its model computes in
peer.py       transformers' model of a run's family, with PyTorch's autograd and optimizer
figures.py    distances, figures with limits, checks
checks.py     the comparison: loss curve, first gradients, parameters, states, single steps
steps.py      single steps from ck's own state
search.py     on failure: which op departs first, by the files modules, rules, kernels, stages and update
report.py     the whole of it and reports/parity.json
wish.py       what `ck train --parity` does
torch_run.py  the whole run in PyTorch
"""
