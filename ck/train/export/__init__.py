"""Models as files that other programs load.

Everything is written beside its place, synced and renamed: what is there is whole. Weights are taken one at a
time.
"""
