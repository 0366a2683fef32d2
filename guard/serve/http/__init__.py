"""The HTTP side of the service: wire formats of many clients, as translations of one core."""
