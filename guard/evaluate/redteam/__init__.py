"""Red-teaming: attacks on a guard, and how often they succeed."""
