"""The build: which rows are kept, in which split and with which weight, and how they are written."""
