"""The demo: a small repository with a believable history, a service, and a steady stream of real requests."""
