"""Plain ``nn.Module`` networks: they import torch only and work without Lightning.

``unet.UNet`` segments; ``pix2pix.UNetGenerator`` translates and ``pix2pix.PatchDiscriminator`` judges. Import
them from their own files, so that asking for one does not load the others.
"""
