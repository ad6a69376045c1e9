"""How the outside world is reached: one module per system, each behind a protocol of `pithead.delivery.ports`."""
