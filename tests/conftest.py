"""Settings of all tests."""

from hypothesis import settings

# A test must not fail because the machine was busy; slow code shows in --durations.
settings.register_profile("guard", deadline=None, max_examples=50)
settings.load_profile("guard")
