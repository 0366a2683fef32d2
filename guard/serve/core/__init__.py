"""The service in plain values: what every way in (gRPC, HTTP) translates to and from."""
