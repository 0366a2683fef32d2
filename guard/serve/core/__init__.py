"""The service in plain values, which every transport (gRPC, HTTP) translates to and from."""
