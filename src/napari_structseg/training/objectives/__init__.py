"""What a training step minimises: losses of every kind of model, and their weights."""
