"""The authors' TensorFlow checkpoints as checkpoints of ours."""
