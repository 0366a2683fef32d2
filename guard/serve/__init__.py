"""The moderation service and its clients."""

from __future__ import annotations

import logging
import os

# gRPC's own log lines repeat what peers sent: metadata such as a bearer token, paths, the text of a GOAWAY. Its C core
# reads the variable when it is imported, and every module here that imports it is imported after this line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


class _Redaction(logging.Filter):
    """Reduces a record of a transport's library to its level and the type of its error."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else "problem"
        library = record.name.partition(".")[0]
        record.msg = f"{kind} in {library}; its text is withheld, because it may contain data of a peer"
        record.args, record.exc_info, record.exc_text = (), None, None
        return True


for _name in ("grpc._cython.cygrpc", "grpc._common", "uvicorn.error", "uvicorn.asgi"):
    logging.getLogger(_name).addFilter(_Redaction())
