"""The wire formats, a module each: requests to those of the core, their answers to a response, errors to a body."""
