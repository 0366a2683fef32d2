"""Long jobs: files that appear whole, ledgers of finished parts, row files."""
