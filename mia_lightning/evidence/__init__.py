"""Evidence: was a model trained on these images? The test, its conclusion, and the text about it."""
