"""Labels and preference pairs by a judge: a model behind an OpenAI-compatible endpoint."""
