"""LightningModules that train while they are audited.

``pix2pix.Pix2Pix`` translates images, ``unet_segmenter.UNetSegmenter`` labels pixels; ``losses`` holds what they
minimise, as pure functions.
"""
