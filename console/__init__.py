"""How Pithead is put together: command line, Textual app, the runner's process, the demo."""
