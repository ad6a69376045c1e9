"""Each figure that the project claims, as a command that prints it: `make bench`, or `python -m benchmarks NAME …`."""
