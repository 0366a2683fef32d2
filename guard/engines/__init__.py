"""Engines score windows of token ids; `guard.engines.registry.open_engine` opens the one of a bundle's kind."""
