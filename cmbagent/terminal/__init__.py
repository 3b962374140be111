"""A task on the terminal: `python -m cmbagent`, with the server's workflows and no server."""
