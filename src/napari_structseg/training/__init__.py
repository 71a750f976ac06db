"""Training: losses, data, the loop, checkpoints."""
