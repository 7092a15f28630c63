"""Training: data, run directories, the trainer and its gates."""
