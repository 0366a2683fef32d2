"""Sources: descriptions of public data sets and of users' files, and the formats that they come in."""
