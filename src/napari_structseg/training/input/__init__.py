"""What a training step sees: patches, drawn, deformed, augmented or made from label maps."""
