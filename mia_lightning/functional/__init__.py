"""Pure functions on tensors and arrays: the science, one concept a file, nothing of the framework above it."""
