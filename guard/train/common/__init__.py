"""The parts that all training recipes share."""
