"""The data card: one HTML page that says what a data set holds and where it is from."""
