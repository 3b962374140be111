"""AI models: which one a role uses, how it is reached, what it costs, and the one that is no AI.

Nothing heavy is imported here: the web process chooses models too.
"""
