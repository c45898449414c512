"""From a split's rows to batches: decoding, augmentation, padding, normalisation."""
