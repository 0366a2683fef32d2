"""Views: what a disguised text may say."""
