"""Durable questions to a person. The room stands; its furniture comes with approvals."""
