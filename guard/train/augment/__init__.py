"""Augmentation: what training changes in an example, so that its label stays."""
