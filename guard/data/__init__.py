"""Labelled data: from described sources and users' files to a data set on disk."""
