"""The gRPC side of the service: translation, statuses, server."""
