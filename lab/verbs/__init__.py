"""One module per verb of `mpq`: `configure(parser)` and `run(options) -> exit code`."""
