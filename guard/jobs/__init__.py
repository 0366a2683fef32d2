"""Long jobs: atomic files, ledgers of finished parts, row files, caches."""
