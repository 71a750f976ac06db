"""Files that other programs wrote: nnU-Net's predictions, probability maps, label maps."""
