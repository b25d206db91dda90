"""LightningModules that train while they are audited.

``pix2pix.Pix2Pix`` translates images, ``unet_segmenter.UNetSegmenter`` labels pixels; both are public names
of ``mia_lightning`` and load on first use. ``losses`` holds what they minimise, as pure functions.
"""
