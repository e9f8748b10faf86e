"""What is promised: the public functions, each with signature, docstring and a few lines."""
