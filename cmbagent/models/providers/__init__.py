"""One module for each provider's library; cmbagent.models.registry loads the one that is needed.

Each has `build(spec, settings)`, which gives a model that nobody has used yet. Key and address are
always handed over, never left to a library to find.
"""
