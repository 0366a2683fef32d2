"""The moderation service, and clients of it."""

from __future__ import annotations

import os

# gRPC's own log lines repeat what peers sent: metadata, the text of a GOAWAY. It reads the variable when it is
# imported, and every module here that imports it is imported after this line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
