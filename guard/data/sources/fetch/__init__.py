"""Raw files from their public repositories, each checked against its description."""
