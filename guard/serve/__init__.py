"""The gRPC moderation service and its client."""
