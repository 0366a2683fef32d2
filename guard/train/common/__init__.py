"""What all training recipes share."""
