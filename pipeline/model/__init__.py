"""The network: a timm backbone, ASPP, the decoder, and checkpoints of all three."""
