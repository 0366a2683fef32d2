"""Stubs of `proto/guard/v1`, generated: see CONTRIBUTING. Do not edit."""
