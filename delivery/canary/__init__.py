"""Is the canary worse than the baseline? Samples in, verdicts out; no clock and no I/O."""
