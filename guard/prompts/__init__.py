"""Prompts: a conversation under a policy as token ids, for each kind of model."""
