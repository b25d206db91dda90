"""Plain ``nn.Module`` networks: they import torch only and work without Lightning; import each from its own file."""
